//! A virtual CPU between two entries: the state of the last exit, what has changed since, the event to inject, and the
//! other state that each processor has. Pure; `vtx::enter` exchanges it with the kernel. This module decides the cost
//! of an exit: it writes registers back only if the answer changed one, and it never reads the interrupt state from the
//! VMCS, since each exit brings it anyway.

use arch::Mode;
use devices::{Width, lapic::Lapic};
use vtx::{
    cpuid::Processor,
    cr::ControlRegisters,
    event::{Event, Exception, takes_interrupt},
    exit::RawExit,
    gpr::{Gpr, Gprs},
    msr::MTRR_DEF_TYPE_RESET,
    vmcs::{Interruptibility, PrimaryControls, Vmcs, VmcsField, access_rights},
    words::{Message, RFLAGS_RF, RFLAGS_TF, Words},
};

use crate::{answer::Next, paging::is_canonical, plain::Moves};
use cpuid::Leaves;
use deadline::Deadline;
use debug::DebugRegisters;
use step::Native;

mod apic;
pub mod countdown;
pub mod cpuid;
pub mod deadline;
pub mod debug;
mod msrs;
pub mod step;
pub(crate) mod tables;

/// The number of the processor that starts first, and to which the 8259's interrupts go.
pub const BOOTSTRAP: u8 = 0;

const RFLAGS_IF: u64 = 1 << 9;
/// In the pending debug exceptions: the trap after a single step (SDM volume 3, "Guest Non-Register State").
const PENDING_STEP: u64 = 1 << 14;
/// In the entry-interruption information: there is an event. The processor clears it when the event is delivered.
const EVENT_VALID: u32 = 1 << 31;

/// The virtual CPU.
#[derive(Clone, Debug)]
pub struct Vcpu<V> {
    /// Its number in the VM.
    pub number: u8,
    /// The fields that neither an exit nor an entry carries.
    pub vmcs: V,
    /// The state at the last exit.
    pub exit: RawExit,
    /// What happens after that exit.
    pub next: Next,
    /// Execution controls for the next entry.
    pub primary: PrimaryControls,
    /// The entry-interruption information of the next entry; zero injects nothing.
    pub inject: u32,
    /// Control registers, as the guest sees them.
    pub control: ControlRegisters,
    /// The leaves of CPUID.
    pub cpuid: Leaves,
    /// Debug registers.
    pub debug: DebugRegisters,
    /// The local APIC, and its timer.
    pub lapic: Lapic,
    /// Instructions that it has used on device memory.
    pub moves: Moves,
    /// An instruction that the processor executes on page tables of the VMM.
    pub native: Native,
    /// Its next timer deadline.
    pub deadline: Deadline,
    /// It waits for an interrupt.
    pub halted: bool,
    /// The general registers changed since the exit.
    registers_changed: bool,
    stop: EntryEnd,
    /// The guest has been stepped past an instruction with a single step or a breakpoint: the trap comes with the next
    /// entry.
    stepped: bool,
    /// The vector of an acknowledged interrupt whose delivery an exception cut short.
    held: Option<u8>,
    /// Breakpoints that the instruction has hit, as the pending debug exceptions have them.
    breakpoints: u64,
    /// IA32_MTRR_DEF_TYPE.
    mtrr_def_type: u64,
}

/// What the kernel supports.
const fn processor(control: &ControlRegisters) -> Processor {
    if control.has_long_mode() { Processor::Bits64 } else { Processor::Bits32 }
}

/// What ended the last entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum EntryEnd {
    /// An exit, which tells RFLAGS and the interruptibility state.
    Exit,
    /// A signal, which does not.
    Signal,
}

impl<V: Vmcs> Vcpu<V> {
    /// A vCPU that has not run. `hertz` is the TSC's rate; `debug` are its debug registers.
    pub fn new(number: u8, vmcs: V, control: ControlRegisters, debug: DebugRegisters, hertz: u64) -> Self {
        let primary = PrimaryControls::HLT
            | PrimaryControls::MOV_DR
            | PrimaryControls::RDPMC
            | PrimaryControls::MWAIT
            | PrimaryControls::MONITOR
            // CR8 is the task priority of the guest's local APIC. Without these two, a guest in 64-bit mode has the host's.
            | PrimaryControls::CR8_LOAD
            | PrimaryControls::CR8_STORE;
        Self {
            number,
            vmcs,
            exit: RawExit::default(),
            next: Next::Retry,
            primary,
            inject: 0,
            control,
            cpuid: Leaves::new(processor(&control), control.xcr0(), hertz),
            debug,
            lapic: Lapic::new(),
            moves: Moves::new(Mode::Bits32),
            native: Native::default(),
            deadline: Deadline::new(hertz),
            halted: false,
            registers_changed: false,
            stop: EntryEnd::Signal,
            stepped: false,
            held: None,
            breakpoints: 0,
            mtrr_def_type: MTRR_DEF_TYPE_RESET,
        }
    }

