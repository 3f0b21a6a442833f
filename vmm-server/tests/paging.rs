//! Page tables made by hand.

use mmio::Window;
use proptest::prelude::*;
use std::collections::HashMap;
use vmm_server::{paging::*, ram::Ram};

const READ: Intent = Intent { write: false, user: false };
const WRITE: Intent = Intent { write: true, user: false };
const USER_READ: Intent = Intent { write: false, user: true };
const USER_WRITE: Intent = Intent { write: true, user: true };

fn root(paging: Paging) -> Root {
    Root { paging, cr3: 0x1000, write_protect: true }
}

fn walk(root: &Root, entries: &[(u64, u64)], linear: u64, intent: Intent) -> Result<u64, u32> {
    let memory: HashMap<u64, u64> = entries.iter().copied().collect();
    translate(root, linear, intent, |at, _| Some(memory.get(&at).copied().unwrap_or(0)))
        .map_err(|fault| fault.error_code())
}

const BITS32: Paging = Paging::Bits32 { large: true };
const PAE: Paging = Paging::Pae { no_execute: false };
const LONG: Paging = Paging::Long { no_execute: false };
const NO_EXECUTE: Paging = Paging::Long { no_execute: true };

#[test]
fn without_paging_an_address_is_itself() {
    assert_eq!(walk(&root(Paging::Off), &[], 0xdead_beef, USER_WRITE), Ok(0xdead_beef));
}

#[test]
fn a_4_kib_page() {
    let tables = [(0x1000 + 0x300 * 4, 0x2007), (0x2000 + 0x123 * 4, 0xfee0_0003)];
    assert_eq!(walk(&root(BITS32), &tables, 0xc012_3020, WRITE), Ok(0xfee0_0020));
}

#[test]
fn a_4_mib_page_only_with_pse() {
    let tables = [(0x1000 + 0x300 * 4, 0x0040_0083)];
    assert_eq!(walk(&root(BITS32), &tables, 0xc012_3456, READ), Ok(0x0052_3456));
    assert_eq!(walk(&root(Paging::Bits32 { large: false }), &tables, 0xc012_3456, READ), Err(0));
}

#[test]
fn a_4_mib_page_above_4_gib() {
    let tables = [(0x1000, 0x0040_2083)];
    assert_eq!(walk(&root(BITS32), &tables, 0x10, READ), Ok(0x1_0040_0010));
    assert_eq!(walk(&root(BITS32), &[(0x1000, 0x0060_0083)], 0x10, READ), Err(0b1001));
}

#[test]
fn pae_pages_of_4_kib_and_2_mib() {
    let tables = [(0x1018, 0x2001), (0x2000 + 8, 0x0020_0083), (0x2000 + 16, 0x3003), (0x3008, 0x1_2345_6003)];
    assert_eq!(walk(&root(PAE), &tables, 0xc020_1234, WRITE), Ok(0x0020_1234));
    assert_eq!(walk(&root(PAE), &tables, 0xc040_1234, WRITE), Ok(0x1_2345_6234));
}

#[test]
fn nx_and_other_reserved_bits_fault() {
    let tables = [(0x1000, 0x2001), (0x2000, 1 << 63 | 0x83)];
    assert_eq!(walk(&root(PAE), &tables, 0, READ), Err(0b1001));
    let tables = [(0x1000, 0x2001), (0x2000, 0x2083)];
    assert_eq!(walk(&root(PAE), &tables, 0, READ), Err(0b1001));
}

#[test]
fn a_missing_page_is_not_a_protection_fault() {
    assert_eq!(walk(&root(BITS32), &[], 0x1234, USER_WRITE), Err(0b110));
    assert_eq!(walk(&root(BITS32), &[(0x1000, 0x2007)], 0x1234, READ), Err(0));
}

#[test]
fn a_user_process_gets_no_kernel_page_through_the_vmm() {
    let kernel = [(0x1000, 0x2007), (0x2000, 0x5003)];
    assert_eq!(walk(&root(BITS32), &kernel, 0, USER_READ), Err(0b101));
    assert_eq!(walk(&root(BITS32), &kernel, 0, READ), Ok(0x5000));
}

