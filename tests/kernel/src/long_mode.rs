//! A guest in long mode: four levels of page tables, which map the first 2 MiB for user mode too, and a GDT (Intel SDM volume 3,
//! "Initializing IA-32e Mode").

use sel4::cap::cap_type;
use sel4::{Result, Word};
use vtx::cr::{cr0, cr4};
use vtx::vmcs::VmcsField as F;

use crate::bench::Bench;
use crate::guest::Guest;

/// Entry controls.
pub const IA_32E_MODE: Word = 1 << 9;
/// EFER is loaded at entries.
pub const LOAD_EFER: Word = 1 << 15;

/// Bits of EFER: SYSCALL.
pub const SCE: Word = 1 << 0;
/// Long mode, once paging is on.
pub const LME: Word = 1 << 8;
/// Long mode, now.
pub const LMA: Word = 1 << 10;

/// CR0 in long mode.
pub const CR0: Word = cr0::PG | cr0::NE | cr0::ET | cr0::PE;
/// CR4 in long mode.
pub const CR4: Word = cr4::PAE | cr4::OSFXSR;
/// Access rights of a 64-bit code segment.
pub const CODE_64: Word = 0xa09b;

/// Guest-physical addresses of the page tables, one of each level.
pub const PML4: Word = 0x2000;
const PDPT: Word = 0x3000;
const DIRECTORY: Word = 0x4000;
/// In the page with the code, as is the stack.
const GDT: usize = 0xa00;
const STACK: Word = 0x800;

/// Gives a guest the tables, the GDT (32-bit code, data, 64-bit code) and a stack.
pub fn give_tables(bench: &mut Bench, guest: &Guest) -> Result<()> {
    for (gpa, entry) in [(PML4, PDPT | 7), (PDPT, DIRECTORY | 7), (DIRECTORY, 0x87)] {
        let table = bench.make::<cap_type::Granule>()?;
        bench.scratch.write(table, 0, &entry.to_le_bytes())?;
        guest.map(table, gpa)?;
    }
    for (index, descriptor) in (1..).zip([0x00cf_9b00_0000_ffff_u64, 0x00cf_9300_0000_ffff, 0x00af_9b00_0000_ffff]) {
        bench.scratch.write(guest.code, GDT + index * 8, &descriptor.to_le_bytes())?;
    }
    set(guest, &[(F::GuestGdtrBase, GDT as Word), (F::GuestRsp, STACK)])
}

/// Puts a guest with tables into long mode.
pub fn begin(guest: &Guest) -> Result<()> {
    set(
        guest,
        &[
            (F::EntryControls, IA_32E_MODE | LOAD_EFER),
            (F::GuestEfer, SCE | LME | LMA),
            (F::GuestCr0, CR0),
            (F::GuestCr3, PML4),
            (F::GuestCr4, CR4),
            (F::GuestCsAccessRights, CODE_64),
        ],
    )
}

/// A guest in long mode, for the calling thread.
pub fn guest(bench: &mut Bench, code: &[u8]) -> Result<Guest> {
    let guest = Guest::new(bench, code)?;
    give_tables(bench, &guest)?;
    begin(&guest)?;
    Ok(guest)
}

/// Sets fields of its VMCS.
pub fn set(guest: &Guest, fields: &[(F, Word)]) -> Result<()> {
    for &(field, value) in fields {
        guest.vcpu.vcpu_write_vmcs(field as u32, value)?;
    }
    Ok(())
}
