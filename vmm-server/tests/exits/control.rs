//! Control-register exits.

use vmm_server::{
    answer::{Cause, Next},
    linux::low,
};
use vtx::{
    gpr::Gprs,
    vmcs::{PrimaryControls, Vmcs, VmcsField},
};

use crate::fake::{Guest, answer, guest, raw, reason};

/// Exit qualifications of MOV EAX to and from a control register.
const fn to(cr: u64) -> u64 {
    cr
}
const fn from(cr: u64) -> u64 {
    cr | 1 << 4
}
const CR0: u64 = 0;
const CR3: u64 = 3;
const CR4: u64 = 4;
const PG: u64 = 1 << 31;
const PROTECTED: u64 = 0x11;
const PAE: u64 = 1 << 5;

fn write(guest: &mut Guest, cr: u64, value: u64) -> Next {
    let mut exit = raw(reason::CR, to(cr), Gprs { rax: value, ..Gprs::default() });
    exit.cr3 = guest.cpu.vmcs.read(VmcsField::GuestCr3);
    answer(guest, exit)
}

fn read(guest: &mut Guest, cr: u64) -> u64 {
    let mut exit = raw(reason::CR, from(cr), Gprs::default());
    exit.cr3 = guest.cpu.vmcs.read(VmcsField::GuestCr3);
    assert_eq!(answer(guest, exit), Next::Skip);
    guest.cpu.exit.gprs.rax
}

#[test]
fn without_paging_cr3_is_remembered_and_the_identity_pages_stay() {
    let mut guest = guest();
    assert_eq!(write(&mut guest, CR3, 0x1234_5000), Next::Skip);
    assert_eq!(guest.cpu.vmcs.writes, 0);
    assert_eq!(guest.cpu.vmcs.read(VmcsField::GuestCr3), low::PAGE_DIRECTORY);
    assert_eq!(read(&mut guest, CR3), 0x1234_5000);
}

#[test]
fn paging_takes_the_guests_cr3_and_its_exits_away() {
    let mut guest = guest();
    write(&mut guest, CR3, 0x5000);
    assert_eq!(write(&mut guest, CR0, PROTECTED | PG), Next::Skip);
    assert_eq!(guest.cpu.vmcs.read(VmcsField::GuestCr3), 0x5000);
    assert!(!guest.cpu.primary.intersects(PrimaryControls::CR3_LOAD | PrimaryControls::CR3_STORE));
    // It loads another one by itself, and turns paging off.
    guest.cpu.vmcs.write(VmcsField::GuestCr3, 0x6000);
    assert_eq!(write(&mut guest, CR0, PROTECTED), Next::Skip);
    assert_eq!(guest.cpu.vmcs.read(VmcsField::GuestCr3), low::PAGE_DIRECTORY);
    assert!(guest.cpu.primary.contains(PrimaryControls::CR3_LOAD | PrimaryControls::CR3_STORE));
    assert_eq!(read(&mut guest, CR3), 0x6000);
}

#[test]
fn a_refused_write_is_a_protection_fault_and_changes_nothing() {
    let mut guest = guest();
    for (cr, value) in [(CR0, PG | 0x10), (CR0, PROTECTED | 1 << 29), (CR4, 1 << 13), (CR4, 1 << 31)] {
        assert_eq!(write(&mut guest, cr, value), Next::PROTECTION, "CR{cr} {value:#x}");
    }
    assert_eq!(guest.cpu.vmcs.writes, 0);
    assert_eq!((read(&mut guest, CR0), read(&mut guest, CR4)), (PROTECTED, 0));
}

#[test]
fn leaving_protected_mode_is_a_reset() {
    assert_eq!(write(&mut guest(), CR0, 0x10), Next::Reset(Cause::RealMode));
}

#[test]
fn pae_loads_its_four_pointers() {
    let mut guest = guest();
    write(&mut guest, CR4, PAE);
    write(&mut guest, CR3, 0x5020);
    for (at, entry) in [(0x5020, 0x1001), (0x5028, 0), (0x5030, 0x2001), (0x5038, 0x3001)] {
        guest.vm.ram.write_u64(at, entry).unwrap();
    }
    assert_eq!(write(&mut guest, CR0, PROTECTED | PG), Next::Skip);
    assert_eq!(guest.cpu.vmcs.read(VmcsField::GuestPdpte0), 0x1001);
    assert_eq!(guest.cpu.vmcs.read(VmcsField::GuestPdpte3), 0x3001);
}