    /// The processor that it is.
    #[inline(always)]
    pub const fn processor(&self) -> Processor {
        processor(&self.control)
    }

    /// The mode of the code that exited.
    pub fn mode(&mut self) -> Mode {
        let rights = self.vmcs.read(VmcsField::GuestCsAccessRights) as u32;
        match (rights & access_rights::LONG != 0, rights & access_rights::DEFAULT_BIG != 0) {
            (true, _) if self.control.is_long() => Mode::Bits64,
            (_, true) => Mode::Bits32,
            (_, false) => Mode::Bits16,
        }
    }

    /// A mode with the same pointers, which outside of long mode costs no system call.
    pub fn pointers(&mut self) -> Mode {
        if self.control.is_long() { self.mode() } else { Mode::Bits32 }
    }

    /// Resets the vCPU, with these registers. The measured rate of its preemption timer stays.
    pub fn reset(&mut self, control: ControlRegisters, debug: DebugRegisters, hertz: u64)
    where
        V: Clone,
    {
        *self = Self { deadline: self.deadline, ..Self::new(self.number, self.vmcs.clone(), control, debug, hertz) };
    }

    /// Takes over an exit: copies all words of the message.
    #[inline(always)]
    pub fn exited(&mut self, exit: impl Message) {
        exit.load(&mut self.exit);
        self.inject = 0;
        self.stop = EntryEnd::Exit;
        self.stepped = false;
        self.breakpoints = 0;
    }

    /// Takes over an exit whose instruction, of `length` bytes, is done, and has changed registers in the message or not.
    #[inline(always)]
    pub fn done(&mut self, exit: impl Message, length: u32, registers_changed: bool) {
        self.exited(exit);
        self.exit.instruction_len = length;
        self.registers_changed |= registers_changed;
    }

    /// Notes that a signal ended the entry. Only RIP is known, and the event that was to be injected, if it was not
    /// delivered.
    pub fn interrupted(&mut self, rip: u64, inject: u32) {
        self.exit.rip = rip;
        self.inject = if inject & EVENT_VALID != 0 { inject } else { 0 };
        self.stop = EntryEnd::Signal;
    }

    /// Prepares the next entry, as the answer to an exit says.
    pub fn follow(&mut self) {
        match self.next {
            Next::Skip | Next::Halt => self.skip(),
            Next::Raise(event) => self.deliver(event),
            Next::Retry => self.retry(),
            Next::Reset(_) | Next::PowerOff => {}
        }
    }

    /// Has the next entry deliver `event`. As when the processor delivers one, a shadow and a single step end: VM entry
    /// fails if a shadow is there and the trap of the single step is not pending.
    pub fn deliver(&mut self, event: Event) {
        self.inject = event.info();
        if self.exit.is_stepped_or_shadowed() && !matches!(event, Event::Interrupt(_)) {
            self.leave_shadow();
            self.vmcs.write(VmcsField::GuestPendingDebug, 0);
            self.stepped = false;
        }
        // `skip` leaves RF to the next instruction, which now is the handler's: IRET would bring RF back later.
        if self.next == Next::Skip && self.exit.rflags & RFLAGS_RF != 0 {
            self.set_rflags(self.exit.rflags & !RFLAGS_RF);
        }
    }

    /// Continues where the guest stopped. A shadow that is still there holds back the trap of a single step, but VM
    /// entry requires that trap to be pending (SDM volume 3, "Checks on Guest Non-Register State").
    fn retry(&mut self) {
        let step = if self.is_in_shadow() { self.step() } else { 0 };
        self.pend(step);
    }

    /// Ends the state that lasts for one instruction: shadow, pending debug exceptions, and breakpoints that it has
    /// hit.
    pub fn leave_instruction(&mut self) {
        self.exit.interruptibility &= !Interruptibility::SHADOW.bits();
        self.vmcs.write(VmcsField::GuestInterruptibility, self.exit.interruptibility.into());
        self.vmcs.write(VmcsField::GuestPendingDebug, 0);
        self.breakpoints = 0;
    }

    /// Keeps an acknowledged interrupt until the guest can take one again.
    pub fn hold(&mut self, vector: u8) {
        self.held = Some(vector);
    }

    /// Whether an interrupt is kept.
    pub const fn holds(&self) -> bool {
        self.held.is_some()
    }

