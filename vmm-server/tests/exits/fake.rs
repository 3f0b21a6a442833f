//! A guest after the 32-bit boot protocol, on a VMCS that is a map.

use std::collections::BTreeMap;

use crate::entry;
use devices::Nanos;
use mmio::Window;
use vmm_server::{
    control,
    cpu::Cpu,
    cpuid::Leaves,
    debug::DebugRegisters,
    linux::low,
    machine::Machine,
    native::Native,
    plain::Moves,
    ram::Ram,
    run::{Guest, Next},
    time::{Clock, Present},
};
use vtx::{
    cr::ControlRegisters,
    exit::{Exit, RawExit},
    gpr::Gprs,
    start::{self, Start},
    vmcs::{Vmcs, VmcsField},
};

/// When every exit happens, a second after power-on.
pub const TSC: u64 = 0x12_3456_789a;
/// The same in the devices' time.
pub const NOW: Nanos = Nanos(1_000_000_000);
/// Ticks in a second.
const HZ: u64 = 50_000_000;
/// Memory of a guest.
pub const RAM: u64 = 1 << 20;
/// Where the guest stands.
pub const RIP: u64 = 0x1_0000;

/// Exit reasons.
pub mod reason {
    pub const TASK_SWITCH: u32 = 9;
    pub const CPUID: u32 = 10;
    pub const HLT: u32 = 12;
    pub const CR: u32 = 28;
    pub const DR: u32 = 29;
    pub const IO: u32 = 30;
    pub const RDMSR: u32 = 31;
    pub const WRMSR: u32 = 32;
    pub const EPT: u32 = 48;
}

/// Fields by their encodings, and how many writes there were.
#[derive(Clone, Debug, Default)]
pub struct Fields {
    values: BTreeMap<VmcsField, u64>,
    written: BTreeMap<VmcsField, u32>,
    pub writes: u32,
}

impl Vmcs for Fields {
    fn read(&mut self, field: VmcsField) -> u64 {
        self.values.get(&field).copied().unwrap_or(0)
    }

    fn write(&mut self, field: VmcsField, value: u64) {
        self.values.insert(field, value);
        *self.written.entry(field).or_default() += 1;
        self.writes += 1;
    }
}

impl Fields {
    /// How often the VMM has written `field`.
    pub fn written(&self, field: VmcsField) -> u32 {
        self.written.get(&field).copied().unwrap_or(0)
    }

    /// Saves the state as the processor does at an exit (SDM volume 3, "Saving Guest State"). Pending debug exceptions are
    /// clear, unless MOV SS has blocked them and the exit is none of theirs.
    fn exited(&mut self, raw: &RawExit) {
        const STEP: u64 = 1 << 14;
        let blocked = raw.interruptibility & 2 != 0 && raw.reason != 0;
        let pending = if blocked && raw.rflags & 1 << 8 != 0 { STEP } else { 0 };
        for (field, value) in [
            (VmcsField::GuestRip, raw.rip),
            (VmcsField::GuestRflags, raw.rflags),
            (VmcsField::GuestInterruptibility, raw.interruptibility.into()),
            (VmcsField::GuestPendingDebug, pending),
        ] {
            self.values.insert(field, value);
        }
    }
}

/// A guest with `ram` bytes of memory, at [`RIP`], with interrupts on.
pub fn guest_with(ram: u64) -> Guest<Fields> {
    let mut guest = Guest {
        cpu: Cpu::new(Fields::default()),
        machine: Machine::new(ram, 1_700_000_000),
        ram: Ram::flat(Window::leak(vec![0; ram as usize].leak())),
        control: ControlRegisters::new(low::PAGE_DIRECTORY, 0),
        cpuid: Leaves::new(HZ),
        debug: DebugRegisters::new(true),
        moves: Moves::new(),
        native: Native::default(),
    };
    let flat = Start { code: low::BOOT_CS, data: low::BOOT_DS, gdt: (low::GDT, low::GDT_LIMIT), preemption: 1000 };
    start::set(&mut guest.cpu.vmcs, &flat);
    guest.debug.load(&mut guest.cpu.vmcs);
    let program = guest.control.program();
    control::apply(&mut guest, &program).unwrap();
    guest.cpu.vmcs.writes = 0;
    guest
}

/// One with [`RAM`].
pub fn guest() -> Guest<Fields> {
    guest_with(RAM)
}

/// An exit of a two-byte instruction at [`RIP`].
pub fn raw(reason: u32, qualification: u64, gprs: Gprs) -> RawExit {
    RawExit { reason, qualification, instruction_len: 2, rip: RIP, rflags: 0x202, gprs, ..RawExit::default() }
}

/// What the VMM answers to an exit. If the guest can have been in the state that the exit brings, it can be entered after that.
pub fn answer(guest: &mut Guest<Fields>, raw: RawExit) -> Next {
    guest.cpu.vmcs.exited(&raw);
    guest.cpu.exited(raw);
    let possible = entry::possible(&guest.cpu);
    let next = at_now(guest, &raw);
    let mut cpu = guest.cpu.clone();
    cpu.follow(next);
    let goes_on = !matches!(next, Next::Reset(_) | Next::PowerOff);
    if possible
        && goes_on
        && let Err(why) = entry::check(&cpu)
    {
        panic!("after {raw:x?} and {next:x?} no processor enters the guest: {why}");
    }
    next
}

/// The same, of an exit that the CPU has taken over.
pub fn at_now(guest: &mut Guest<Fields>, raw: &RawExit) -> Next {
    present(|now| guest.answer(Exit::decode(raw), now))
}

/// Does what has to be done at that time.
pub fn present<T>(task: impl FnOnce(Present) -> T) -> T {
    task(Present::new(&Clock::new(TSC - HZ, HZ), || TSC))
}
