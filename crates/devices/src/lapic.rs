//! The local APIC of a VM's only processor: its registers in memory or, as an x2APIC, in MSRs, and its two other MSRs.
//!
//! Intel SDM volume 3, "Advanced Programmable Interrupt Controller (APIC)". Time is the TSC, since software sets the
//! deadline in its units; the timer's counting modes use the crystal of CPUID leaf 0x15, whose period is two ticks of
//! the TSC. LINT0 is wired to the 8259 pair's INTR, unless the board routes INTR past the local APIC. LINT1 is not
//! connected.
//! Left out: other processors, NMI and SMI; a vector's bit in TMR after its end of interrupt.

mod registers;
#[cfg(test)]
mod tests;
mod timer;
mod vectors;
mod x2apic;

use registers::{ERROR, LINT0, LVT, Lvt, MASKED, Register};
use timer::{Timer, TimerMode};
pub use vectors::Vectors;
use x2apic::Interface;
pub use x2apic::{MSRS, Refused};

use crate::Width;

/// Guest-physical address of the registers, which cannot be moved.
pub const BASE: u64 = 0xfee0_0000;
/// Bytes of the registers.
pub const SIZE: u64 = 0x1000;

/// IA32_APIC_BASE: the registers' address, enabled (bit 11), the bootstrap processor (bit 8).
pub const BASE_MSR: u64 = BASE | 1 << 11 | 1 << 8;

/// Vectors below this one are the processor's own.
const FIRST_VECTOR: u8 = 16;

/// Version 0x15, the highest of integrated ones; the last LVT entry is the sixth.
const VERSION: u32 = 0x0005_0015;
const ENABLED: u32 = 1 << 8;
/// Vector and enable bit. The focus processor bit is stored, but has no function.
const SPURIOUS_WRITABLE: u32 = 0x3ff;
/// Destination format: the model in the four highest bits.
const FLAT: u32 = 0xf;

/// Bits of the error status.
mod error {
    pub const SEND_ILLEGAL_VECTOR: u8 = 1 << 5;
    pub const RECEIVE_ILLEGAL_VECTOR: u8 = 1 << 6;
    pub const ILLEGAL_REGISTER: u8 = 1 << 7;
}

/// The local APIC.
///
/// [`Lapic::new`] gives the state in which a PC's firmware leaves it: enabled, and LINT0 set to pass on the 8259's
/// interrupts.
#[derive(Clone, Debug)]
pub struct Lapic {
    interface: Interface,
    tpr: u8,
    ldr: u8,
    /// The model of the destination format.
    dfr: u32,
    svr: u32,
    isr: Vectors,
    irr: Vectors,
    /// Requested or in service, and level triggered: whoever sent them learns of their end.
    tmr: Vectors,
    /// Level-triggered vectors whose service has ended since [`Lapic::take_ended`].
    ended: Vectors,
    /// Errors since the last write to the error status register, and the errors that this write made readable.
    errors: u8,
    esr: u8,
    icr: [u32; 2],
    lvt: [u32; LVT],
    timer: Timer,
}

impl Default for Lapic {
    fn default() -> Self {
        Self::new()
    }
}

impl Lapic {
    /// An APIC after the firmware.
    pub const fn new() -> Self {
        Self {
            interface: Interface::Memory,
            tpr: 0,
            ldr: 0,
            dfr: FLAT,
            svr: ENABLED | 0xff,
            isr: Vectors::NONE,
            irr: Vectors::NONE,
            tmr: Vectors::NONE,
            ended: Vectors::NONE,
            errors: 0,
            esr: 0,
            icr: [0; 2],
            lvt: registers::VIRTUAL_WIRE,
            timer: Timer::new(),
        }
    }

    /// Whether its registers are at `gpa`.
    #[inline(always)]
    pub const fn has(gpa: u64) -> bool {
        gpa / SIZE == BASE / SIZE
    }

