//! Control registers, with Linux's own sequence of writes and the rules of MOV CRn.

use proptest::prelude::*;
use vtx::cr::*;
use vtx::event::Exception;
use vtx::exit::Cr;

const IDENTITY: u64 = 0xf_0000;
const GP: Refusal = Refusal::Raise(Exception::GeneralProtection);
const SMEP: u64 = 1 << 20;
const SMAP: u64 = 1 << 21;

fn at_boot() -> ControlRegisters {
    ControlRegisters::new(IDENTITY, SMEP)
}

fn paged() -> ControlRegisters {
    let mut crs = at_boot();
    crs.mov_to(Cr::Cr3, 0x0123_4000).unwrap();
    crs.mov_to(Cr::Cr0, 0x8005_0033).unwrap();
    crs
}

#[test]
fn a_guest_starts_on_the_identity_directory_and_does_not_see_it() {
    let program = at_boot().program();
    assert_eq!(program.real, Real { cr0: 0x8000_0031, cr3: IDENTITY, cr4: 0x2010 });
    assert_eq!(program.cr0_shadow & program.cr0_mask, 0x1);
    assert_eq!(program.cr4_shadow & program.cr4_mask, 0);
    assert!(program.cr3_exits);
    assert_eq!(at_boot().paging(), Paging::Off);
}

#[test]
fn linux_turns_paging_on() {
    let mut crs = at_boot();
    let program = crs.mov_to(Cr::Cr3, 0x0123_4000).unwrap();
    assert_eq!(program.real.cr3, IDENTITY);
    assert_eq!(crs.read(Cr::Cr3), 0x0123_4000);
    crs.mov_to(Cr::Cr4, 0x0000_0090).unwrap();
    let program = crs.mov_to(Cr::Cr0, 0x8005_0033).unwrap();
    assert_eq!(program.real, Real { cr0: 0x8005_0033, cr3: 0x0123_4000, cr4: 0x2090 });
    assert!(!program.cr3_exits);
    assert_eq!(crs.paging(), Paging::Bits32 { large: true });
}

#[test]
fn turning_paging_off_goes_back_to_the_identity_directory() {
    let mut crs = paged();
    crs.refresh(Real { cr0: 0x8005_0033, cr3: 0x0765_4000, cr4: 0x2090 });
    let program = crs.mov_to(Cr::Cr0, 0x11).unwrap();
    assert_eq!(program.real.cr3, IDENTITY);
    assert_eq!(crs.read(Cr::Cr3), 0x0765_4000, "loaded without an exit");
    assert_eq!(crs.read(Cr::Cr4), 0x80, "PGE set without an exit");
}

#[test]
fn cache_disable_stays_with_the_guest() {
    let mut crs = paged();
    let program = crs.mov_to(Cr::Cr0, 0xc005_0033).unwrap();
    assert_eq!(program.real.cr0, 0x8005_0033);
    assert_eq!(program.cr0_shadow, 0xc005_0033);
    assert_eq!(program.cr0_mask & 0x6000_0000, 0x6000_0000);
}

#[test]
fn the_kernel_keeps_the_fpu_bits() {
    assert_eq!(paged().program().cr0_mask & 0xe, 0);
}

#[test]
fn bad_combinations_get_a_general_protection_fault() {
    let mut crs = paged();
    assert_eq!(crs.mov_to(Cr::Cr0, 0x8000_0000), Err(GP), "PG without PE");
    assert_eq!(crs.mov_to(Cr::Cr0, 0xa000_0011), Err(GP), "NW without CD");
    assert_eq!(crs.mov_to(Cr::Cr0, 1 << 32 | 0x11), Err(GP));
    assert_eq!(crs, paged(), "nothing changed");
}

#[test]
fn features_that_cpuid_hides_cannot_be_enabled() {
    let mut crs = paged();
    for bit in [11, 12, 13, 14, 16, 17, 18, 21, 22, 23, 31, 40] {
        assert_eq!(crs.mov_to(Cr::Cr4, 1 << bit), Err(GP), "bit {bit}");
    }
    assert!(crs.mov_to(Cr::Cr4, SMEP).is_ok());
}

