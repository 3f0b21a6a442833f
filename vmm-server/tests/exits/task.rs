//! Hardware task switches. Exit qualifications: the selector, and in bits 31:30 what started it; offsets in a TSS and bits of
//! descriptors are those of the SDM, volume 3, "Task Management".

use proptest::prelude::*;
use vmm_server::answer::{Cause, Next};
use vtx::{
    exit::RawExit,
    gpr::Gprs,
    vmcs::{Vmcs, VmcsField},
};

use crate::fake::{Guest, RIP, answer, guest, raw, reason};

const GDT: u64 = 0x5000;
/// The TSS that the guest is in, and the one that it goes to.
const OLD: u64 = 0x6000;
const NEW: u64 = 0x7000;
const OLD_SELECTOR: u16 = 0x30;
const NEW_SELECTOR: u16 = 0x38;
const CALL: u64 = 0 << 30;
const IRET: u64 = 1 << 30;
const JMP: u64 = 2 << 30;
const GATE: u64 = 3 << 30;
const NESTED: u32 = 1 << 14;

fn tss(at: u64, busy: bool) -> u64 {
    0x67 | at << 16 | (if busy { 0x8b } else { 0x89 }) << 40
}

/// A guest with two tasks and flat segments, in the first.
fn tasks() -> Guest {
    let mut guest = guest();
    let data = 0x00cf_9300_0000_ffff;
    let descriptors = [0, 0, 0x00cf_9b00_0000_ffff, data, 0x00cf_fb00_0000_ffff, 0x00cf_f300_0000_ffff];
    for (at, value) in (GDT..).step_by(8).zip(descriptors.into_iter().chain([tss(OLD, true), tss(NEW, false)])) {
        guest.vm.ram.write_u64(at, value).unwrap();
    }
    for (field, value) in [
        (VmcsField::GuestGdtrBase, GDT),
        (VmcsField::GuestGdtrLimit, 0x3f),
        (VmcsField::GuestTrSelector, OLD_SELECTOR.into()),
        (VmcsField::GuestTrBase, OLD),
        (VmcsField::GuestTrLimit, 0x67),
        (VmcsField::GuestRsp, 0xdead_0000),
    ] {
        guest.cpu.vmcs.write(field, value);
    }
    // EIP, EFLAGS, EAX to EDI, then ES, CS, SS, DS, FS, GS; no LDT.
    let state = [0x9000u32, 0x2, 1, 2, 3, 4, 0x8ff0, 6, 7, 8, 0x18, 0x10, 0x18, 0x18, 0, 0x18, 0];
    for (at, value) in (NEW + 0x20..).step_by(4).zip(state) {
        guest.vm.ram.write_u32(at, value).unwrap();
    }
    guest
}

fn switch(guest: &mut Guest, source: u64, selector: u16, vectoring: u64) -> Next {
    guest.cpu.vmcs.write(VmcsField::IdtVectoringInfo, vectoring);
    let gprs = Gprs { rax: 0x11, rcx: 0x22, rdi: 0x77, ..Gprs::default() };
    answer(guest, RawExit { rflags: 0x246, ..raw(reason::TASK_SWITCH, source | u64::from(selector), gprs) })
}

fn word(guest: &Guest, at: u64) -> u32 {
    guest.vm.ram.read_u32(at).unwrap()
}

/// Whether the descriptor of a selector says that its task is busy.
fn busy(guest: &Guest, selector: u16) -> bool {
    word(guest, GDT + u64::from(selector) + 4) & 1 << 9 != 0
}

#[test]
fn a_double_fault_goes_to_its_task_with_its_error_code() {
    let mut guest = tasks();
    guest.cpu.vmcs.write(VmcsField::IdtVectoringErrorCode, 0);
    guest.vm.ram.write_u32(0x8fec, 0x55).unwrap();
    assert_eq!(switch(&mut guest, GATE, NEW_SELECTOR, 0x8000_0b08), Next::Retry);
    // The old one is as it was at the fault.
    let saved: Vec<u32> = (0..16).map(|n| word(&guest, OLD + 0x20 + 4 * n)).collect();
    assert_eq!(saved[..2], [RIP as u32, 0x246]);
    assert_eq!([saved[2], saved[3], saved[6], saved[9]], [0x11, 0x22, 0xdead_0000, 0x77]);
    assert_eq!([saved[10], saved[11], saved[12]], [0x18, 0x10, 0x18]);
    // The new one has begun, nested in it.
    let Gprs { rax, rbx, rcx, rdx, rsi, rdi, rbp, .. } = guest.cpu.exit.gprs;
    assert_eq!([rax, rcx, rdx, rbx, rbp, rsi, rdi], [1, 2, 3, 4, 6, 7, 8]);
    assert_eq!((guest.cpu.exit.rip, guest.cpu.exit.rflags), (0x9000, 0x4002));
    assert_eq!((guest.cpu.vmcs.read(VmcsField::GuestRsp), word(&guest, 0x8fec)), (0x8fec, 0), "the error code");
    assert_eq!(word(&guest, NEW) & 0xffff, OLD_SELECTOR.into());
    assert!(busy(&guest, OLD_SELECTOR) && busy(&guest, NEW_SELECTOR));
    assert_eq!(guest.cpu.vmcs.read(VmcsField::GuestTrBase), NEW);
    assert_eq!(guest.cpu.vmcs.read(VmcsField::GuestFsAccessRights), 1 << 16);
    assert_eq!(guest.cpu.vmcs.read(VmcsField::GuestCr0) & 8, 8, "TS");
}

