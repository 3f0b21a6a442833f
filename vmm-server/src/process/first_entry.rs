//! The first entry of each life of a vCPU. It runs instructions of the VMM's in the guest, which flush what the processor
//! has cached of page tables under the vCPU's VPID: those of the last life, or those of an earlier vCPU with that VPID.
//! The pinned kernel flushes at these points itself, but not every kernel does, and no system call asks for it.
//!
//! It also has the kernel assign the VPID. A current kernel closes the ports of a revoked capability only if the vCPU
//! had one when they were opened, so devices are taken over after this entry.

use core::fmt;

use vmm_server::{
    control,
    guest::Guest,
    linux::low,
    vcpu::{Vcpu, countdown::Countdown, cpuid::Leaves, debug::DebugRegisters},
    vm::Vm,
};
use vtx::{
    cpuid::{self, Processor},
    cr,
    enter::{VcpuObject, Wake},
    exit::Exit,
    start::{self, Start},
    vmcs::{Vmcs, VmcsField},
    words::Words,
};

/// Ticks of the preemption timer, where there is one, until the entry is given up.
const PATIENCE: u32 = 1 << 20;

/// Why a guest cannot begin.
pub enum Refused {
    /// Its memory is too small.
    Memory,
    /// The kernel refuses its control registers.
    ControlRegisters,
    /// The processor refuses its state, or it exited elsewhere than it should.
    Exit(Exit),
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Memory => write!(f, "the guest has no memory below 1 MiB"),
            Self::ControlRegisters => write!(f, "the kernel refuses the control registers that a guest begins with"),
            Self::Exit(Exit::EntryFailure(failure)) => write!(
                f,
                "the processor refuses the state that a guest begins with ({failure:?}): it may lack a feature that \
                 `cargo xtask doctor` names"
            ),
            Self::Exit(exit) => write!(
                f,
                "the first entry ended with {exit:?}: the kernel does not flush translations, and the guest's last life \
                 has mapped a page over the VMM's"
            ),
        }
    }
}

/// The processor that every guest has here.
pub const PROCESSOR: Processor = if VcpuObject::GUESTS_OF_64_BITS { Processor::Bits64 } else { Processor::Bits32 };

/// The control registers that a guest begins with.
pub fn control_registers(hertz: u64) -> cr::ControlRegisters {
    let xcr0 = VcpuObject::XCR0;
    let mut leaves = Leaves::new(PROCESSOR, xcr0, hertz);
    let [one, seven, extended] = [1, 7, 0x8000_0001].map(|leaf| leaves.leaf(leaf, 0));
    let features = cr::Features { xcr0, ..cpuid::features(one, seven, extended) };
    cr::ControlRegisters::new(low::PAGE_DIRECTORY, features)
}

/// Changes the state in which a guest begins to that of 64-bit code.
pub fn make_long(vm: &mut Vm, cpu: &mut Vcpu<VcpuObject>) {
    start::set_long(&mut cpu.vmcs);
    let program = cpu.control.start_long(low::LONG_TABLES);
    // Only PAE paging has anything that can be refused.
    let _ = control::apply(&mut Guest::new(vm, cpu), &program);
}

/// The debug registers that a guest begins with.
pub const fn debug_registers() -> DebugRegisters {
    DebugRegisters::new(VcpuObject::DEBUG_REGISTERS)
}

/// Sets `cpu` to the state in which a guest begins, except for the instruction and the registers of its boot protocol, and
/// makes that entry. Returns the signals that came meanwhile.
pub fn run(vm: &mut Vm, cpu: &mut Vcpu<VcpuObject>, hertz: u64) -> Result<u64, Refused> {
    let mut written = Ok(());
    low::first_entry(|at, bytes| written = written.and(vm.ram.write(at, bytes)));
    written.map_err(|_| Refused::Memory)?;
    cpu.reset(control_registers(hertz), debug_registers(), hertz);
    let flat = Start {
        code: low::BOOT_CS,
        data: low::BOOT_DS,
        gdt: (low::GDT, low::GDT_LIMIT),
        preemption: PATIENCE,
        processor: PROCESSOR,
    };
    let there = start::set(&mut cpu.vmcs, &flat);
    cpu.debug.load(&mut cpu.vmcs);
    let program = cpu.control.program();
    control::apply(&mut Guest::new(vm, cpu), &program).map_err(|_| Refused::ControlRegisters)?;
    let signals = flush(cpu)?;
    cpu.vmcs.write(VmcsField::GuestRflags, start::RFLAGS_RESET);
    cpu.deadline.use_countdown(there, hertz);
    if there {
        cpu.vmcs.write(VmcsField::PreemptionTimer, Countdown::FIRST.into());
    }
    Ok(signals)
}

fn flush(cpu: &mut Vcpu<VcpuObject>) -> Result<u64, Refused> {
    let (mut object, mut rip, mut signals) = (cpu.vmcs, low::FLUSH, 0);
    loop {
        match object.enter(rip, cpu.primary, 0) {
            Wake::Signal { bits, rip: at, .. } => (rip, signals) = (at, signals | bits),
            Wake::Exit(exit) => {
                let what = Exit::decode(&exit);
                let ended = what == Exit::Cpuid && exit.rip() == low::FLUSH_END;
                return if ended { Ok(signals) } else { Err(Refused::Exit(what)) };
            }
        }
    }
}
