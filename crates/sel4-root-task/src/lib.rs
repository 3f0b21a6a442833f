//! The run-time of the root task.
//!
//! [`root_task!`] names its main function, which gets the boot information and never returns. Before that the
//! stack, the IPC buffer and the log are there, and with `alloc` a heap of fixed size. Everything is static: the
//! root task has no capability to memory when it starts.

#![no_std]

pub mod bundle;
pub mod console;
pub mod power;
pub mod scratch;
pub mod serial;

#[cfg(feature = "image")]
mod heap;
#[cfg(feature = "image")]
mod panic;
#[cfg(feature = "image")]
mod start;

pub use console::set_sink;
pub use scratch::Scratch;

/// Names the main function: `fn(sel4::BootInfoPtr) -> !`.
///
/// The file that uses it cannot forbid unsafe code, only deny it: the exported symbol counts as unsafe.
#[macro_export]
macro_rules! root_task {
    ($main:path) => {
        #[allow(unsafe_code, reason = "the one symbol of this name")]
        #[unsafe(no_mangle)]
        fn __root_task_main(bootinfo: ::sel4::BootInfoPtr) -> ! {
            $main(bootinfo)
        }
    };
}
