//! CR2, the page-fault address, which no VMCS holds: two guests that do nothing but fault, each at an address of its
//! own, preempt each other. CR2 is lost if the other guest faults between a fault and its handler's read.

use core::sync::atomic::Ordering::SeqCst;

use sel4::Word;
use vtx::vmcs::VmcsField as F;

use crate::bench::{Bench, SELF};
use crate::check::{Check, Outcome, expect};
use crate::guest::{Guest, reason};
use crate::thread::{EQUAL, REASON, Thread, reaches, run_guest};

/// The checks of this file.
pub const CHECKS: &[Check] = &[
    Check { defect: "cr2", name: "a guest keeps its page-fault address", run: lock_step },
    Check { defect: "cr2", name: "guests that preempt each other keep their page-fault addresses", run: preempted },
];

/// Two guests, one after the other.
fn lock_step(bench: &mut Bench) -> Outcome {
    // mov eax, 0x11112222; mov cr2, eax; hlt; mov eax, cr2; hlt
    const SET_AND_GET: [u8; 13] = [0xb8, 0x22, 0x22, 0x11, 0x11, 0x0f, 0x22, 0xd0, 0xf4, 0x0f, 0x20, 0xd0, 0xf4];
    // mov eax, 1; mov cr2, eax; hlt
    const SET: [u8; 9] = [0xb8, 0x01, 0x00, 0x00, 0x00, 0x0f, 0x22, 0xd0, 0xf4];
    let guest = Guest::new(bench, &SET_AND_GET)?;
    let set = guest.enter(0);
    expect("reason of the exit", set.reason, reason::HLT)?;
    let other = Guest::new(bench, &SET)?;
    expect("reason of the other guest's exit", other.enter(0).reason, reason::HLT)?;
    guest.bind(SELF)?;
    let get = guest.enter(set.next);
    expect("reason of the second exit", get.reason, reason::HLT)?;
    expect("CR2", get.eax, 0x1111_2222)
}

/// Page faults of each guest: together a million, which take some seventy time slices.
const FAULTS: u32 = 500_000;
/// Where the page-fault handler is in [`faulting`]'s code.
const HANDLER: u8 = 0x19;
/// Where that code leaves its count.
const LOST: usize = 0x800;

/// Faults at an address again and again, and counts how often CR2 is another one in the handler.
fn faulting(address: u32) -> [u8; 0x31] {
    let [a, b, c, d] = address.to_le_bytes();
    let [k, l, m, n] = FAULTS.to_le_bytes();
    [
        0xbb, a, b, c, d, //                        mov ebx, address
        0xbe, k, l, m, n, //                        mov esi, FAULTS
        0x31, 0xff, //                              xor edi, edi
        0x8b, 0x03, //                       again: mov eax, [ebx]
        0x4e, //                                    dec esi
        0x75, 0xfb, //                              jnz again
        0x89, 0x3d, 0x00, 0x08, 0x00, 0x00, //      mov [LOST], edi
        0xf4, //                                    hlt
        0x90, //                                    nop
        // As Linux's, the handler does something before it reads CR2.
        0xb9, 0x0a, 0x00, 0x00, 0x00, //   HANDLER: mov ecx, 10
        0x49, //                              wait: dec ecx
        0x75, 0xfd, //                              jnz wait
        0x0f, 0x20, 0xd0, //                        mov eax, cr2
        0x39, 0xd8, //                              cmp eax, ebx
        0x74, 0x01, //                              je own
        0x47, //                                    inc edi
        0x83, 0xc4, 0x04, //                   own: add esp, 4
        0x83, 0x04, 0x24, 0x02, //                  add dword [esp], 2
        0xcf, //                                    iret
    ]
}

/// Completes a guest with [`faulting`]'s code: a trap gate for its page faults, and a stack.
fn with_handler(bench: &mut Bench, guest: &Guest) -> sel4::Result<()> {
    const PAGE_FAULT: usize = 14;
    const IDT: usize = 0x900;
    const GDT: usize = 0xa00;
    // Entry 1 is flat code.
    bench.scratch.write(guest.code, GDT + 8, &[0xff, 0xff, 0, 0, 0, 0x9b, 0xcf, 0])?;
    bench.scratch.write(guest.code, IDT + PAGE_FAULT * 8, &[HANDLER, 0, 0x08, 0, 0, 0x8f, 0, 0])?;
    for (field, value) in [
        (F::GuestGdtrBase, GDT as Word),
        (F::GuestIdtrBase, IDT as Word),
        (F::GuestIdtrLimit, 0xff),
        (F::GuestRsp, LOST as Word),
    ] {
        guest.vcpu.vcpu_write_vmcs(field as u32, value)?;
    }
    Ok(())
}

/// How many of a guest's page faults had another address.
fn lost(bench: &mut Bench, guest: &Guest) -> sel4::Result<u32> {
    let mut count = [0; 4];
    bench.scratch.read(guest.code, LOST, &mut count)?;
    Ok(u32::from_le_bytes(count))
}

/// Two guests, one in a thread of its own.
fn preempted(bench: &mut Bench) -> Outcome {
    let vcpu = bench.make()?;
    let thread = Thread::new(bench, run_guest, vcpu.bits(), EQUAL)?;
    let other = Guest::with(bench, vcpu, thread.tcb, &faulting(0x2000_0000))?;
    with_handler(bench, &other)?;
    let ours = Guest::new(bench, &faulting(0x1000_0000))?;
    with_handler(bench, &ours)?;
    thread.start()?;
    expect("reason of our guest's exit", ours.enter(0).reason, reason::HLT)?;
    expect("the other guest comes to its end", reaches(2), true)?;
    expect("reason of its exit", REASON.load(SeqCst) as u32, reason::HLT)?;
    let counts = [lost(bench, &ours)?, lost(bench, &other)?];
    expect("page faults of each guest, of half a million, that had another address", counts, [0, 0])
}
