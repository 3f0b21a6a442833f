//! The minimum cost of a VM exit: a root task with the smallest possible loop around VMEnter, and nothing else on the
//! machine. Its guest reads the TSC before and after a CPUID, as the rows of tests/guests/bench.c do, and the loop
//! handles that without and with WriteRegisters. Instructions beyond this are the VMM's own. A second guest does the same in
//! long mode, with MSRs of SYSCALL that the kernel switches.
#![no_std]
#![no_main]
#![deny(unsafe_code)]

extern crate alloc;

use alloc::vec::Vec;

use kernel_tests::bench::Bench;
use kernel_tests::guest::{Guest, reason};
use kernel_tests::{console, long_mode, say};
use sel4::{BootInfoPtr, VmEnterResult, VmFault, Word};
use sel4_root_task::root_task;
use vtx::syscall::SyscallMsr;

root_task!(main);

/// Exits per row.
const ROUNDS: usize = 2000;

/// `rdtsc; mov esi, eax; cpuid; rdtsc; sub eax, esi; out 0xe0, al; jmp` to the start: EAX at the OUT is what the CPUID
/// took.
const TWO_EXITS: [u8; 14] = [0x0f, 0x31, 0x89, 0xc6, 0x0f, 0xa2, 0x0f, 0x31, 0x29, 0xf0, 0xe6, 0xe0, 0xeb, 0xf2];

fn main(bootinfo: BootInfoPtr) -> ! {
    let mut bench = Bench::new(bootinfo);
    let console = console::open(&mut bench);
    let guest = Guest::new(&mut bench, &TWO_EXITS).expect("there is room for a guest");
    rows(["floor", "floor_write"], &guest);
    if sel4_config::X86_64_VTX_64BIT_GUESTS {
        let guest = long_mode::guest(&mut bench, &TWO_EXITS).expect("there is room for another");
        // Linux on an Intel processor leaves CSTAR alone.
        for msr in [SyscallMsr::Star, SyscallMsr::Lstar, SyscallMsr::Fmask] {
            guest.vcpu.vcpu_write_msr(msr as u32, 0x1111).expect("the MSR is the guest's");
        }
        rows(["floor_long", "floor_long_write"], &guest);
    }
    console.power_off()
}

/// The rows of a guest, without and with WriteRegisters.
fn rows([without, with]: [&str; 2], guest: &Guest) {
    row(without, guest, |_, _| {});
    row(with, guest, |guest, exit| {
        // If the kernel refused, the row would be too fast.
        let _ = guest.vcpu.vcpu_write_registers(&exit.registers());
    });
}

/// Runs the guest with `answer` between its exits, and prints the cost of the CPUIDs.
fn row(name: &str, guest: &Guest, answer: impl Fn(&Guest, &VmFault)) {
    let mut samples = Vec::with_capacity(ROUNDS);
    let mut entry = Guest::entry(0);
    while samples.len() < ROUNDS {
        let Some(exit) = exit(guest, &entry) else { continue };
        if exit.reason as u32 == reason::PORT {
            samples.push(exit.registers().eax);
        }
        entry.rip = next(&exit);
        answer(guest, &exit);
    }
    samples.sort_unstable();
    let (least, median, p99) = (samples[0], samples[ROUNDS / 2], samples[ROUNDS * 99 / 100]);
    say!("= {name} {least:x} {median:x} {p99:x}");
}

fn exit(guest: &Guest, entry: &sel4::VmEnter) -> Option<VmFault> {
    match guest.vcpu.vm_enter(entry) {
        VmEnterResult::Fault(exit) => Some(exit),
        VmEnterResult::Signal { .. } => None,
    }
}

fn next(exit: &VmFault) -> Word {
    exit.guest.rip + exit.instruction_length()
}