    /// Reads at `offset`. Registers are 32 bits wide, 16 bytes apart; the bytes between them read zero. Where it is no xAPIC, there
    /// is nothing, and all ones.
    pub fn read(&mut self, offset: u16, width: Width, tsc: u64) -> u32 {
        if self.interface != Interface::Memory {
            return width.mask32();
        }
        let within = usize::from(offset % 16);
        if within + width.bytes() > 4 {
            return 0;
        }
        self.advance(tsc);
        match Register::at(offset) {
            Some(register) => self.read_register(register, tsc) >> (8 * within) & width.mask32(),
            None => {
                self.note(error::ILLEGAL_REGISTER);
                0
            }
        }
    }

    /// Writes at `offset`. A write of another width than 32 bits, or between registers, is ignored: its effect is
    /// undefined.
    pub fn write(&mut self, offset: u16, width: Width, value: u32, tsc: u64) {
        if !offset.is_multiple_of(16) || width != Width::Dword || self.interface != Interface::Memory {
            return;
        }
        // An expiry before the write belongs to the old state.
        self.advance(tsc);
        match Register::at(offset) {
            Some(register) => self.write_register(register, value, tsc),
            None => self.note(error::ILLEGAL_REGISTER),
        }
    }

    /// Fast path for writes: performs a 32-bit write at `offset` if it is an end of interrupt without side effects,
    /// that is, if no other interrupt is requested, and none is level triggered. Returns whether it has performed the
    /// write.
    #[inline(always)]
    pub fn end_quietly(&mut self, offset: u16) -> bool {
        let quiet = offset == Register::EOI
            && self.interface == Interface::Memory
            && self.irr.is_empty()
            && self.tmr.is_empty();
        if quiet {
            self.end();
        }
        quiet
    }

    /// Advances the timer to `tsc`, and raises its interrupt if it has expired.
    pub fn advance(&mut self, tsc: u64) {
        if self.timer.expires(tsc) {
            self.fire(Lvt::Timer);
        }
    }

    /// The TSC value of the timer's next interrupt; `None` if it is masked or stopped.
    ///
    /// A guest may choose periods down to two ticks, so the caller has to limit the rate where deadlines cost
    /// something. Two expiries before the guest takes the interrupt are one interrupt.
    #[inline]
    pub const fn next_event(&self) -> Option<u64> {
        if self.lvt[Lvt::Timer as usize] & MASKED != 0 { None } else { self.timer.due() }
    }

    /// Takes an interrupt message of this vector, edge triggered.
    pub fn receive(&mut self, vector: u8) {
        self.accept(vector);
    }

    /// Takes an interrupt message of this vector, level triggered: its end of interrupt goes back to the sender.
    pub fn receive_level(&mut self, vector: u8) {
        self.accept(vector);
        if self.irr.contains(vector) {
            self.tmr.set(vector);
        }
    }

    /// Whether it accepts interrupt messages: software has it enabled.
    pub const fn accepts(&self) -> bool {
        self.is_enabled()
    }

    /// Whether an interrupt of this vector is requested.
    pub const fn is_requested(&self, vector: u8) -> bool {
        self.irr.contains(vector)
    }

    /// Whether there is something for [`take_ended`](Self::take_ended).
    #[inline(always)]
    pub const fn has_ended(&self) -> bool {
        !self.ended.is_empty()
    }

    /// The level-triggered vectors whose service has ended since the last call: the I/O APIC that sent them may send them
    /// again (SDM volume 3, "Signaling Interrupt Servicing Completion").
    pub const fn take_ended(&mut self) -> Vectors {
        core::mem::replace(&mut self.ended, Vectors::NONE)
    }

    /// Whether a requested interrupt has a higher priority than the processor.
    #[inline]
    pub const fn pending(&self) -> bool {
        match self.irr.highest() {
            Some(vector) => vector >> 4 > self.priority() >> 4,
            None => false,
        }
    }

