//! The virtual CPU between two entries: what the last exit left in it, what has changed since, what to inject. Pure;
//! `vtx::enter` carries it to the kernel and back. Costs are decided here: registers are written back only if an
//! exit changed one, and the interrupt state is never read from the VMCS when an exit can bring it for nothing.

use devices::Width;
use vtx::{
    event::{Event, takes_interrupt},
    exit::RawExit,
    gpr::{Gpr, Gprs},
    vmcs::{Interruptibility, PrimaryControls, Vmcs, VmcsField, access_rights},
    words::{RFLAGS_TF, Words},
};

const RFLAGS_IF: u64 = 1 << 9;
/// In the pending debug exceptions: the trap after a single step (SDM volume 3, "Guest Non-Register State").
const PENDING_STEP: u64 = 1 << 14;
/// In the entry-interruption information: there is an event. The processor clears it when the event is delivered.
const EVENT_VALID: u32 = 1 << 31;

/// The virtual CPU.
pub struct Cpu<V> {
    /// The fields that neither an exit nor an entry carries.
    pub vmcs: V,
    /// The state at the last exit.
    pub exit: RawExit,
    /// Execution controls for the next entry.
    pub primary: PrimaryControls,
    /// What the next entry injects, as the VMCS has it; zero for nothing.
    pub inject: u32,
    /// The general registers changed since the exit.
    registers_changed: bool,
    /// `exit.rflags` and `exit.interruptibility` are of now; not so after a signal, which does not carry them.
    known: bool,
    /// The guest steps by single instructions, and has just been stepped past one: its trap comes with the next entry.
    stepped: bool,
}

impl<V: Vmcs> Cpu<V> {
    /// A CPU that has not run.
    pub fn new(vmcs: V) -> Self {
        let primary = PrimaryControls::HLT
            | PrimaryControls::MOV_DR
            | PrimaryControls::RDPMC
            | PrimaryControls::MWAIT
            | PrimaryControls::MONITOR;
        Self {
            vmcs,
            exit: RawExit::default(),
            primary,
            inject: 0,
            registers_changed: false,
            known: false,
            stepped: false,
        }
    }

    /// Takes over what an exit brought.
    pub fn exited(&mut self, exit: RawExit) {
        self.exit = exit;
        self.inject = 0;
        self.known = true;
        self.stepped = false;
    }

    /// A signal ended the entry: only RIP is known, and what was to be injected, if the guest was not reached.
    pub fn interrupted(&mut self, rip: u64, inject: u32) {
        self.exit.rip = rip;
        self.inject = if inject & EVENT_VALID != 0 { inject } else { 0 };
        self.known = false;
    }

    /// Has the next entry deliver `event`.
    pub fn deliver(&mut self, event: Event) {
        self.inject = event.info();
    }

    /// The general registers, to be changed.
    pub fn gprs_mut(&mut self) -> &mut Gprs {
        self.registers_changed = true;
        &mut self.exit.gprs
    }

    /// Whether the next entry has to write the general registers first.
    #[inline]
    pub fn take_registers_changed(&mut self) -> bool {
        let changed = self.registers_changed;
        if changed {
            self.registers_changed = false;
        }
        changed
    }

    /// The value of a register, RSP included.
    pub fn gpr(&mut self, gpr: Gpr) -> u64 {
        match self.exit.gprs.get(gpr) {
            Some(value) => value,
            None if gpr == Gpr::Rsp => self.vmcs.read(VmcsField::GuestRsp),
            None => 0, // R8 to R15: no guest here has them
        }
    }

    /// Sets a register, RSP included.
    pub fn set_gpr(&mut self, gpr: Gpr, value: u64) {
        match self.exit.gprs.get_mut(gpr) {
            Some(place) => {
                *place = value;
                self.registers_changed = true;
            }
            None if gpr == Gpr::Rsp => self.vmcs.write(VmcsField::GuestRsp, value),
            None => {}
        }
    }

    /// Sets RFLAGS; only a change costs anything.
    pub fn set_rflags(&mut self, rflags: u64) {
        if rflags != self.exit.rflags {
            self.exit.rflags = rflags;
            self.vmcs.write(VmcsField::GuestRflags, rflags);
        }
    }

    /// Puts the result of an IN into AL, AX or EAX: the narrow ones leave the rest of the register alone.
    pub fn set_accumulator(&mut self, width: Width, value: u32) {
        let kept = self.exit.gprs.rax as u32 & !width.mask();
        self.gprs_mut().rax = u64::from(kept | value & width.mask());
    }

    /// Steps past the instruction that exited, and out of the shadow of an STI or MOV SS before it. A guest that is being
    /// single-stepped gets its trap, as after any other instruction.
    pub fn skip(&mut self) {
        self.exit.rip = self.exit.after(self.exit.instruction_len);
        self.leave_shadow();
        if self.exit.rflags & RFLAGS_TF != 0 {
            self.vmcs.write(VmcsField::GuestPendingDebug, PENDING_STEP);
            self.stepped = true;
        }
    }

    /// Whether an interrupt can be injected with the next entry. Not where only an exit would tell, nor where it would
    /// take the place of a single step's trap.
    pub fn takes_interrupt(&self) -> bool {
        self.known && !self.stepped && self.inject == 0 && takes_interrupt(self.exit.rflags, self.exit.interruptibility)
    }

    /// Whether RFLAGS.IF was set at the last exit.
    pub fn interrupts_enabled(&self) -> bool {
        self.exit.rflags & RFLAGS_IF != 0
    }

    /// The current privilege level.
    pub fn privilege(&mut self) -> u8 {
        (self.vmcs.read(VmcsField::GuestSsAccessRights) >> access_rights::DPL_SHIFT & 3) as u8
    }

    /// Asks for an exit as soon as the guest can take an interrupt, or no longer.
    pub fn want_window(&mut self, wanted: bool) {
        self.primary.set(PrimaryControls::INTERRUPT_WINDOW, wanted);
    }

    fn leave_shadow(&mut self) {
        let shadow = Interruptibility::SHADOW.bits();
        if self.exit.interruptibility & shadow != 0 {
            self.exit.interruptibility &= !shadow;
            let state = u64::from(self.exit.interruptibility);
            self.vmcs.write(VmcsField::GuestInterruptibility, state);
        }
    }
}
