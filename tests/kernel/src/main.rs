//! A root task that tests the fixes of kernel-config/patches on the kernel itself: runs one check
//! after the other, prints a line for each and a verdict, and powers the machine off. A failing check may also stop the
//! machine or hang; then its name is the last line.
//!
//! Unsafe code: instructions that access processor registers (bases.rs, fpu.rs, process.rs, host.rs). `Scratch` accesses memory,
//! and second threads (thread.rs) use only system calls whose messages are in registers.
#![no_std]
#![no_main]
#![deny(unsafe_code)]

extern crate alloc;

mod bases;
mod check;
mod thread;

mod debug;
mod ept;
mod fpu;
mod host;
mod ipc;
mod paging;
mod ports;
mod process;
mod sweep;
mod vcpu;

use kernel_tests::{bench, console, guest, say};
use sel4::BootInfoPtr;
use sel4_root_task::root_task;

use bench::Bench;
use check::{Check, Seen};

root_task!(main);

/// Every check, after those of the patches that it depends on, so that a kernel that stops does so at the right name.
const CHECKS: [&[Check]; 11] = [
    paging::CHECKS,
    ipc::CHECKS,
    vcpu::CHECKS,
    ept::CHECKS,
    ports::CHECKS,
    fpu::CHECKS,
    debug::CHECKS,
    process::CHECKS,
    bases::CHECKS,
    sweep::CHECKS,
    host::CHECKS,
];

/// Checks that need an option of the kernel's, the option, and whether this kernel has it.
const OPTIONAL: [(&[Check], &str, bool); 1] = [(bases::BY_INSTRUCTION, "FSGSBASE_INST", sel4_config::FSGSBASE_INST)];

fn main(bootinfo: BootInfoPtr) -> ! {
    let mut bench = Bench::new(bootinfo);
    let console = console::open(&mut bench);
    let (mut passed, mut failed, mut left_out) = (0, 0, 0);
    for (checks, option, _) in OPTIONAL.into_iter().filter(|(.., has)| !has) {
        for check in checks {
            left_out += 1;
            say!("left {} {}: this kernel is without {option}", check.patch, check.name);
        }
    }
    let optional = OPTIONAL.into_iter().filter_map(|(checks, _, has)| has.then_some(checks));
    for check in CHECKS.into_iter().chain(optional).flatten() {
        say!("run  {} {}", check.patch, check.name);
        let outcome = (check.run)(&mut bench);
        bench.take_ports_back();
        match outcome {
            Ok(()) => {
                passed += 1;
                say!("ok   {} {}", check.patch, check.name);
            }
            Err(Seen(what)) => {
                failed += 1;
                say!("FAIL {} {}: {what}", check.patch, check.name);
            }
        }
    }
    say!("verdict: {passed} passed, {failed} failed, {left_out} left out");
    console.power_off()
}
