//! The virtual CPU between two entries: what the last exit left in it, what has changed since, what to inject. Pure;
//! `vtx::enter` carries it to the kernel and back. Costs are decided here: registers are written back only if an
//! exit changed one, and the interrupt state is never read from the VMCS when an exit can bring it for nothing.

use devices::Width;
use vtx::{
    event::Event,
    exit::RawExit,
    gpr::{Gpr, Gprs},
    vmcs::{Interruptibility, PrimaryControls, VmcsField},
};

/// VMCS access, one system call each; a map in tests.
pub trait Vmcs {
    /// Reads a field.
    fn read(&mut self, field: VmcsField) -> u64;
    /// Writes a field.
    fn write(&mut self, field: VmcsField, value: u64);
}

const RFLAGS_IF: u64 = 1 << 9;

/// The virtual CPU.
pub struct Cpu<V> {
    /// The fields that neither an exit nor an entry carries.
    pub vmcs: V,
    /// The state at the last exit.
    pub exit: RawExit,
    /// Execution controls for the next entry.
    pub primary: PrimaryControls,
    /// What the next entry injects.
    pub inject: Option<Event>,
    /// The general registers changed since the exit.
    registers_changed: bool,
    /// `exit.rflags` and `exit.interruptibility` are of now; not so after a signal, which does not carry them.
    known: bool,
}

impl<V: Vmcs> Cpu<V> {
    /// A CPU that has not run.
    pub fn new(vmcs: V) -> Self {
        let primary = PrimaryControls::HLT | PrimaryControls::MOV_DR | PrimaryControls::RDPMC | PrimaryControls::MWAIT
            | PrimaryControls::MONITOR;
        Self { vmcs, exit: RawExit::default(), primary, inject: None, registers_changed: false, known: false }
    }

    /// Takes over what an exit brought.
    pub fn exited(&mut self, exit: RawExit) {
        self.exit = exit;
        self.known = true;
    }

    /// The guest ran and a signal ended that: only its RIP is known.
    pub fn interrupted(&mut self, rip: u64) {
        self.exit.rip = rip;
        self.known = false;
    }

    /// The general registers, to be changed.
    pub fn gprs_mut(&mut self) -> &mut Gprs {
        self.registers_changed = true;
        &mut self.exit.gprs
    }

    /// Whether the next entry has to write the general registers first.
    pub fn take_registers_changed(&mut self) -> bool {
        core::mem::take(&mut self.registers_changed)
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

    /// Puts the result of an IN into AL, AX or EAX: the narrow ones leave the rest of the register alone.
    pub fn set_accumulator(&mut self, width: Width, value: u32) {
        let kept = self.exit.gprs.rax as u32 & !width.mask();
        self.gprs_mut().rax = u64::from(kept | value & width.mask());
    }

    /// Steps past the instruction that exited, and out of the shadow of an STI or MOV SS before it.
    pub fn skip(&mut self) {
        self.exit.rip = (self.exit.rip + u64::from(self.exit.instruction_len)) & 0xffff_ffff;
        self.leave_shadow();
    }

    /// Whether an external interrupt can be injected with the next entry; `None` where only an exit would tell.
    pub fn interruptible(&self) -> Option<bool> {
        let shadow = (Interruptibility::STI | Interruptibility::MOV_SS).bits();
        (self.known).then_some(
            self.inject.is_none() && self.exit.rflags & RFLAGS_IF != 0 && self.exit.interruptibility & shadow == 0,
        )
    }

    /// Whether RFLAGS.IF was set at the last exit.
    pub fn interrupts_enabled(&self) -> bool {
        self.exit.rflags & RFLAGS_IF != 0
    }

    /// Asks for an exit as soon as the guest can take an interrupt, or no longer.
    pub fn want_window(&mut self, wanted: bool) {
        self.primary.set(PrimaryControls::INTERRUPT_WINDOW, wanted);
    }

    fn leave_shadow(&mut self) {
        let shadow = (Interruptibility::STI | Interruptibility::MOV_SS).bits();
        if self.exit.interruptibility & shadow != 0 {
            self.exit.interruptibility &= !shadow;
            let state = u64::from(self.exit.interruptibility);
            self.vmcs.write(VmcsField::GuestInterruptibility, state);
        }
    }
}