#[test]
fn pae_loads_them_again_only_where_a_processor_does() {
    const PSE: u64 = 1 << 4;
    const MCE: u64 = 1 << 6;
    const WP: u64 = 1 << 16;
    const CD: u64 = 1 << 30;
    for (cr, value, loads) in [
        (CR4, PAE | MCE, false),
        (CR0, PROTECTED | PG | WP, false),
        (CR4, PAE | PSE, true),
        (CR0, PROTECTED | PG | CD, true),
    ] {
        let mut guest = guest();
        write(&mut guest, CR4, PAE);
        write(&mut guest, CR3, 0x5000);
        assert_eq!(write(&mut guest, CR0, PROTECTED | PG), Next::Skip);
        // What is in memory now no processor takes.
        guest.vm.ram.write_u64(0x5000, 3).unwrap();
        let expected = if loads { Next::PROTECTION } else { Next::Skip };
        assert_eq!(write(&mut guest, cr, value), expected, "CR{cr} {value:#x}");
    }
}

#[test]
fn pae_with_bad_pointers_is_a_protection_fault_and_paging_stays_off() {
    for (cr3, entry) in [(0x5000, 0x1003), (0x5000, 1 << 40 | 1), (0xe000_0000, 0)] {
        let mut guest = guest();
        write(&mut guest, CR4, PAE);
        write(&mut guest, CR3, cr3);
        guest.vm.ram.write_u64(0x5010, entry).unwrap();
        assert_eq!(write(&mut guest, CR0, PROTECTED | PG), Next::PROTECTION);
        assert_eq!(read(&mut guest, CR0), PROTECTED);
        assert_eq!(guest.cpu.vmcs.read(VmcsField::GuestCr3), low::PAGE_DIRECTORY);
    }
}

/// The kernel drops a guest's cached translations before the next entry when one of these is written.
fn dropped(guest: &Guest) -> [u32; 3] {
    [VmcsField::GuestCr0, VmcsField::GuestCr3, VmcsField::GuestCr4].map(|field| guest.cpu.vmcs.written(field))
}

#[test]
fn translations_are_dropped_where_the_guest_expects_it_and_nowhere_else() {
    const PSE: u64 = 1 << 4;
    const PGE: u64 = 1 << 7;
    const CD: u64 = 1 << 30;
    let mut guest = guest();
    assert_eq!(dropped(&guest), [1; 3], "at the start");
    let mut before = [1; 3];
    // Register, value, and which fields change: with paging off, on the identity pages; with it; and off again.
    for (cr, value, changes) in [
        (CR4, PSE, [0, 0, 0]),
        (CR3, low::PAGE_DIRECTORY, [0, 0, 0]),
        (CR0, PROTECTED | PG, [0, 1, 0]),
        (CR0, PROTECTED | PG | CD, [0, 0, 0]),
        (CR0, PROTECTED | PG | 1 << 16, [1, 0, 0]),
        (CR4, PGE, [0, 0, 1]),
        (CR4, PSE | PGE, [0, 0, 1]),
        (CR4, PSE, [0, 0, 1]),
        (CR4, PSE | 1 << 6, [0, 0, 0]),
        (CR0, PROTECTED, [1, 1, 0]),
        (CR3, 0x5000, [0, 0, 0]),
        (CR0, PROTECTED | PG, [0, 1, 0]),
    ] {
        assert_eq!(write(&mut guest, cr, value), Next::Skip);
        let after = dropped(&guest);
        assert_eq!([0, 1, 2].map(|field| after[field] - before[field]), changes, "CR{cr} {value:#x}");
        before = after;
    }
}

#[test]
fn a_start_drops_all_translations_whatever_was_there() {
    let mut guest = guest();
    let program = guest.cpu.control.program();
    vmm_server::control::apply(&mut guest.stopped(), &program).unwrap();
    assert_eq!(dropped(&guest), [2; 3]);
}

#[test]
fn clts_and_lmsw_reach_cr0() {
    const CLTS: u64 = 2 << 4;
    const LMSW_TS: u64 = 3 << 4 | 8 << 16;
    const TS: u64 = 1 << 3;
    let mut guest = guest();
    assert_eq!(answer(&mut guest, raw(reason::CR, LMSW_TS, Gprs::default())), Next::Skip);
    assert_eq!(guest.cpu.vmcs.read(VmcsField::GuestCr0) & TS, TS);
    assert_eq!(answer(&mut guest, raw(reason::CR, CLTS, Gprs::default())), Next::Skip);
    assert_eq!(guest.cpu.vmcs.read(VmcsField::GuestCr0) & TS, 0);
}
