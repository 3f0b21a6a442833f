//! A guest after the 32-bit boot protocol, on a VMCS that is a map.

use std::{
    arch::x86_64::{__cpuid, __cpuid_count, CpuidResult},
    collections::BTreeMap,
};

use crate::{entry, message::Message};
use devices::{Effect, Nanos, Width};
use layout::guest_board::Chipset;
use mmio::Window;
use vmm_server::{
    answer::{Answer, Next},
    board::{Board, Remote},
    control,
    guest::Guest as Stopped,
    linux::low,
    ram::Ram,
    run,
    time::{Clock, Present},
    vcpu::{BOOTSTRAP, Vcpu, debug::DebugRegisters},
    vm::Vm,
};
use vtx::{
    cpuid::Processor,
    cr::{ControlRegisters, Features},
    exit::RawExit,
    gpr::Gprs,
    msr::Gp,
    start::{self, Start},
    syscall::SyscallMsr,
    vmcs::{Vmcs, VmcsField},
};

/// When every exit happens, a second after power-on.
pub const TSC: u64 = 0x12_3456_789a;
/// The same in the devices' time.
pub const NOW: Nanos = Nanos(1_000_000_000);
/// Ticks in a second.
pub const HZ: u64 = 50_000_000;
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
    msrs: BTreeMap<u32, u64>,
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

    fn read_msr(&mut self, msr: SyscallMsr) -> u64 {
        self.msrs.get(&(msr as u32)).copied().unwrap_or(0)
    }

    fn write_msr(&mut self, msr: SyscallMsr, value: u64) -> Result<(), Gp> {
        if !msr.takes(value) {
            return Err(Gp);
        }
        self.msrs.insert(msr as u32, value);
        Ok(())
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

/// A VM with one vCPU.
pub struct Guest {
    pub vm: Vm,
    pub cpu: Vcpu<Fields>,
}

impl Guest {
    /// As an answer sees it.
    pub fn stopped(&mut self) -> Stopped<'_, Fields> {
        Stopped::new(&mut self.vm, &mut self.cpu)
    }

    pub fn interrupt(&mut self) -> bool {
        self.stopped().interrupt()
    }

    pub fn pending(&mut self) -> bool {
        self.stopped().pending()
    }

    pub fn acknowledge(&mut self) -> u8 {
        self.stopped().acknowledge()
    }

    pub fn read_memory(&mut self, gpa: u64, width: Width) -> u32 {
        present(|now| self.stopped().read_memory(gpa, width, now))
    }

    pub fn write_memory(&mut self, gpa: u64, width: Width, value: u32) -> Effect {
        present(|now| {
            let mut stopped = self.stopped();
            stopped.write_memory(gpa, width, value, now);
            stopped.effect()
        })
    }
}

/// Accesses to ports, whoever makes them.
pub trait Ports {
    fn input(&mut self, port: u16, width: Width, now: Nanos) -> u32;
    fn output_for(&mut self, port: u16, width: Width, value: u32, now: Nanos) -> Effect;

    fn output(&mut self, port: u16, width: Width, value: u32, now: Nanos) {
        let _ = self.output_for(port, width, value, now);
    }
}

impl Ports for Board {
    fn input(&mut self, port: u16, width: Width, now: Nanos) -> u32 {
        match self.read(port, width, now) {
            Ok((value, _)) => value,
            Err(Remote) => self.read_remote(port, width),
        }
    }

    fn output_for(&mut self, port: u16, width: Width, value: u32, now: Nanos) -> Effect {
        match self.write(port, width, value, now) {
            Ok(effect) => effect,
            Err(Remote) => self.write_remote(port, width, value),
        }
    }
}

/// A vCPU that has not run.
pub fn vcpu() -> Vcpu<Fields> {
    vcpu_with(Features::default())
}

fn vcpu_with(features: Features) -> Vcpu<Fields> {
    let control = ControlRegisters::new(low::PAGE_DIRECTORY, features);
    Vcpu::new(BOOTSTRAP, Fields::default(), control, DebugRegisters::new(true), HZ)
}

/// A guest with `ram` bytes of memory, at [`RIP`], with interrupts on.
pub fn guest_with(ram: u64) -> Guest {
    guest_on(Chipset::Pc1995, ram)
}

/// The same on another board.
pub fn guest_on(chipset: Chipset, ram: u64) -> Guest {
    started(chipset, ram, vcpu(), Processor::Bits32)
}