    /// Takes the interrupt that is kept.
    pub fn take_held(&mut self) -> Option<u8> {
        self.held.take()
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
            None => self.vmcs.read(VmcsField::GuestRsp),
        }
    }

    /// Sets a register, RSP included.
    pub fn set_gpr(&mut self, gpr: Gpr, value: u64) {
        match self.exit.gprs.get_mut(gpr) {
            Some(place) => {
                *place = value;
                self.registers_changed = true;
            }
            None => self.vmcs.write(VmcsField::GuestRsp, value),
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
        let kept = match width {
            Width::Byte | Width::Word => self.exit.gprs.rax & !width.mask(),
            Width::Dword | Width::Qword => 0,
        };
        self.gprs_mut().rax = kept | u64::from(value & width.mask32());
    }

    /// Steps past the instruction that exited, and out of the shadow of an STI or MOV SS before it. A guest that is being
    /// single-stepped gets its trap, as after any other instruction.
    #[inline]
    pub fn skip(&mut self) {
        let next = self.exit.after(self.exit.instruction_len);
        if (next ^ self.exit.rip) >> 32 != 0 {
            return self.skip_far(next);
        }
        self.exit.rip = next;
        self.skipped();
    }

    /// Continues at an address in another 4 GiB. Where it is none, the processor would fault when it fetches from there; a VM
    /// entry with it fails, so the instruction faults.
    #[cold]
    fn skip_far(&mut self, next: u64) {
        let next = self.pointers().wrap(next);
        if self.control.is_long() && !is_canonical(next) {
            return self.deliver(Event::Exception(Exception::GeneralProtection));
        }
        self.exit.rip = next;
        self.skipped();
    }

    /// Ends what lasts for an instruction.
    #[inline(always)]
    fn skipped(&mut self) {
        // RF hides breakpoints. Where there are none, the next instruction ends it as well, and without a system call.
        let ends = if self.debug.armed() { RFLAGS_TF | RFLAGS_RF } else { RFLAGS_TF };
        if self.exit.rflags & ends != 0 || self.breakpoints != 0 {
            self.trap();
        }
        self.leave_shadow();
    }

    /// Whether the instruction that was stepped past traps with the next entry.
    pub const fn has_trap(&self) -> bool {
        self.stepped
    }

    /// Ends RFLAGS.RF and makes the traps of the instruction pending.
    #[cold]
    fn trap(&mut self) {
        // RF lasts for one instruction.
        self.set_rflags(self.exit.rflags & !RFLAGS_RF);
        self.stepped = self.pend(self.step());
    }

    /// The trap of a single step, if the guest steps.
    const fn step(&self) -> u64 {
        if self.exit.rflags & RFLAGS_TF != 0 { PENDING_STEP } else { 0 }
    }

    /// Makes the traps `more` and those of breakpoints pending, to come as soon as no shadow holds them back; returns
    /// whether there are any. In the shadow of MOV SS, others may be pending already, and stay so.
    fn pend(&mut self, more: u64) -> bool {
        let new = more | self.breakpoints;
        if new != 0 {
            let others = if self.is_in_shadow() { self.vmcs.read(VmcsField::GuestPendingDebug) } else { 0 };
            self.vmcs.write(VmcsField::GuestPendingDebug, others | new);
            self.breakpoints = 0;
        }
        new != 0
    }

    /// Has the trap of breakpoints B0 to B3 come with the next entry: the instruction that exited has hit them, and the
    /// VMM executes it in the processor's place.
    pub fn pend_breakpoints(&mut self, hits: u64) {
        /// At least one of the breakpoints is enabled.
        const ENABLED: u64 = 1 << 12;
        self.breakpoints |= hits | ENABLED;
    }

    /// Whether the next entry can inject an interrupt. Not after a signal, which does not carry the interrupt state,
    /// and not in place of a single step's trap.
    pub fn takes_interrupt(&self) -> bool {
        self.stop == EntryEnd::Exit
            && !self.stepped
            && self.inject == 0
            && takes_interrupt(self.exit.rflags, self.exit.interruptibility)
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

    /// Whether the instruction is in the shadow of STI or MOV SS.
    pub fn is_in_shadow(&self) -> bool {
        self.exit.interruptibility & Interruptibility::SHADOW.bits() != 0
    }

    fn leave_shadow(&mut self) {
        if self.is_in_shadow() {
            self.exit.interruptibility &= !Interruptibility::SHADOW.bits();
            let state = u64::from(self.exit.interruptibility);
            self.vmcs.write(VmcsField::GuestInterruptibility, state);
        }
    }
}