#[test]
fn an_instruction_is_behind_the_old_task_and_an_interrupt_is_not() {
    for (source, vectoring, eip) in [
        (CALL, 0, RIP + 2),
        (JMP, 0, RIP + 2),
        (GATE, 0x8000_0480, RIP + 2),
        (GATE, 0x8000_0603, RIP + 2),
        (GATE, 0x8000_0020, RIP),
        (GATE, 0x8000_0306, RIP),
    ] {
        let mut guest = tasks();
        assert_eq!(switch(&mut guest, source, NEW_SELECTOR, vectoring), Next::Retry);
        assert_eq!(u64::from(word(&guest, OLD + 0x20)), eip, "{source:x} {vectoring:x}");
        assert_eq!(guest.cpu.vmcs.read(VmcsField::GuestRsp), 0x8ff0, "no error code");
    }
}

#[test]
fn a_jump_leaves_the_old_task_and_a_return_ends_the_nested_one() {
    let mut guest = tasks();
    assert_eq!(switch(&mut guest, JMP, NEW_SELECTOR, 0), Next::Retry);
    assert!(!busy(&guest, OLD_SELECTOR) && busy(&guest, NEW_SELECTOR));
    assert_eq!((guest.cpu.exit.rflags as u32 & NESTED, word(&guest, NEW)), (0, 0));

    let mut guest = tasks();
    assert_eq!(switch(&mut guest, CALL, NEW_SELECTOR, 0), Next::Retry);
    assert_eq!(guest.cpu.exit.rflags as u32 & NESTED, NESTED);
    assert_eq!(switch(&mut guest, IRET, OLD_SELECTOR, 0), Next::Retry);
    assert!(busy(&guest, OLD_SELECTOR) && !busy(&guest, NEW_SELECTOR));
    assert_eq!(guest.cpu.exit.rip, RIP + 2);
    assert_eq!(word(&guest, NEW + 0x24) & NESTED, 0, "it is not nested any more");
}

#[test]
fn paging_goes_on_with_the_new_tasks_tables() {
    let mut guest = tasks();
    for table in [0x2_0000, 0x3_0000] {
        guest.vm.ram.write_u32(table, 0x83).unwrap(); // the lowest 4 MiB, to themselves
    }
    guest.vm.ram.write_u32(NEW + 0x1c, 0x3_0000).unwrap();
    guest.cpu.vmcs.write(VmcsField::GuestCr3, 0x2_0000);
    guest.cpu.control.mov_to(vtx::exit::Cr::Cr4, 0x10).unwrap();
    guest.cpu.control.mov_to(vtx::exit::Cr::Cr3, 0x2_0000).unwrap();
    let program = guest.cpu.control.mov_to(vtx::exit::Cr::Cr0, 0x8000_0011).unwrap();
    vmm_server::control::apply(&mut guest.stopped(), &program).unwrap();
    guest.cpu.vmcs.write(VmcsField::IdtVectoringInfo, 0);
    let exit = raw(reason::TASK_SWITCH, JMP | u64::from(NEW_SELECTOR), Gprs::default());
    assert_eq!(answer(&mut guest, RawExit { cr3: 0x2_0000, ..exit }), Next::Retry);
    assert_eq!(guest.cpu.vmcs.read(VmcsField::GuestCr3), 0x3_0000);
}

#[test]
fn what_is_no_task_resets_the_guest() {
    type Spoil = fn(&mut Guest);
    let spoilt: [Spoil; 7] = [
        |guest| guest.vm.ram.write_u64(GDT + 0x38, 0x67 | NEW << 16 | 0x81 << 40).unwrap(), // 16 bits
        |guest| guest.vm.ram.write_u64(GDT + 0x38, 0x66 | NEW << 16 | 0x89 << 40).unwrap(), // too short
        |guest| guest.cpu.vmcs.write(VmcsField::GuestGdtrLimit, 0x3e),
        |guest| guest.vm.ram.write_u32(NEW + 0x24, 1 << 17).unwrap(), // virtual-8086
        |guest| guest.vm.ram.write_u32(NEW + 0x4c, 0x18).unwrap(),    // CS is data
        |guest| guest.vm.ram.write_u32(NEW + 0x50, 0x2b).unwrap(),    // SS of another level
        |guest| guest.vm.ram.write_u32(NEW + 0x60, 0x18).unwrap(),    // LDT is data
    ];
    for (number, spoil) in spoilt.into_iter().enumerate() {
        let mut guest = tasks();
        spoil(&mut guest);
        let next = switch(&mut guest, CALL, NEW_SELECTOR, 0);
        assert!(matches!(next, Next::Reset(Cause::Unsupported(_))), "{number}: {next:?}");
    }
}

