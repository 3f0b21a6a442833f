//! Exits, from the bit positions of the SDM's tables "Exit Qualification for …", typed in again here.

use proptest::prelude::*;
use vtx::exit::*;
use vtx::gpr::Gpr;

fn exit(reason: u32, qualification: u64) -> Exit {
    Exit::decode(&RawExit { reason, qualification, ..RawExit::default() })
}

fn io(qualification: u64) -> Io {
    let Exit::Io(io) = exit(30, qualification) else { panic!() };
    io
}

#[test]
fn out_of_al_to_an_immediate_port() {
    let io = io(0x0080_0040);
    assert_eq!((io.port(), io.width(), io.direction()), (0x80, Width::Byte, Direction::Out));
    assert_eq!((io.string(), io.rep(), io.immediate()), (false, false, true));
}

#[test]
fn rep_insd_from_dx() {
    let io = io(0x01f0_003b);
    assert_eq!((io.port(), io.width(), io.direction()), (0x1f0, Width::Dword, Direction::In));
    assert_eq!((io.string(), io.rep(), io.immediate()), (true, true, false));
}

#[test]
fn word_input_is_size_code_1() {
    let io = io(0x0cfc_0009);
    assert_eq!((io.port(), io.width(), io.direction()), (0xcfc, Width::Word, Direction::In));
}

#[test]
fn control_register_exits_name_their_operands() {
    assert_eq!(exit(28, 0x000), Exit::CrAccess(CrAccess::MovTo { cr: Cr::Cr0, gpr: Gpr::Rax }));
    assert_eq!(exit(28, 0x403), Exit::CrAccess(CrAccess::MovTo { cr: Cr::Cr3, gpr: Gpr::Rsp }));
    assert_eq!(exit(28, 0x714), Exit::CrAccess(CrAccess::MovFrom { cr: Cr::Cr4, gpr: Gpr::Rdi }));
    assert_eq!(exit(28, 0x020), Exit::CrAccess(CrAccess::Clts));
    assert_eq!(exit(28, 0xfff1_0030), Exit::CrAccess(CrAccess::Lmsw { value: 0xfff1 }));
}

#[test]
fn a_control_register_that_does_not_exist_is_an_unknown_exit() {
    assert_eq!(exit(28, 0x005), Exit::Other(28));
}

#[test]
fn debug_register_exits_name_their_operands() {
    assert_eq!(exit(29, 0x307), Exit::DrAccess(DrAccess { dr: 7, direction: Direction::Out, gpr: Gpr::Rbx }));
    assert_eq!(exit(29, 0x016), Exit::DrAccess(DrAccess { dr: 6, direction: Direction::In, gpr: Gpr::Rax }));
}

#[test]
fn a_write_to_unmapped_memory() {
    let raw = RawExit { reason: 48, qualification: 0x182, guest_physical: 0xfee0_0020, ..RawExit::default() };
    let Exit::EptViolation(violation) = Exit::decode(&raw) else { panic!() };
    assert_eq!((violation.gpa, violation.target()), (0xfee0_0020, EptTarget::Operand));
    assert_eq!((violation.read(), violation.write(), violation.exec()), (false, true, false));
    assert!(!violation.nmi_unblocked());
}

#[test]
fn an_ept_violation_of_a_page_table_is_not_an_operand() {
    let Exit::EptViolation(walk) = exit(48, 0x81) else { panic!() };
    assert_eq!(walk.target(), EptTarget::PageWalk);
    let Exit::EptViolation(fetch) = exit(48, 0x1184) else { panic!() };
    assert_eq!((fetch.exec(), fetch.target(), fetch.nmi_unblocked()), (true, EptTarget::Operand, true));
    let Exit::EptViolation(pdpte) = exit(48, 0x101) else { panic!() };
    assert_eq!(pdpte.target(), EptTarget::NoLinear);
}

#[test]
fn a_task_gate() {
    let expected = Exit::TaskSwitch { selector: 0x28, source: TaskSwitchSource::TaskGate };
    assert_eq!(exit(9, 0xc000_0028), expected);
}

#[test]
fn every_vmx_instruction_is_one_kind_of_exit() {
    assert_eq!(exit(18, 0), Exit::Vmcall);
    for reason in [19, 20, 21, 22, 23, 24, 25, 26, 27, 50, 53, 59] {
        assert_eq!(exit(reason, 0), Exit::VmxInstruction, "reason {reason}");
    }
}

#[test]
fn a_failed_entry_is_distinguished_from_an_exit() {
    assert_eq!(exit(u32::MAX, u64::MAX), Exit::EntryFailure(EntryFailure::Instruction));
    assert_eq!(exit(33, 0), Exit::EntryFailure(EntryFailure::GuestState));
    // As the processor stores it, with the entry-failure bit.
    assert_eq!(exit(0x8000_0021, 0), Exit::EntryFailure(EntryFailure::GuestState));
}

#[test]
fn every_reason_up_to_70_has_a_name_but_the_reserved_ones() {
    let nameless: Vec<u32> = (0..=70).filter(|&r| matches!(exit(r, 0), Exit::Other(_))).collect();
    assert_eq!(nameless, [35, 38, 42]);
}

proptest! {
    #[test]
    fn any_raw_exit_decodes(reason: u32, low in 0u32..80, qualification: u64, guest_physical: u64) {
        for reason in [reason, low] {
            Exit::decode(&RawExit { reason, qualification, guest_physical, ..RawExit::default() });
        }
    }
}
