//! The state that the vCPUs of a VM share: memory and board. The process owns the back ends, and lends this to the vCPU
//! that has exited.

use heapless::Vec;
use layout::limits::MAX_VCPUS;

use crate::{board::Board, ram::Ram};

/// vCPUs that this VMM runs. Slots and windows are laid out for more.
pub const VCPUS: usize = 1;
const _: () = assert!(VCPUS <= MAX_VCPUS, "each vCPU has a slot");

/// Unknown hypercalls that are logged, each once.
const NOTED: usize = 8;

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

/// Numbers of hypercalls that there are not.
#[derive(Clone, Debug, Default)]
pub struct Unknown(Vec<u32, NOTED>);

impl Unknown {
    /// Whether a number is to be logged: it was not before. Notes it.
    pub fn is_new(&mut self, number: u32) -> bool {
        !self.0.contains(&number) && self.0.push(number).is_ok()
    }
}
