//! What the handler of a thread's faults receives (seL4 manual, section 6.2).

use crate::{MessageInfo, Word, ipc_buffer, sys};

/// A fault, from the tag and the words of its message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Memory that is not mapped, or not for this kind of access.
    Vm {
        /// The instruction.
        ip: Word,
        /// What it touched.
        address: Word,
        /// Whether it was the instruction itself that could not be fetched.
        instruction: bool,
        /// The page-fault error code (Intel SDM volume 3, section 4.7).
        error_code: Word,
    },
    /// A capability that is not there.
    Cap {
        /// The instruction.
        ip: Word,
        /// The address of the capability.
        cptr: Word,
        /// Whether it was to be received from.
        receiving: bool,
    },
    /// A system call number that the kernel does not know.
    UnknownSyscall {
        /// The instruction.
        ip: Word,
        /// The number.
        number: Word,
    },
    /// Any other processor exception.
    User {
        /// The instruction.
        ip: Word,
        /// The stack pointer.
        sp: Word,
        /// The vector of the exception.
        number: Word,
        /// Its error code.
        code: Word,
    },
    /// A fault that this interface has no name for.
    Other {
        /// The label of its message.
        label: Word,
    },
}

impl Fault {
    /// The fault in the IPC buffer: right after the message has been received, and before anything else is.
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
