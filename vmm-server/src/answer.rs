//! The answer to a VM exit.

use devices::Effect;
use vtx::{
    event::{Event, Exception},
    exit::{EntryFailure, Exit},
};

/// The answer to one exit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Fast path: the instruction is done without side effects, and the exit was not taken over.
    Resume {
        /// Where the guest continues.
        rip: u64,
    },
    /// The same, but the run loop sets the timer deadline first. For [`Effect::TIMERS`] alone, which does not need the
    /// rest of the exit.
    ResumeTimed {
        /// Where the guest continues.
        rip: u64,
    },
    /// Slow path: the vCPU has taken the exit over; [`Vcpu::next`](crate::vcpu::Vcpu::next) says what happens next.
    Taken {
        /// The side effects to carry out before the next entry.
        effect: Effect,
    },
}

/// What happens after an exit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// The instruction is done: continue after it.
    Skip,
    /// Continue where the guest stopped.
    Retry,
    /// The instruction faults.
    Raise(Event),
    /// The guest waits for an interrupt.
    Halt,
    /// The guest is reset.
    Reset(Cause),
    /// The guest is off: by ACPI's soft off, or it has halted with interrupts off, which no interrupt ends: this is how a PC
    /// without ACPI powers off (decision 0006).
    PowerOff,
}

impl Next {
    /// #UD.
    pub const UNDEFINED: Next = Next::Raise(Event::Exception(Exception::InvalidOpcode));
    /// #GP(0).
    pub const PROTECTION: Next = Next::Raise(Event::Exception(Exception::GeneralProtection));

    /// After an instruction whose accesses ask for `effect`.
    #[inline(always)]
    pub const fn after(effect: Effect) -> Next {
        if effect.contains(Effect::RESET) {
            Next::Reset(Cause::Asked)
        } else if effect.contains(Effect::OFF) {
            Next::PowerOff
        } else {
            Next::Skip
        }
    }
}

/// Why a guest is reset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// It wrote to a reset port.
    Asked,
    /// It left protected mode, as Linux does to restart through the BIOS.
    RealMode,
    /// A fault while delivering a double fault.
    TripleFault,
    /// It used a feature that this VMM does not implement.
    Unsupported(&'static str),
    /// The processor refused the guest's state.
    EntryFailure(EntryFailure),
    /// An exit that no execution control enables.
    Unexpected(Exit),
}