#[test]
fn machine_checks_are_enabled_in_the_guests_eyes_only() {
    let mut crs = paged();
    let program = crs.mov_to(Cr::Cr4, 0x40).unwrap();
    assert_eq!((program.real.cr4, program.cr4_shadow, program.cr4_mask & 0x40), (0x2000, 0x40, 0x40));
}

#[test]
fn supervisor_protections_wait_for_paging() {
    let mut crs = ControlRegisters::new(IDENTITY, SMEP | SMAP);
    let program = crs.mov_to(Cr::Cr4, SMEP | SMAP).unwrap();
    assert_eq!(program.real.cr4, 0x2010);
    assert_eq!(program.cr4_shadow, SMEP | SMAP);
    let program = crs.mov_to(Cr::Cr0, 0x8000_0011).unwrap();
    assert_eq!(program.real.cr4, 0x2000 | SMEP | SMAP);
}

#[test]
fn pae_paging_loads_its_four_entries() {
    let mut crs = at_boot();
    crs.mov_to(Cr::Cr3, 0x0123_4fe7).unwrap();
    let program = crs.mov_to(Cr::Cr4, 0x20).unwrap();
    assert_eq!((program.real.cr4, program.pdptes), (0x2010, None), "not before paging");
    let program = crs.mov_to(Cr::Cr0, 0x8000_0011).unwrap();
    assert_eq!((program.real.cr4, program.pdptes), (0x2020, Some(0x0123_4fe0)));
    assert_eq!(crs.paging(), Paging::Pae);
}

#[test]
fn pdptes_have_reserved_bits() {
    assert!(pdpte_is_valid(0x1ff_fffe, 36), "not present");
    assert!(pdpte_is_valid(0x0123_4019, 36));
    assert!(!pdpte_is_valid(0x0123_4003, 36));
    assert!(!pdpte_is_valid(1 << 36 | 1, 36));
}

#[test]
fn real_mode_is_recognised() {
    assert_eq!(paged().mov_to(Cr::Cr0, 0x10), Err(Refusal::RealMode));
}

#[test]
fn lmsw_sets_pe_but_never_clears_it() {
    let mut crs = paged();
    crs.lmsw(0xfff8).unwrap();
    assert_eq!(crs.read(Cr::Cr0), 0x8005_0039, "TS in, MP out, PE stays");
    crs.clts().unwrap();
    assert_eq!(crs.read(Cr::Cr0), 0x8005_0031);
}

proptest! {
    #[test]
    fn the_processor_is_never_given_what_it_refuses(
        writes in prop::collection::vec((0..4usize, any::<u32>()), 0..10),
    ) {
        let mut crs = ControlRegisters::new(IDENTITY, u64::MAX);
        for (which, value) in writes {
            let cr = [Cr::Cr0, Cr::Cr3, Cr::Cr4, Cr::Cr8][which];
            let Ok(program) = crs.mov_to(cr, value.into()) else { continue };
            let Real { cr0, cr4, .. } = program.real;
            prop_assert_eq!(cr0 & 0x8000_0021, 0x8000_0021);
            prop_assert_eq!(cr0 & 0x6000_0000, 0);
            prop_assert_eq!(cr4 & 0x2000, 0x2000);
            prop_assert_eq!(cr4 & !0x30_2fbf, 0, "MCE not either");
            // What the guest reads is what it wrote.
            let seen = cr0 & !program.cr0_mask | program.cr0_shadow & program.cr0_mask;
            prop_assert_eq!(seen, crs.read(Cr::Cr0));
            let seen = cr4 & !program.cr4_mask | program.cr4_shadow & program.cr4_mask;
            prop_assert_eq!(seen, crs.read(Cr::Cr4));
        }
    }
}