    /// Acknowledges the pending interrupt: puts it into service and returns its vector.
    pub fn acknowledge(&mut self) -> Option<u8> {
        let vector = self.irr.highest().filter(|_| self.pending())?;
        self.irr.clear(vector);
        self.isr.set(vector);
        Some(vector)
    }

    /// Whether an interrupt at LINT0 reaches the processor. In delivery mode ExtINT it does, whatever the priority. The
    /// model implements no other mode, so in those it does not.
    #[inline(always)]
    pub const fn passes_external(&self) -> bool {
        self.lvt[Lvt::Lint0 as usize] & LINT0 == registers::EXTERNAL || matches!(self.interface, Interface::Off)
    }

    /// IA32_TSC_DEADLINE: zero if no deadline is set, or if it has passed.
    pub fn deadline(&self, tsc: u64) -> u64 {
        Some(self.timer.deadline()).filter(|&deadline| deadline > tsc).unwrap_or(0)
    }

    /// Sets IA32_TSC_DEADLINE. A deadline that has passed interrupts at once. In other modes of the timer, the write is
    /// ignored.
    #[inline]
    pub fn set_deadline(&mut self, deadline: u64, tsc: u64) {
        self.advance(tsc);
        self.timer.set_deadline(deadline);
        self.advance(tsc);
    }

    /// Fast path for writes of IA32_TSC_DEADLINE: performs the write if it only changes the deadline, that is, if
    /// neither the old nor the new one has passed. Returns whether it has performed the write.
    #[inline]
    pub fn move_deadline(&mut self, deadline: u64, tsc: u64) -> bool {
        let waits = self.timer.due().is_none_or(|due| due > tsc);
        let moved = waits && deadline > tsc && self.timer.has_deadlines();
        if moved {
            self.timer.set_deadline(deadline);
        }
        moved
    }

    /// The processor's priority: that of the task, or of the highest interrupt in service (SDM, "Task and Processor
    /// Priorities").
    const fn priority(&self) -> u8 {
        let service = match self.isr.highest() {
            Some(vector) => vector & 0xf0,
            None => 0,
        };
        if self.tpr >> 4 >= service >> 4 { self.tpr } else { service }
    }

    /// The task priority.
    pub const fn task_priority(&self) -> u8 {
        self.tpr
    }

    /// Sets it, as MOV to CR8 does.
    pub const fn set_task_priority(&mut self, priority: u8) {
        self.tpr = priority;
    }

    fn read_register(&self, register: Register, tsc: u64) -> u32 {
        match register {
            Register::Version => VERSION,
            Register::TaskPriority => self.tpr.into(),
            Register::ProcessorPriority => self.priority().into(),
            Register::LogicalDestination => u32::from(self.ldr) << 24,
            Register::DestinationFormat => self.dfr << 28 | 0x0fff_ffff,
            Register::Spurious => self.svr,
            Register::InService(word) => self.isr.word(word),
            Register::TriggerMode(word) => self.tmr.word(word),
            Register::Requested(word) => self.irr.word(word),
            Register::ErrorStatus => self.esr.into(),
            Register::Command => self.icr[0],
            Register::Destination => self.icr[1],
            Register::Lvt(entry) => self.lvt[entry as usize],
            Register::InitialCount => self.timer.initial(),
            Register::CurrentCount => self.timer.count(tsc),
            Register::Divide => self.timer.divide().into(),
            // The APIC ID is 0. The other registers are write-only, or reserved on processors since the Pentium 4.
            Register::Id | Register::End | Register::SelfIpi | Register::Unused => 0,
        }
    }

