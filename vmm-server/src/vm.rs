//! The state that the vCPUs of a VM share: memory and board. The process owns the back ends, and lends this to the vCPU
//! that has exited.

use crate::{board::Board, ram::Ram};

/// Most vCPUs of a VM.
pub const MAX_VCPUS: usize = 1;

/// A VM without its vCPUs.
pub struct Vm {
    /// Its memory.
    pub ram: Ram,
    /// The devices of its board.
    pub board: Board,
}
