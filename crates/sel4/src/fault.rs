//! Fault messages (seL4 manual, section 6.2).

use crate::{MessageInfo, Word, ipc_buffer, sys};

/// A fault, from the tag and the words of its message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A page fault.
    Vm {
        /// The instruction pointer.
        ip: Word,
        /// The faulting address.
        address: Word,
        /// Whether the fault is of an instruction fetch.
        instruction: bool,
        /// The page-fault error code (Intel SDM volume 3, section 4.7).
        error_code: Word,
    },
    /// A failed look-up of a capability.
    Cap {
        /// The instruction pointer.
        ip: Word,
        /// The CPtr.
        cptr: Word,
        /// Whether the look-up was in the receive phase.
        receiving: bool,
    },
    /// An unknown system call number.
    UnknownSyscall {
        /// The instruction pointer.
        ip: Word,
        /// The number.
        number: Word,
    },
    /// Any other processor exception.
    User {
        /// The instruction pointer.
        ip: Word,
        /// The stack pointer.
        sp: Word,
        /// The vector of the exception.
        number: Word,
        /// Its error code.
        code: Word,
    },
    /// A fault of another type.
    Other {
        /// The label of its message.
        label: Word,
    },
}

impl Fault {
    /// The fault in the IPC buffer. Call it right after receiving the message: any other message overwrites the buffer.
    pub fn from_ipc_buffer(info: MessageInfo) -> Self {
        let word = |index: Word| ipc_buffer().word(index as usize);
        match info.label() {
            sys::seL4_Fault_VMFault => Self::Vm {
                ip: word(sys::seL4_VMFault_IP),
                address: word(sys::seL4_VMFault_Addr),
                instruction: word(sys::seL4_VMFault_PrefetchFault) != 0,
                error_code: word(sys::seL4_VMFault_FSR),
            },
            sys::seL4_Fault_CapFault => Self::Cap {
                ip: word(sys::seL4_CapFault_IP),
                cptr: word(sys::seL4_CapFault_Addr),
                receiving: word(sys::seL4_CapFault_InRecvPhase) != 0,
            },
            sys::seL4_Fault_UnknownSyscall => Self::UnknownSyscall {
                ip: word(sys::seL4_UnknownSyscall_FaultIP),
                number: word(sys::seL4_UnknownSyscall_Syscall),
            },
            sys::seL4_Fault_UserException => Self::User {
                ip: word(sys::seL4_UserException_FaultIP),
                sp: word(sys::seL4_UserException_SP),
                number: word(sys::seL4_UserException_Number),
                code: word(sys::seL4_UserException_Code),
            },
            label => Self::Other { label },
        }
    }
}
