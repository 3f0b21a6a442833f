//! What an exit is answered with.

use devices::Effect;
use vtx::{
    event::{Event, Exception},
    exit::{EntryFailure, Exit},
};

/// The answer to one exit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The instruction is done, the exit was not taken over, and the guest goes on.
    Resume {
        /// Where.
        rip: u64,
    },
    /// The same, when its deadline is set: [`Effect::TIMERS`] alone asks for nothing that the vCPU has to know of the exit.
    ResumeTimed {
        /// Where it goes on.
        rip: u64,
    },
    /// The vCPU has taken the exit over, and knows what happens next: [`Vcpu::next`](crate::vcpu::Vcpu::next).
    Taken {
        /// What has to be settled before the next entry.
        effect: Effect,
    },
}

/// What happens after an exit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// The instruction is done: go on after it.
    Skip,
    /// Go on where the guest stopped.
    Retry,
    /// The instruction faults.
    Raise(Event),
    /// The guest waits for an interrupt.
    Halt,
    /// The guest starts anew.
    Reset(Cause),
    /// The guest has halted with interrupts off, for good: how a PC without ACPI is switched off.
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
        if effect.contains(Effect::RESET) { Next::Reset(Cause::Asked) } else { Next::Skip }
    }
}

/// Why a guest is reset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// It asked for it by a reset port.
    Asked,
    /// It left protected mode, as Linux does to restart through the BIOS.
    RealMode,
    /// A fault while delivering a double fault.
    TripleFault,
    /// It asked for something that no modelled processor does.
    Unsupported(&'static str),
    /// The processor refused the guest's state.
    EntryFailure(EntryFailure),
    /// An exit that was never asked for.
    Unexpected(Exit),
}
