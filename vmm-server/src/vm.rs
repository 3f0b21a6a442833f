//! The state that the vCPUs of a VM share: memory and board. The process owns the back ends, and lends this to the vCPU
//! that has exited.

use layout::limits::MAX_VCPUS;

use crate::{board::Board, hypercalls::Unknown, ram::Ram};

/// vCPUs that this VMM runs. Slots and windows are laid out for more.
pub const VCPUS: usize = 1;
const _: () = assert!(VCPUS <= MAX_VCPUS, "each vCPU has a slot");

/// A VM without its vCPUs.
pub struct Vm {
    /// Its memory.
    pub ram: Ram,
    /// The devices of its board.
    pub board: Board,
    /// Unknown hypercalls that it has made.
    pub unknown_hypercalls: Unknown,
}

impl Vm {
    /// A VM of this memory and board.
    pub fn new(ram: Ram, board: Board) -> Self {
        Self { ram, board, unknown_hypercalls: Unknown::default() }
    }
}
