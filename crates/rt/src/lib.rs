//! The run-time of the processes that root-task starts. [`main!`] names the process's main function, which gets the
//! configuration that capdl-spec wrote for it and never returns (one that is done calls [`finish`]); by then the IPC
//! buffer and the log are there. The rest turns what `layout` agreed on into things to use: endpoints to call, windows,
//! ports, interrupts, a loop that serves. Nothing allocates, and a process has one thread.
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

pub use config::{config, shared};
pub use endpoint::{Endpoint, scratch};
pub use hardware::{Interrupt, IoPorts, signal, tsc, wait};
pub use serve::{Event, finish, serve};

/// Names the main function: `fn(C) -> !`, where `C` is the process's configuration: a server's is in its protocol, the others' in `layout::config`. With `log: own` the log
/// goes to the process itself, see [`logger::own`].
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
