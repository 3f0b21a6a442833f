//! Events that the VMM makes happen in the guest: the VM-entry interruption-information field (SDM volume 3, "VM-Entry
//! Controls for Event Injection"). Left out: NMIs, which no device of the board raises.
//!
//! seL4 takes that field with VMEnter, but lets nobody write the error code nor the instruction length that belong to
//! it: both stay zero. So error codes are zero here, which suits every exception that a VMM raises of its own accord,
//! #PF cannot be raised (it wants CR2 as well), and INT n cannot be injected, nor need it be.

use crate::vmcs::Interruptibility;

const VALID: u32 = 1 << 31;
const DELIVER_ERROR_CODE: u32 = 1 << 11;
const TYPE_SHIFT: u32 = 8;
const RFLAGS_IF: u64 = 1 << 9;

/// Kinds of event, bits 8 to 10.
mod kind {
    pub const EXTERNAL_INTERRUPT: u32 = 0;
    pub const HARDWARE_EXCEPTION: u32 = 3;
    pub const PRIVILEGED_SOFTWARE_EXCEPTION: u32 = 5;
}

/// An exception that the VMM can raise, with its vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exception {
    /// #DB
    Debug = 1,
    /// #UD
    InvalidOpcode = 6,
    /// #DF
    DoubleFault = 8,
    /// #NP
    SegmentNotPresent = 11,
    /// #SS
    StackFault = 12,
    /// #GP
    GeneralProtection = 13,
    /// #MF
    FloatingPoint = 16,
}

impl Exception {
    /// Whether it pushes an error code; here always zero.
    pub const fn has_error_code(self) -> bool {
        match self {
            Exception::Debug | Exception::InvalidOpcode | Exception::FloatingPoint => false,
            Exception::DoubleFault
            | Exception::SegmentNotPresent
            | Exception::StackFault
            | Exception::GeneralProtection => true,
        }
    }
}

/// Something to happen to the guest before its next instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// An interrupt with this vector. The entry fails unless [`takes_interrupt`] holds.
    Interrupt(u8),
    /// An exception, at the guest's RIP.
    Exception(Exception),
}

impl Event {
    /// The value for VMEnter.
    pub const fn info(self) -> u32 {
        match self {
            Event::Interrupt(vector) => VALID | kind::EXTERNAL_INTERRUPT << TYPE_SHIFT | vector as u32,
            Event::Exception(exception) => {
                let code = if exception.has_error_code() { DELIVER_ERROR_CODE } else { 0 };
                VALID | code | kind::HARDWARE_EXCEPTION << TYPE_SHIFT | exception as u32
            }
        }
    }
}

/// Why a #DB exited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DebugCause {
    /// A step or a breakpoint; the exit qualification has the bits for DR6. RIP is where the handler returns to.
    Trap,
    /// INT1, which sets no bit of DR6. RIP is still at it.
    Int1,
}

/// Which #DB the interruption information of an exit tells of; `None` if it is another exception, or an NMI.
pub const fn debug_exception(exit_interruption_info: u32) -> Option<DebugCause> {
    const DB: u32 = Exception::Debug as u32;
    if exit_interruption_info & VALID == 0 || exit_interruption_info & 0xff != DB {
        return None;
    }
    match exit_interruption_info >> TYPE_SHIFT & 7 {
        kind::HARDWARE_EXCEPTION => Some(DebugCause::Trap),
        kind::PRIVILEGED_SOFTWARE_EXCEPTION => Some(DebugCause::Int1),
        _ => None,
    }
}

/// Whether an interrupt can be injected now: RFLAGS.IF, and not in the shadow of STI, MOV SS or POP SS. A VMM that steps
/// past an instruction ends the shadow with it.
pub const fn takes_interrupt(rflags: u64, interruptibility: u32) -> bool {
    let shadow = Interruptibility::STI.bits() | Interruptibility::MOV_SS.bits();
    rflags & RFLAGS_IF != 0 && interruptibility & shadow == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_event_has_its_encoding() {
        assert_eq!(Event::Interrupt(0x30).info(), 0x8000_0030);
        assert_eq!(Event::Exception(Exception::InvalidOpcode).info(), 0x8000_0306);
        assert_eq!(Event::Exception(Exception::GeneralProtection).info(), 0x8000_0b0d);
        assert_eq!(Event::Exception(Exception::DoubleFault).info(), 0x8000_0b08);
    }

    #[test]
    fn interrupts_wait_for_if_and_for_the_end_of_a_shadow() {
        assert!(takes_interrupt(0x202, 0));
        assert!(!takes_interrupt(0x002, 0));
        assert!(!takes_interrupt(0x202, 1));
        assert!(!takes_interrupt(0x202, 2));
        assert!(takes_interrupt(0x202, 8), "a blocked NMI blocks no interrupt");
    }

    #[test]
    fn a_step_and_int1_are_told_apart_from_other_exceptions() {
        assert_eq!(debug_exception(0x8000_0301), Some(DebugCause::Trap));
        assert_eq!(debug_exception(0x8000_0501), Some(DebugCause::Int1));
        for info in [0x301, 0x8000_030e, 0x8000_0202, 0x8000_0603] {
            assert_eq!(debug_exception(info), None, "{info:#x}");
        }
    }
}
