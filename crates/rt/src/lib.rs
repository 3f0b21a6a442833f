//! The run-time of the processes that root-task starts. [`main!`] declares the process's main function, which gets the
//! configuration that capdl-spec wrote for it and never returns (at its end it calls [`finish`]). The IPC buffer and
//! the log are set up before. The other modules turn the slots and addresses of `layout` into endpoints, windows,
//! ports, interrupts and a server loop. Nothing allocates, and a process has one thread.
#![no_std]

pub mod logger;

mod config;
mod endpoint;
mod hardware;
#[cfg(feature = "image")]
mod no_heap;
#[cfg(feature = "image")]
mod panic;
mod serve;
#[cfg(feature = "image")]
mod start;

pub use config::{bytes, config, records, shared};
pub use endpoint::{Endpoint, scratch};
pub use hardware::{Interrupt, IoPorts, local_apic, random, signal, tsc, wait};
pub use sel4::debug_dump_scheduler as dump_scheduler;
pub use serve::{Event, finish, serve};

/// Declares the main function: `fn(C) -> !`, where `C` is the process's configuration: a server's is in its protocol, the
/// others' in `layout::config`. With `log: own` the process reads its own log, see [`logger::own`].
///
/// The file that uses it cannot forbid unsafe code, only deny it: the exported symbol counts as unsafe.
#[macro_export]
macro_rules! main {
    ($main:path) => {
        $crate::main!($main, $crate::logger::start_shared);
    };
    ($main:path, log: own) => {
        $crate::main!($main, $crate::logger::start_own);
    };
    ($main:path, $log:path) => {
        #[allow(unsafe_code, reason = "the one symbol of this name")]
        #[unsafe(no_mangle)]
        fn __rt_main() -> ! {
            $log();
            $main($crate::config())
        }
    };
}