#[test]
fn a_tss_may_wrap_around_the_end_of_addresses() {
    let top = 0xffff_fff0;
    let mut guest = tasks();
    guest.cpu.vmcs.write(VmcsField::GuestTrBase, top);
    assert!(matches!(switch(&mut guest, JMP, NEW_SELECTOR, 0), Next::Retry | Next::Reset(_)));
    let mut guest = tasks();
    guest.vm.ram.write_u64(GDT + 0x38, 0x67 | (top & 0xff_ffff) << 16 | 0x89 << 40 | top >> 24 << 56).unwrap();
    assert!(matches!(switch(&mut guest, JMP, NEW_SELECTOR, 0), Next::Retry | Next::Reset(_)));
}

#[test]
fn a_tss_whose_limit_counts_pages_keeps_its_granularity() {
    let mut guest = tasks();
    guest.vm.ram.write_u64(GDT + 0x38, 0x100 | NEW << 16 | 0x89 << 40 | 1 << 55).unwrap();
    assert_eq!(switch(&mut guest, JMP, NEW_SELECTOR, 0), Next::Retry);
    assert_eq!(guest.cpu.vmcs.read(VmcsField::GuestTrAccessRights), 0x808b);
    assert_eq!(guest.cpu.vmcs.read(VmcsField::GuestTrLimit), 0x10_0fff);
}

#[test]
fn an_ldt_is_not_described_in_an_ldt() {
    let mut guest = tasks();
    guest.cpu.vmcs.write(VmcsField::GuestLdtrBase, 0x8000);
    guest.cpu.vmcs.write(VmcsField::GuestLdtrLimit, 0xff);
    guest.vm.ram.write_u64(0x8008, 0xff | 0x8000 << 16 | 0x82 << 40).unwrap();
    guest.vm.ram.write_u32(NEW + 0x60, 0xc).unwrap();
    assert!(matches!(switch(&mut guest, JMP, NEW_SELECTOR, 0), Next::Reset(Cause::Unsupported(_))));
}

#[test]
fn a_task_is_not_described_in_an_ldt() {
    let mut guest = tasks();
    let task = guest.vm.ram.read_u64(GDT + u64::from(NEW_SELECTOR)).unwrap();
    guest.cpu.vmcs.write(VmcsField::GuestLdtrBase, 0x8000);
    guest.cpu.vmcs.write(VmcsField::GuestLdtrLimit, 0xff);
    guest.vm.ram.write_u64(0x8000 + u64::from(NEW_SELECTOR), task).unwrap();
    assert!(matches!(switch(&mut guest, JMP, NEW_SELECTOR | 4, 0), Next::Reset(Cause::Unsupported(_))));
}

/// Addresses at the tables, in RAM, and at the end of everything.
fn address() -> impl Strategy<Value = u64> {
    let near = |at: u64| (0..0x80u64).prop_map(move |offset| at + offset);
    prop_oneof![near(GDT), near(OLD), near(NEW), near(0xffff_ff80), near(0xf_ff80), any::<u32>().prop_map(u64::from)]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(4_000) })]

    /// `answer` checks that a processor enters what comes of it.
    #[test]
    fn whatever_the_tables_hold_a_switch_has_an_answer(
        fields in prop::collection::vec((0..7usize, address()), 0..3),
        flips in prop::collection::vec((0..8u64, 0..64u32), 0..3),
        state in prop::collection::vec((0..26u64, any::<u32>()), 0..3),
        source in 0..4u64,
        selector in prop_oneof![3 => Just(NEW_SELECTOR), 1 => 0..0x48u16, 1 => any::<u16>()],
        vectoring in prop::sample::select(vec![0u64, 0x8000_0b08, 0x8000_0306, 0x8000_0030, 0x8000_0480]),
    ) {
        const FIELDS: [VmcsField; 7] = [
            VmcsField::GuestTrBase, VmcsField::GuestTrLimit, VmcsField::GuestGdtrBase, VmcsField::GuestLdtrBase,
            VmcsField::GuestLdtrLimit, VmcsField::GuestRsp, VmcsField::GuestSsBase,
        ];
        let mut guest = tasks();
        for (number, bit) in flips {
            let old = guest.vm.ram.read_u64(GDT + 8 * number).unwrap();
            guest.vm.ram.write_u64(GDT + 8 * number, old ^ 1 << bit).unwrap();
        }
        for (word, value) in state {
            guest.vm.ram.write_u32(NEW + 4 * word, value).unwrap();
        }
        for (field, value) in fields {
            guest.cpu.vmcs.write(FIELDS[field], value);
        }
        let next = switch(&mut guest, source << 30, selector, vectoring);
        prop_assert!(matches!(next, Next::Retry | Next::Reset(_)), "{:?}", next);
    }
}
