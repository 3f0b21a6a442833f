//! Events that the VMM makes happen in the guest: the VM-entry interruption-information field (SDM volume 3, "VM-Entry
//! Controls for Event Injection"). Left out: NMIs, which no device of the board raises.
//!
//! seL4 takes that field with VMEnter. The error code and the instruction length that belong to it are fields of their
//! own, which not every seL4 lets a VMM write, so both stay zero (decision 0007). Error code zero is right for every
//! exception that a VMM raises by itself; #PF cannot be raised (it needs CR2 as well); and INT n cannot be injected,
//! but need not be.

use crate::vmcs::Interruptibility;

const VALID: u32 = 1 << 31;
const DELIVER_ERROR_CODE: u32 = 1 << 11;
const TYPE_SHIFT: u32 = 8;
const RFLAGS_IF: u64 = 1 << 9;

/// Kinds of event, bits 8 to 10.
mod kind {
    pub const EXTERNAL_INTERRUPT: u32 = 0;
    pub const NMI: u32 = 2;
    pub const HARDWARE_EXCEPTION: u32 = 3;
    pub const PRIVILEGED_SOFTWARE_EXCEPTION: u32 = 5;
}

/// An exception that the VMM can raise, with its vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exception {
    /// #DE
    DivideError = 0,
    /// #DB
    Debug = 1,
    /// #BR
    BoundRange = 5,
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
    /// #AC
    AlignmentCheck = 17,
    /// #XM
    SimdFloatingPoint = 19,
}

impl Exception {
    /// Every one.
    const EACH: [Self; 11] = [
        Self::DivideError,
        Self::Debug,
        Self::BoundRange,
        Self::InvalidOpcode,
        Self::DoubleFault,
        Self::SegmentNotPresent,
        Self::StackFault,
        Self::GeneralProtection,
        Self::FloatingPoint,
        Self::AlignmentCheck,
        Self::SimdFloatingPoint,
    ];

    /// The one with this vector.
    pub fn of(vector: u8) -> Option<Self> {
        Self::EACH.into_iter().find(|&exception| exception as u8 == vector)
    }

    /// Whether it pushes an error code; here always zero.
    pub const fn has_error_code(self) -> bool {
        match self {
            Exception::DivideError
            | Exception::Debug
            | Exception::BoundRange
            | Exception::InvalidOpcode
            | Exception::FloatingPoint
            | Exception::SimdFloatingPoint => false,
            Exception::DoubleFault
            | Exception::SegmentNotPresent
            | Exception::StackFault
            | Exception::GeneralProtection
            | Exception::AlignmentCheck => true,
        }
    }
}

/// An event to inject before the guest's next instruction.
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

/// Vectors that exit, for [`crate::vmcs::VmcsField::ExceptionBitmap`]. A guest can make each of the two recur in its
/// own delivery without end, and without an interrupt in between (CVE-2015-8104, CVE-2015-5307). If they did not exit,
/// such a guest would hold the processor.
pub const EXITING: u32 = 1 << Exception::Debug as u32 | 1 << Exception::AlignmentCheck as u32;

/// The bitmap with which all vectors exit but #NM: the kernel handles that one itself, see [`crate::cr`].
pub const ALL: u32 = !(1 << 7);

/// The vector of a hardware exception, by the interruption information of its exit; `None` for INT1, which is a
/// privileged software exception, and for an NMI.
pub const fn hardware_exception(exit_interruption_info: u32) -> Option<u8> {
    match (exit_interruption_info & VALID != 0, exit_interruption_info >> TYPE_SHIFT & 7) {
        (true, kind::HARDWARE_EXCEPTION) => Some(exit_interruption_info as u8),
        _ => None,
    }
}

/// An exception that exits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exiting {
    /// #DB by a step or a breakpoint; the exit qualification has the bits for DR6. RIP is where the handler returns to.
    Trap,
    /// #DB by INT1, which sets no bit of DR6. RIP is still at it.
    Int1,
    /// #AC, whose error code is always zero.
    AlignmentCheck,
}

