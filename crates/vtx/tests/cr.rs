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
    ControlRegisters::new(IDENTITY, Features { cr4: SMEP, ..Features::default() })
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
    let mut crs = ControlRegisters::new(IDENTITY, Features { cr4: SMEP | SMAP, ..Features::default() });
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
    assert_eq!(crs.paging(), Paging::Pae { no_execute: false });
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

const LONG: Features = Features { cr4: 1 << 16 | 1 << 17 | SMEP, efer: 1 << 0 | 1 << 8 | 1 << 11, xcr0: 0 };
const PAE: u64 = 1 << 5;
const PCIDE: u64 = 1 << 17;
const LME: u64 = 1 << 8;
const LMA: u64 = 1 << 10;
const IA_32E: u32 = 1 << 9;

/// The entry controls with LOAD_EFER and LOAD_PAT, and EFER as the processor gets it.
fn entry(program: &Program) -> (u32, u64) {
    let long = program.long.unwrap();
    (long.entry.bits() & !(1 << 14 | 1 << 15), long.efer)
}

/// As Linux goes there from 32-bit code (SDM volume 3, "Initializing IA-32e Mode").
fn in_long_mode() -> ControlRegisters {
    let mut crs = ControlRegisters::new(IDENTITY, LONG);
    crs.mov_to(Cr::Cr4, PAE).unwrap();
    crs.mov_to(Cr::Cr3, 0x0123_4000).unwrap();
    crs.set_efer(LME | 1).unwrap();
    crs.mov_to(Cr::Cr0, 0x8000_0011).unwrap();
    crs
}

#[test]
fn long_mode_begins_with_paging_and_ends_with_it() {
    let mut crs = ControlRegisters::new(IDENTITY, LONG);
    crs.mov_to(Cr::Cr4, PAE).unwrap();
    crs.mov_to(Cr::Cr3, 0x0123_4000).unwrap();
    let program = crs.set_efer(LME | 1).unwrap();
    assert_eq!((entry(&program), crs.efer()), ((0, 1), LME | 1), "not yet, and not on the identity directory");
    let program = crs.mov_to(Cr::Cr0, 0x8000_0011).unwrap();
    assert_eq!(program.real, Real { cr0: 0x8000_0031, cr3: 0x0123_4000, cr4: 0x2020 });
    assert_eq!((entry(&program), crs.efer(), program.pdptes), ((IA_32E, LMA | LME | 1), LMA | LME | 1, None));
    assert_eq!(crs.paging(), Paging::Long { no_execute: false });
    let program = crs.mov_to(Cr::Cr0, 0x11).unwrap();
    assert_eq!((entry(&program), crs.efer(), program.real.cr3), ((0, 1), LME | 1, IDENTITY));
    assert_eq!(program.real.cr4, 0x2010, "the identity directory has entries of 32 bits");
}

#[test]
fn the_64_bit_boot_protocol_starts_there() {
    let mut crs = ControlRegisters::new(IDENTITY, LONG);
    let program = crs.start_long(0x9000);
    assert_eq!(program.real, Real { cr0: 0x8000_0031, cr3: 0x9000, cr4: 0x2020 });
    assert_eq!((entry(&program), program.cr3_exits), ((IA_32E, LME | LMA), false));
}

#[test]
fn xcr0_takes_what_goes_together() {
    let crs = ControlRegisters::new(IDENTITY, Features { xcr0: 7, ..LONG });
    let taken: Vec<u64> = (0..32).filter(|&value| crs.takes_xcr0(value)).collect();
    assert_eq!(taken, [1, 3, 7]);
    assert!(!crs.takes_xcr0(1 << 63 | 1));
}

#[test]
fn long_mode_keeps_what_it_needs() {
    let mut crs = in_long_mode();
    let before = crs;
    assert_eq!(crs.mov_to(Cr::Cr4, 0), Err(GP), "PAE");
    assert_eq!(crs.set_efer(1), Err(GP), "LME, while paging is on");
    assert_eq!(crs, before);
    assert!(crs.set_efer(LME | 1 << 11).is_ok(), "NXE may change, and a write of LMA vanishes");
    assert_eq!((crs.efer(), crs.paging()), (LMA | LME | 1 << 11, Paging::Long { no_execute: true }));
    let mut crs = ControlRegisters::new(IDENTITY, LONG);
    crs.set_efer(LME).unwrap();
    assert_eq!(crs.mov_to(Cr::Cr0, 0x8000_0011), Err(GP), "long mode without PAE");
}