#[test]
fn every_level_has_a_say() {
    let read_only_directory = [(0x1000, 0x2005), (0x2000, 0x5007)];
    assert_eq!(walk(&root(BITS32), &read_only_directory, 0, USER_READ), Ok(0x5000));
    assert_eq!(walk(&root(BITS32), &read_only_directory, 0, USER_WRITE), Err(0b111));
}

#[test]
fn write_protection_holds_for_the_kernel_only_with_cr0_wp() {
    let read_only = [(0x1000, 0x2007), (0x2000, 0x5005)];
    let off = Root { write_protect: false, ..root(BITS32) };
    assert_eq!(walk(&off, &read_only, 0, WRITE), Ok(0x5000));
    assert_eq!(walk(&off, &read_only, 0, USER_WRITE), Err(0b111));
    assert_eq!(walk(&root(BITS32), &read_only, 0, WRITE), Err(0b011));
}

#[test]
fn tables_outside_ram_are_missing() {
    let fault = translate(&root(BITS32), 0, READ, |_, _| None).unwrap_err();
    assert!(!fault.protection);
}

#[test]
fn four_levels_with_pages_of_4_kib_2_mib_and_1_gib() {
    // Linear 0xffff888000000000 and on: entry 0x111 of the PML4.
    let tables = [
        (0x1000 + 0x111 * 8, 0x2007),
        (0x2000, 0x3007),
        (0x2008, 0x4000_0087),
        (0x3000, 0x4007),
        (0x3008, 0x0060_0087),
        (0x4018, 0xfee0_0003),
    ];
    for long in [LONG, NO_EXECUTE] {
        let at = |linear| walk(&root(long), &tables, linear, WRITE);
        assert_eq!(at(0xffff_8880_0000_3020), Ok(0xfee0_0020));
        assert_eq!(at(0xffff_8880_0020_1234), Ok(0x0060_1234));
        assert_eq!(at(0xffff_8880_4123_4567), Ok(0x4123_4567));
        assert_eq!(at(0xffff_8880_0000_4000), Err(0b010));
    }
}

#[test]
fn an_address_that_is_not_canonical_leads_nowhere() {
    let everything = [
        (0x1000, 0x2007),
        (0x1000 + 0xff * 8, 0x2007),
        (0x1000 + 0x100 * 8, 0x2007),
        (0x2000, 0x87),
        (0x2000 + 0x1ff * 8, 0x87),
    ];
    for (linear, there) in [
        (0x0000_7fff_ffff_f000, true),
        (0x0000_8000_0000_0000, false),
        (0xffff_7fff_ffff_f000, false),
        (0xffff_8000_0000_0000, true),
        (0x0001_0000_0000_0000, false),
    ] {
        assert_eq!(walk(&root(LONG), &everything, linear, READ).is_ok(), there, "{linear:#x}");
        assert_eq!(is_canonical(linear), there, "{linear:#x}");
    }
}

#[test]
fn reserved_bits_of_four_levels() {
    for (entry, fault) in [(0x87, None), (0x2087, Some(0b1001)), (1 << 63 | 0x87, Some(0b1001)), (1 << 62 | 0x87, None)]
    {
        let tables = [(0x1000, 0x2007), (0x2000, entry)];
        assert_eq!(walk(&root(LONG), &tables, 0, READ).err(), fault, "{entry:#x}");
    }
    assert_eq!(walk(&root(LONG), &[(0x1000, 0x2087)], 0, READ), Err(0b1001), "no page has 512 GiB");
    let no_execute = [(0x1000, 1 << 63 | 0x2007), (0x2000, 0x87)];
    assert_eq!(walk(&root(NO_EXECUTE), &no_execute, 0x10, READ), Ok(0x10), "data is data");
    let pae = [(0x1000, 0x2001), (0x2000, 1 << 63 | 0x83)];
    assert_eq!(walk(&root(Paging::Pae { no_execute: true }), &pae, 0x10, READ), Ok(0x10));
}