/// The exception in the interruption information of an exit; `None` if it is another one, or an NMI.
pub const fn exiting(exit_interruption_info: u32) -> Option<Exiting> {
    const DB: u32 = Exception::Debug as u32;
    const AC: u32 = Exception::AlignmentCheck as u32;
    if exit_interruption_info & VALID == 0 {
        return None;
    }
    match (exit_interruption_info >> TYPE_SHIFT & 7, exit_interruption_info & 0xff) {
        (kind::HARDWARE_EXCEPTION, DB) => Some(Exiting::Trap),
        (kind::PRIVILEGED_SOFTWARE_EXCEPTION, DB) => Some(Exiting::Int1),
        (kind::HARDWARE_EXCEPTION, AC) => Some(Exiting::AlignmentCheck),
        _ => None,
    }
}

/// An event whose delivery an exit has cut short: the IDT-vectoring information (SDM volume 3, "Information for VM Exits That
/// Occur During Event Delivery").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Vectored {
    /// An interrupt with this vector. It has been acknowledged, so no device raises it again.
    Interrupt(u8),
    /// An NMI.
    Nmi,
    /// An exception that the processor found.
    Exception {
        /// Its vector.
        vector: u8,
        /// It pushes an error code, which is in `IdtVectoringErrorCode`.
        has_error_code: bool,
    },
    /// INT n, INT3, INTO or INT1. RIP is at the instruction, whose length the exit gives, so it can be executed again.
    Software,
}

impl Vectored {
    /// From the value of `IdtVectoringInfo`; `None` if no event was being delivered.
    pub const fn of(idt_vectoring_info: u32) -> Option<Self> {
        if idt_vectoring_info & VALID == 0 {
            return None;
        }
        let vector = idt_vectoring_info as u8;
        Some(match idt_vectoring_info >> TYPE_SHIFT & 7 {
            kind::EXTERNAL_INTERRUPT => Vectored::Interrupt(vector),
            kind::NMI => Vectored::Nmi,
            kind::HARDWARE_EXCEPTION => {
                Vectored::Exception { vector, has_error_code: idt_vectoring_info & DELIVER_ERROR_CODE != 0 }
            }
            _ => Vectored::Software,
        })
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
        assert_eq!(Event::Exception(Exception::AlignmentCheck).info(), 0x8000_0b11);
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
    fn exceptions_that_exit_are_distinguished_from_others() {
        assert_eq!(EXITING, 0x2_0002);
        assert_eq!(exiting(0x8000_0301), Some(Exiting::Trap));
        assert_eq!(exiting(0x8000_0501), Some(Exiting::Int1));
        assert_eq!(exiting(0x8000_0b11), Some(Exiting::AlignmentCheck));
        for info in [0x301, 0xb11, 0x8000_030e, 0x8000_0202, 0x8000_0603, 0x8000_0411] {
            assert_eq!(exiting(info), None, "{info:#x}");
        }
    }

    #[test]
    fn an_exception_that_the_processor_has_found_has_its_vector() {
        assert_eq!(hardware_exception(0x8000_0313), Some(19));
        assert_eq!(hardware_exception(0x8000_0b0e), Some(14));
        for info in [0x0b0e, 0x8000_0501, 0x8000_0202] {
            assert_eq!(hardware_exception(info), None, "{info:#x}");
        }
        assert_eq!(ALL & 1 << 7, 0, "#NM");
    }

    #[test]
    fn an_event_that_was_being_delivered_is_known_by_its_type() {
        assert_eq!(Vectored::of(0x8000_0030), Some(Vectored::Interrupt(0x30)));
        assert_eq!(Vectored::of(0x8000_0202), Some(Vectored::Nmi));
        assert_eq!(Vectored::of(0x8000_0306), Some(Vectored::Exception { vector: 6, has_error_code: false }));
        assert_eq!(Vectored::of(0x8000_0b08), Some(Vectored::Exception { vector: 8, has_error_code: true }));
        for info in [0x8000_0430, 0x8000_0501, 0x8000_0603] {
            assert_eq!(Vectored::of(info), Some(Vectored::Software), "{info:#x}");
        }
        assert_eq!(Vectored::of(0x0b08), None);
    }
}