/// One in long mode, on identity tables of 2 MiB pages for 4 GiB, which the upper half maps as well, from 0xffff_8880_0000_0000
/// on.
pub fn long_guest() -> Guest {
    let features = Features { cr4: 1 << 16 | 1 << 17 | 1 << 18, efer: 1 << 0 | 1 << 8 | 1 << 11, xcr0: 7 };
    let mut guest = started(Chipset::Pc1995, RAM, vcpu_with(features), Processor::Bits64);
    let put = |at: u64, entry: u64| guest.vm.ram.write_u64(at, entry).unwrap();
    put(PML4, PML4 + 0x1003);
    put(PML4 + 8 * 0x111, PML4 + 0x1003);
    for n in 0..4 {
        put(PML4 + 0x1000 + 8 * n, PML4 + 0x2003 + 0x1000 * n);
    }
    for n in 0..4 * 512 {
        put(PML4 + 0x2000 + 8 * n, n << 21 | 0xe3);
    }
    start::set_long(&mut guest.cpu.vmcs);
    let program = guest.cpu.control.start_long(PML4);
    control::apply(&mut guest.stopped(), &program).unwrap();
    guest
}

/// Where it has its tables.
pub const PML4: u64 = 0x8000;

fn started(chipset: Chipset, ram: u64, cpu: Vcpu<Fields>, processor: Processor) -> Guest {
    let memory = Ram::flat(Window::leak(vec![0; ram as usize].leak()));
    let vm = Vm::new(memory, Board::new(chipset, ram, 1_700_000_000));
    let mut guest = Guest { vm, cpu };
    let flat =
        Start { code: low::BOOT_CS, data: low::BOOT_DS, gdt: (low::GDT, low::GDT_LIMIT), preemption: 1000, processor };
    start::set(&mut guest.cpu.vmcs, &flat);
    guest.cpu.debug.load(&mut guest.cpu.vmcs);
    let program = guest.cpu.control.program();
    control::apply(&mut guest.stopped(), &program).unwrap();
    guest.cpu.vmcs.writes = 0;
    guest
}

/// One with [`RAM`].
pub fn guest() -> Guest {
    guest_with(RAM)
}

/// An exit of a two-byte instruction at [`RIP`]. An EPT violation saves RFLAGS.RF as set (SDM volume 3, "Saving RIP, RSP, RFLAGS,
/// and SSP").
pub fn raw(reason: u32, qualification: u64, gprs: Gprs) -> RawExit {
    let rflags = if reason == reason::EPT { 0x1_0202 } else { 0x202 };
    RawExit { reason, qualification, instruction_len: 2, rip: RIP, rflags, gprs, ..RawExit::default() }
}

/// What the VMM answers to an exit, and what is to be settled. If the guest can have been in the state that the exit brings, it
/// can be entered after that.
pub fn answer_for(guest: &mut Guest, raw: RawExit) -> (Next, Effect) {
    guest.cpu.vmcs.exited(&raw);
    guest.cpu.exited(raw);
    let possible = entry::possible(&guest.cpu);
    let (next, effect) = at_now(guest, &raw);
    let mut cpu = guest.cpu.clone();
    cpu.follow();
    let goes_on = !matches!(next, Next::Reset(_) | Next::PowerOff);
    if possible
        && goes_on
        && let Err(why) = entry::check(&cpu)
    {
        panic!("after {raw:x?} and {next:x?} no processor enters the guest: {why}");
    }
    (next, effect)
}

/// The answer alone.
pub fn answer(guest: &mut Guest, raw: RawExit) -> Next {
    answer_for(guest, raw).0
}

/// What the kernel's message leads to.
pub fn answer_message(guest: &mut Guest, raw: &RawExit) -> (Answer, Gprs) {
    let written = std::cell::Cell::new(raw.gprs);
    let message = Message::new(raw, &written);
    let answer = present(|now| run::answer(&mut guest.vm, &mut guest.cpu, message, now));
    (answer, written.get())
}

/// The answer, with the vCPU as if it had taken the exit over in any case.
pub fn at_now(guest: &mut Guest, raw: &RawExit) -> (Next, Effect) {
    let (answer, gprs) = answer_message(guest, raw);
    let (rip, effect) = match answer {
        Answer::Taken { effect } => return (guest.cpu.next, effect),
        Answer::Resume { rip } => (rip, Effect::QUIET),
        Answer::ResumeTimed { rip } => (rip, Effect::TIMERS),
    };
    let length = rip.wrapping_sub(raw.rip) as u32;
    guest.cpu.done(RawExit { gprs, ..*raw }, length, gprs != raw.gprs);
    guest.cpu.next = Next::Skip;
    (Next::Skip, effect)
}

/// The clock of all of them.
pub fn clock() -> Clock {
    Clock::new(TSC - HZ, HZ)
}

/// Does what has to be done at that time.
pub fn present<T>(task: impl FnOnce(Present) -> T) -> T {
    task(Present::new(&clock(), || TSC))
}

/// The host's own CPUID. Zeros for leaves that it does not have.
pub fn host_cpuid(leaf: u32, subleaf: u32) -> CpuidResult {
    let last = |first| if leaf & 0x7fff_0000 == 0 { __cpuid(first).eax } else { 0 };
    if leaf > last(leaf & 0x8000_0000) {
        return CpuidResult { eax: 0, ebx: 0, ecx: 0, edx: 0 };
    }
    __cpuid_count(leaf, subleaf)
}