#[test]
fn every_one_of_four_levels_has_a_say() {
    let tables = |rights: [u64; 4]| {
        [0x1000, 0x2000, 0x3000, 0x4000].map(|at: u64| (at, (at + 0x1000) | rights[at as usize / 0x1000 - 1]))
    };
    for level in 0..4 {
        let mut rights = [7; 4];
        rights[level] = 5;
        assert_eq!(walk(&root(LONG), &tables(rights), 0, USER_WRITE), Err(0b111));
        rights[level] = 3;
        assert_eq!(walk(&root(LONG), &tables(rights), 0, USER_READ), Err(0b101));
    }
    assert_eq!(walk(&root(LONG), &tables([7; 4]), 0, USER_WRITE), Ok(0x5000));
}

/// All kinds of paging.
const KINDS: [Paging; 7] =
    [Paging::Off, BITS32, Paging::Bits32 { large: false }, PAE, Paging::Pae { no_execute: true }, LONG, NO_EXECUTE];

proptest! {
    #[test]
    fn any_tables_end_after_four_entries(
        cr3: u64, linear: u64, write: bool, user: bool, which in 0..KINDS.len(), entries: [u64; 4],
    ) {
        let paging = KINDS[which];
        let root = Root { paging, cr3, write_protect: true };
        let mut reads = entries.iter();
        let _ = translate(&root, linear, Intent { write, user }, |_, size| {
            let entry = *reads.next().expect("a fifth entry");
            Some(if size == EntrySize::Four { entry & 0xffff_ffff } else { entry })
        });
    }
}

/// Bytes of memory in which the tables of the next test lie.
const TABLES: usize = 0x4000;

/// An entry that mostly leads to one of those tables.
fn entry() -> impl Strategy<Value = u64> {
    let flags = prop_oneof![4 => Just(0x07), 2 => Just(0x87), 1 => 0..0x1000u64];
    let address = prop_oneof![6 => (0..4u64).prop_map(|page| page << 12), 2 => Just(0), 1 => any::<u64>()];
    (address, flags).prop_map(|(address, flags)| address & !0xfff | flags)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(500) })]

    #[test]
    fn the_short_walk_ends_where_the_long_one_does(
        which in 0..KINDS.len(), cr3 in (0..5u64).prop_map(|page| page << 12),
        entries in prop::collection::vec(entry(), 64), linears in prop::collection::vec(any::<u64>(), 64),
    ) {
        let paging = KINDS[which];
        let is_long = matches!(paging, Paging::Long { .. });
        let size = if which > 2 { 8 } else { 4 };
        let ram = Ram::flat(Window::leak(vec![0; TABLES].leak()));
        for at in 0..TABLES / size {
            let entry = entries[at % entries.len()];
            if size == 8 { ram.write_u64(at as u64 * 8, entry).unwrap() } else { ram.write_u32(at as u64 * 4, entry as u32).unwrap() }
        }
        let root = Root { paging, cr3, write_protect: false };
        for linear in linears {
            // A wild address, one of the upper half or one of the lower.
            let linear = match linear >> 62 {
                0 if is_long => linear,
                1 if is_long => linear | 0xffff_8000_0000_0000,
                _ if is_long => linear & 0x7fff_ffff_ffff,
                _ => linear & 0xffff_ffff,
            };
            let long = translate(&root, linear, READ, |at, size| match size {
                EntrySize::Four => ram.read_u32(at).ok().map(u64::from),
                EntrySize::Eight => ram.read_u64(at).ok(),
            });
            // 4 MiB pages beyond 4 GiB are left to the long walk.
            let expected = long.ok().filter(|&gpa| size == 8 || gpa <= 0xffff_ffff);
            prop_assert_eq!(locate(paging, cr3, &ram, linear), expected, "{:#x}", linear);
        }
    }
}
