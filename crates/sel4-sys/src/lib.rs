//! Raw bindings of the installed seL4, under the C names of its manual and headers.
//!
//! [`syscall`] is the system call instruction and the IPC buffer, written by hand for the x86_64 calling
//! convention; everything else is generated at build time (see `sel4-sys-gen`). The functions neither take nor
//! return pointers. Use the crate `sel4`; this one is for functions that `sel4` does not have.

#![no_std]

mod bindings;
pub mod syscall;

pub use bindings::*;
pub use syscall::{
    get_cap, get_mr, ipc_buffer, read_message, set_cap, set_ipc_buffer, set_mr, set_receive_path, write_message,
};

/// A machine word.
#[allow(non_camel_case_types, reason = "the name in the C headers")]
pub type seL4_Word = u64;
/// The address of a capability in the caller's CSpace.
#[allow(non_camel_case_types, reason = "the name in the C headers")]
pub type seL4_CPtr = seL4_Word;
