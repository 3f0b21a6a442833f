//! Instructions that exit, other than I/O and control registers.

use vmm_server::answer::{Cause, Next};
use vtx::{
    exit::{EntryFailure, Exit, RawExit},
    gpr::Gprs,
};

use crate::fake::{TSC, answer, guest, raw, reason};

fn msr(reason: u32, number: u64, high: u64, low: u64) -> (Next, u64, u64) {
    let mut guest = guest();
    let next = answer(&mut guest, raw(reason, 0, Gprs { rcx: number, rdx: high, rax: low, ..Gprs::default() }));
    (next, guest.cpu.exit.gprs.rdx, guest.cpu.exit.gprs.rax)
}

#[test]
fn an_msr_is_read_in_halves() {
    assert_eq!(msr(reason::RDMSR, 0x10, u64::MAX, u64::MAX), (Next::Skip, TSC >> 32, TSC & 0xffff_ffff));
    assert_eq!(msr(reason::RDMSR, 0x1b, 1, 1), (Next::Skip, 0, 0xfee0_0900));
}

#[test]
fn an_unknown_msr_is_a_protection_fault_and_changes_nothing() {
    for number in [0, 0x277, 0xc000_0082, 0xffff_ffff] {
        assert_eq!(msr(reason::RDMSR, number, 5, 6), (Next::PROTECTION, 5, 6), "{number:#x}");
        assert_eq!(msr(reason::WRMSR, number, 0, 0).0, Next::PROTECTION, "{number:#x}");
    }
}

#[test]
fn an_msr_is_written_from_halves() {
    assert_eq!(msr(reason::WRMSR, 0xc000_0080, 0, 0).0, Next::Skip);
    assert_eq!(msr(reason::WRMSR, 0xc000_0080, 1, 0).0, Next::PROTECTION, "the upper half counts");
    assert_eq!(msr(reason::WRMSR, 0x10, 1, 2).0, Next::Skip);
}

#[test]
fn cpuid_sets_all_four_registers() {
    let mut guest = guest();
    let ones = Gprs { rax: 0x4000_0000, rbx: u64::MAX, rcx: u64::MAX, rdx: u64::MAX, ..Gprs::default() };
    assert_eq!(answer(&mut guest, raw(reason::CPUID, 0, ones)), Next::Skip);
    let Gprs { rax, rbx, rcx, rdx, .. } = guest.cpu.exit.gprs;
    let text = [rbx, rcx, rdx].map(|register| (register as u32).to_le_bytes()).concat();
    assert_eq!((rax, text.as_slice()), (0x4000_0000, b"PortcullisVM".as_slice()));
    assert!(guest.cpu.take_registers_changed());
}

#[test]
fn cpuid_shows_no_vmx_and_no_leaf_of_xsave() {
    let mut guest = guest();
    answer(&mut guest, raw(reason::CPUID, 0, Gprs { rax: 1, ..Gprs::default() }));
    assert_eq!(guest.cpu.exit.gprs.rcx & 1 << 5, 0);
    answer(&mut guest, raw(reason::CPUID, 0, Gprs { rax: 0xd, rcx: 1, ..Gprs::default() }));
    let Gprs { rax, rbx, rcx, rdx, .. } = guest.cpu.exit.gprs;
    assert_eq!([rax, rbx, rcx, rdx], [0; 4]);
}

#[test]
fn a_halt_waits_with_interrupts_on_and_switches_off_without() {
    let mut halting = raw(reason::HLT, 0, Gprs::default());
    assert_eq!(answer(&mut guest(), halting), Next::Halt);
    halting.rflags = 2;
    assert_eq!(answer(&mut guest(), halting), Next::PowerOff);
}

#[test]
fn a_halt_that_is_single_stepped_ends_at_its_trap() {
    let mut guest = guest();
    let next =
        answer(&mut guest, RawExit { instruction_len: 1, rflags: 0x302, ..raw(reason::HLT, 0, Gprs::default()) });
    guest.cpu.follow();
    assert_eq!((next, guest.cpu.has_trap()), (Next::Halt, true), "vmm-server waits for nothing then");
}

#[test]
fn instructions_that_the_guest_has_not_are_undefined() {
    // GETSEC; VMCLEAR to VMXON; MWAIT; MONITOR; INVEPT; RDTSCP; INVVPID; XSETBV; RDRAND; INVPCID; VMFUNC; ENCLS; RDSEED;
    // XSAVES; XRSTORS; PCONFIG; UMWAIT; TPAUSE; LOADIWKEY; ENCLV.
    let reasons = [11, 36, 39, 50, 51, 53, 55, 57, 58, 59, 60, 61, 63, 64, 65, 67, 68, 69, 70];
    for reason in (19..=27).chain(reasons) {
        assert_eq!(answer(&mut guest(), raw(reason, 0, Gprs::default())), Next::UNDEFINED, "{reason}");
    }
}

#[test]
fn instructions_that_change_nothing_here_are_done() {
    for reason in [13, 14, 40, 54] {
        assert_eq!(answer(&mut guest(), raw(reason, 0, Gprs::default())), Next::Skip, "{reason}");
    }
}

#[test]
fn rdpmc_is_a_protection_fault() {
    assert_eq!(answer(&mut guest(), raw(15, 0, Gprs::default())), Next::PROTECTION);
}

#[test]
fn exits_that_no_instruction_caused_go_on_where_they_were() {
    // 0 without a debug exception is an NMI of the host's.
    for reason in [0, 7, 8, 52] {
        assert_eq!(answer(&mut guest(), raw(reason, 0, Gprs::default())), Next::Retry, "{reason}");
    }
}

#[test]
fn what_cannot_be_followed_resets_the_guest_and_says_why() {
    for (reason, cause) in [
        (2, Cause::TripleFault),
        (33, Cause::EntryFailure(EntryFailure::GuestState)),
        (u32::MAX, Cause::EntryFailure(EntryFailure::Instruction)),
        (49, Cause::Unexpected(Exit::EptMisconfiguration(0))),
        (999, Cause::Unexpected(Exit::Other(999))),
    ] {
        assert_eq!(answer(&mut guest(), raw(reason, 0, Gprs::default())), Next::Reset(cause));
    }
}