#[test]
fn process_context_identifiers_are_for_long_mode() {
    let mut crs = ControlRegisters::new(IDENTITY, LONG);
    assert_eq!(crs.mov_to(Cr::Cr4, PAE | PCIDE), Err(GP), "outside");
    let mut crs = in_long_mode();
    let real = crs.program().real;
    crs.refresh(Real { cr3: 0x0123_4005, ..real });
    assert_eq!(crs.mov_to(Cr::Cr4, PAE | PCIDE), Err(GP), "CR3 has an identifier");
    crs.refresh(real);
    assert_eq!(crs.mov_to(Cr::Cr4, PAE | PCIDE).unwrap().real.cr4, 0x2000 | PAE | PCIDE);
    assert_eq!(crs.mov_to(Cr::Cr0, 0x11), Err(GP), "no end of paging with PCIDE");
}

#[test]
fn efer_has_the_bits_of_the_features() {
    let mut crs = ControlRegisters::new(IDENTITY, Features { efer: 1 << 11, ..LONG });
    for bit in (0..64).filter(|bit| ![10, 11].contains(bit)) {
        assert_eq!(crs.set_efer(1 << bit), Err(GP), "bit {bit}");
    }
    assert_eq!(entry(&crs.set_efer(1 << 11).unwrap()), (0, 1 << 11));
    let mut narrow = at_boot();
    assert_eq!((narrow.set_efer(1 << 11), narrow.efer(), narrow.program().long), (Err(GP), 0, None));
    assert!(narrow.set_efer(0).is_ok());
}

#[test]
fn pae_has_no_execute_as_well() {
    let mut crs = ControlRegisters::new(IDENTITY, LONG);
    crs.set_efer(1 << 11).unwrap();
    crs.mov_to(Cr::Cr4, PAE).unwrap();
    crs.mov_to(Cr::Cr0, 0x8000_0011).unwrap();
    assert_eq!(crs.paging(), Paging::Pae { no_execute: true });
}

proptest! {
    #[test]
    fn the_processor_is_never_given_what_it_refuses(
        writes in prop::collection::vec((0..5usize, prop_oneof![
            any::<u32>(),
            prop::sample::select(vec![0x8000_0011, 0x11, 0x20, 0x2_0020, 0x500, 0x900, 0x100]),
        ]), 0..20),
    ) {
        let mut crs = ControlRegisters::new(IDENTITY, Features { cr4: u64::MAX, efer: u64::MAX, xcr0: 7 });
        for (which, value) in writes {
            let result = match [Cr::Cr0, Cr::Cr3, Cr::Cr4, Cr::Cr8].get(which) {
                Some(&cr) => crs.mov_to(cr, value.into()),
                None => crs.set_efer(value.into()),
            };
            let Ok(program) = result else { continue };
            let Real { cr0, cr4, .. } = program.real;
            prop_assert_eq!(cr0 & 0x8000_0021, 0x8000_0021);
            prop_assert_eq!(cr0 & 0x6000_0000, 0);
            prop_assert_eq!(cr4 & 0x2000, 0x2000);
            prop_assert_eq!(cr4 & !0x33_2fbf, 0, "MCE not either");
            // SDM volume 3, "Checks on Guest Control Registers, Debug Registers, and MSRs". CR0.PG is always set.
            let (entry, efer) = entry(&program);
            let is_long = entry & IA_32E != 0;
            prop_assert_eq!((efer & LMA != 0, efer & LME != 0), (is_long, is_long));
            prop_assert_eq!(efer & !0xd01, 0);
            prop_assert!(!is_long || cr4 & PAE != 0);
            prop_assert!(is_long || cr4 & PCIDE == 0);
            // What the guest reads is what it wrote.
            let seen = cr0 & !program.cr0_mask | program.cr0_shadow & program.cr0_mask;
            prop_assert_eq!(seen, crs.read(Cr::Cr0));
            let seen = cr4 & !program.cr4_mask | program.cr4_shadow & program.cr4_mask;
            prop_assert_eq!(seen, crs.read(Cr::Cr4));
        }
    }
}
