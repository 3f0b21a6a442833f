//! The run-time of the root task.
//!
//! [`root_task!`] declares its main function, which gets the boot information and never returns. The run-time sets up
//! the stack, the IPC buffer and the log before, and a heap of fixed size. Everything is static, since the root task
//! would first have to retype and map memory.

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

/// Declares the main function: `fn(sel4::BootInfoPtr) -> !`.
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
