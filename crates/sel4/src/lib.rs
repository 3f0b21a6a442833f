//! Capabilities and system calls of seL4, with the names of the seL4 Foundation's `rust-sel4` where it has them.
//!
//! | module | what |
//! |---|---|
//! | [`cap`], [`cptr`] | typed capabilities, paths to slots, operations on CNodes |
//! | [`ipc`], [`message`] | endpoints, notifications, message tags, the IPC buffer |
//! | [`object`] | retyping of untyped memory |
//! | [`tcb`], [`fault`] | threads, their registers, their faults |
//! | [`vspace`] | frames, page tables, extended page tables, ASIDs |
//! | [`vcpu`] | VMEnter and the VMCS |
//! | [`irq`], [`ioport`] | interrupts and I/O ports |
//! | [`bootinfo`], [`init_thread`] | the root task's boot information and initial capabilities |
//! | [`debug`] | the debug kernel's console and inspection |
//!
//! Kernels differ (see `build.rs`); this interface does not. An invocation of an empty slot, or of a capability of
//! another type than its Rust type, returns an [`Error`] and has no other effect.
//!
//! # Safety
//! No function takes a pointer. One kind of invocation could still violate Rust's memory model: mapping a frame
//! into the caller's own address space, over memory in use or a second time. So [`vspace`] has a safe function for
//! other address spaces and an unsafe one for the caller's.

#![no_std]

pub mod bootinfo;
pub mod cap;
pub mod cptr;
pub mod debug;
pub mod fault;
pub mod init_thread;
pub mod ioport;
pub mod ipc;
pub mod irq;
pub mod message;
pub mod object;
pub mod tcb;
pub mod vcpu;
pub mod vspace;

pub use sel4_sys as sys;

pub use bootinfo::{BootInfoPtr, UntypedDesc};
pub use cap::Cap;
pub use cptr::{AbsoluteCPtr, CNodeCapData, CPtr, CPtrWithDepth};
pub use debug::{debug_cap_identify, debug_dump_scheduler, debug_name_thread, debug_put_char};
pub use fault::Fault;
pub use ipc::{reply, yield_now};
pub use message::{Badge, IpcBuffer, MessageInfo, ipc_buffer};
pub use object::ObjectBlueprint;
pub use sys::{Error, set_ipc_buffer};
pub use tcb::UserContext;
pub use vcpu::{VmEnter, VmEnterResult, VmFault};
pub use vspace::{CapRights, EptAttributes, VmAttributes};

/// A machine word.
pub type Word = u64;

/// The result of an invocation.
pub type Result<T> = core::result::Result<T, Error>;

/// log2 of the size of a 4 KiB frame.
pub const GRANULE_BITS: usize = sys::seL4_PageBits as usize;
/// The size of a 4 KiB frame.
pub const GRANULE_SIZE: usize = 1 << GRANULE_BITS;
/// log2 of the size of a 2 MiB frame.
pub const LARGE_PAGE_BITS: usize = sys::seL4_LargePageBits as usize;
/// Bits in a CPtr.
pub const WORD_BITS: usize = sys::seL4_WordBits as usize;