    fn write_register(&mut self, register: Register, value: u32, tsc: u64) {
        match register {
            Register::TaskPriority => self.tpr = value as u8,
            Register::End => self.end(),
            Register::LogicalDestination => self.ldr = (value >> 24) as u8,
            Register::DestinationFormat => self.dfr = value >> 28,
            Register::Spurious => self.set_spurious(value),
            Register::ErrorStatus => self.esr = core::mem::take(&mut self.errors),
            Register::Command => {
                self.icr[0] = value & registers::COMMAND_WRITABLE;
                self.send(value);
            }
            Register::Destination => self.icr[1] = value & 0xff00_0000,
            Register::SelfIpi => self.send(registers::TO_SELF | value),
            Register::Lvt(entry) => self.set_lvt(entry, value),
            Register::InitialCount => self.timer.start(value, tsc),
            Register::Divide => self.timer.set_divide(value as u8, tsc),
            // Read-only registers.
            Register::Id | Register::Version | Register::ProcessorPriority | Register::CurrentCount => {}
            Register::InService(_) | Register::TriggerMode(_) | Register::Requested(_) | Register::Unused => {}
        }
    }

    /// Writes the spurious-interrupt vector register. While software disables the APIC, all LVT entries are masked and
    /// no interrupt is accepted; requested ones stay requested (SDM, "Local APIC State After It Has Been Software
    /// Disabled").
    fn set_spurious(&mut self, value: u32) {
        self.svr = value & SPURIOUS_WRITABLE;
        if !self.is_enabled() {
            for entry in &mut self.lvt {
                *entry |= MASKED;
            }
        }
    }

    fn set_lvt(&mut self, entry: Lvt, value: u32) {
        let forced = if self.is_enabled() { 0 } else { MASKED };
        self.lvt[entry as usize] = value & entry.writable() | forced;
        if entry == Lvt::Timer {
            self.timer.set_mode(TimerMode::of(value));
        }
    }

    const fn is_enabled(&self) -> bool {
        self.svr & ENABLED != 0
    }

    fn end(&mut self) {
        let Some(vector) = self.isr.highest() else { return };
        self.isr.clear(vector);
        if self.tmr.contains(vector) {
            self.tmr.clear(vector);
            self.ended.set(vector);
        }
    }

    /// Raises the interrupt of an LVT entry of fixed delivery.
    fn fire(&mut self, entry: Lvt) {
        let value = self.lvt[entry as usize];
        if value & MASKED == 0 {
            self.accept(value as u8);
        }
    }

    fn accept(&mut self, vector: u8) {
        if vector < FIRST_VECTOR {
            self.note(error::RECEIVE_ILLEGAL_VECTOR);
        } else if self.is_enabled() {
            self.irr.set(vector);
        }
    }

    /// Records an error and requests the error interrupt. If its own vector is illegal, it is not requested: that would
    /// be another error each time.
    fn note(&mut self, error: u8) {
        self.errors |= error;
        let value = self.lvt[ERROR];
        if value & MASKED == 0 && value as u8 >= FIRST_VECTOR {
            self.irr.set(value as u8);
        }
    }

    /// Sends an interprocessor interrupt. Only this processor can receive it. INIT and start-up are for other
    /// processors only; NMI and SMI are left out.
    fn send(&mut self, command: u32) {
        if !registers::is_fixed(command) {
            return;
        }
        let to_self = match command >> 18 & 3 {
            0 => self.is_addressed(command),
            1 | 2 => true,
            _ => false,
        };
        if (command as u8) < FIRST_VECTOR {
            self.note(error::SEND_ILLEGAL_VECTOR);
        } else if to_self {
            self.accept(command as u8);
        }
    }

    const fn is_addressed(&self, command: u32) -> bool {
        const LOGICAL: u32 = 1 << 11;
        const ALL: u8 = 0xff;
        if matches!(self.interface, Interface::Msrs) {
            return self.is_addressed_x2(command & LOGICAL != 0);
        }
        let destination = (self.icr[1] >> 24) as u8;
        if command & LOGICAL == 0 {
            return destination == 0 || destination == ALL;
        }
        match self.dfr {
            FLAT => destination & self.ldr != 0,
            // Cluster model: four bits of cluster number, and one bit for each of four processors.
            _ => (destination == ALL || destination >> 4 == self.ldr >> 4) && destination & self.ldr & 0xf != 0,
        }
    }
}
