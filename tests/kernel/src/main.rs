//! A root task that asks the kernel for its defects: runs one check after the other, prints a line before and after
//! each, and powers the machine off behind the last, or behind the first that fails, since the kernel may not be what it
//! was. A failing check may also stop the machine or hang; then its name is the last line. The rest runs in another boot:
//! the bundle names the check behind which a boot begins.
//!
//! Unsafe code: instructions that access processor registers (bases.rs, fpu.rs, process.rs, host.rs, long.rs). `Scratch` accesses memory,
//! and second threads (thread.rs) use only system calls whose messages are in registers.
#![no_std]
#![no_main]
#![deny(unsafe_code)]

extern crate alloc;

mod bases;
mod check;
mod thread;

mod cr2;
mod debug;
mod ept;
mod fpu;
mod host;
mod interrupts;
mod ipc;
mod long;
mod paging;
mod ports;
mod printing;
mod process;
mod sweep;
mod vcpu;

use kernel_tests::{bench, console, guest, say};
use sel4::BootInfoPtr;
use sel4_root_task::{bundle, root_task};

use bench::Bench;
use check::{Check, PINNED, Seen};

root_task!(main);

/// Every check, after those of the patches that it depends on, so that a kernel that stops does so at the right name.
const CHECKS: [&[Check]; 13] = [
    paging::CHECKS,
    ipc::CHECKS,
    vcpu::CHECKS,
    cr2::CHECKS,
    ept::CHECKS,
    ports::CHECKS,
    fpu::CHECKS,
    debug::CHECKS,
    process::CHECKS,
    bases::CHECKS,
    sweep::CHECKS,
    host::CHECKS,
    interrupts::CHECKS,
];

/// Checks that need something which not every kernel has, what that is, and whether this kernel has it.
const OPTIONAL: [(&[Check], &str, bool); 5] = [
    (bases::BY_INSTRUCTION, "FSGSBASE_INST", sel4_config::FSGSBASE_INST),
    (debug::WITH_REGISTERS, "X86_VTX_GUEST_DEBUG_REGISTERS", sel4_config::X86_VTX_GUEST_DEBUG_REGISTERS),
    (long::CHECKS, "X86_64_VTX_64BIT_GUESTS", sel4_config::X86_64_VTX_64BIT_GUESTS),
    (host::COUNTED, "a count of its flushes, which our patches add", PINNED),
    // Later kernels give a port away only once, and the console has it.
    (printing::CHECKS, "PRINTING, or gives away the console's ports only once", sel4_config::PRINTING && PINNED),
];

fn main(bootinfo: BootInfoPtr) -> ! {
    let mut bench = Bench::new(bootinfo);
    let console = console::open(&mut bench);
    let optional = OPTIONAL.into_iter().flat_map(|(checks, what, has)| {
        let missing = if has { None } else { Some(what) };
        checks.iter().map(move |check| (check, missing))
    });
    let all = CHECKS.into_iter().flatten().map(|check| (check, None)).chain(optional);
    for (check, missing) in behind(all, bundle::bundle(bootinfo)) {
        let Check { defect, name, run } = check;
        if let Some(what) = missing {
            say!("left {defect}: {name}: this kernel is without {what}");
            continue;
        }
        say!("run  {defect}: {name}");
        let outcome = run(&mut bench);
        bench.take_ports_back();
        if let Err(Seen(what)) = outcome {
            say!("FAIL {defect}: {name}: {what}");
            console.power_off();
        }
        say!("ok   {defect}: {name}");
    }
    say!("end");
    console.power_off()
}

/// A check, and what it needs that the kernel is without.
type Item = (&'static Check, Option<&'static str>);

/// The checks behind the one that the bundle names; all if it names none.
fn behind(all: impl Iterator<Item = Item> + Clone, bundle: &[u8]) -> impl Iterator<Item = Item> {
    let name = bundle.split(|byte| *byte == 0).next().unwrap_or_default();
    let begin = all.clone().position(|(check, _)| check.name.as_bytes() == name).map_or(0, |at| at + 1);
    all.skip(begin)
}
