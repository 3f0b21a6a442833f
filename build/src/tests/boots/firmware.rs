//! What firmware may leave behind, made before the kernel's first instruction: code at the ELF entry of the kernel, which then
//! jumps to the kernel's own. EBX points to the boot information (multiboot specification 0.6.96, section 3.3). Bochs cannot be
//! left in x2APIC mode this way (a local APIC that was disabled stays so), and its BIOS has locked VT-x on.

use std::path::Path;

use miette::{IntoDiagnostic, Result, WrapErr, ensure, miette};

use super::{last_lines, wait_for_shell};
use crate::bochs::Machine;
use crate::iso::{Contents, menu::COM1};
use crate::kernel::{self, Build};
use crate::test::{Context, Group, Outcome, Test, passed};
use crate::{iso, project};

pub fn all() -> Vec<Test> {
    let test = |name, run| Test::new(Group::Boots, name, run);
    vec![test("memory-in-forty-ranges", ranges), test("too-little-memory-is-said-with-the-remedy", too_little)]
}

/// Where the code is, in memory that the kernel's image does not reach and that the loader has free.
const AT: u32 = 0x0800_0000;

/// A 32-bit kernel whose first instructions are `code`; `data` follows them at [`data_at`].
fn prepend(kernel: &[u8], code: &[u8], data: &[u8]) -> Result<Vec<u8>> {
    let word = |at: usize, len: usize| -> Result<u32> {
        let bytes = kernel.get(at..at + len).ok_or_else(|| miette!("the kernel is no ELF"))?;
        Ok(bytes.iter().rev().fold(0, |value, &byte| value << 8 | u32::from(byte)))
    };
    // ELF32 header: e_entry, e_phoff, e_phentsize, e_phnum.
    let (entry, table, size, count) =
        (word(24, 4)?, word(28, 4)? as usize, word(42, 2)? as usize, word(44, 2)? as usize);
    let headers = kernel.get(table..table + size * count).ok_or_else(|| miette!("no program headers"))?.to_vec();
    let mut elf = kernel.to_vec();
    elf.resize(elf.len().next_multiple_of(4096), 0);
    let offset = elf.len() as u32;
    elf.extend_from_slice(code);
    // mov edi, entry; jmp edi
    elf.push(0xbf);
    elf.extend_from_slice(&entry.to_le_bytes());
    elf.extend_from_slice(&[0xff, 0xe7]);
    elf.resize(offset as usize + data_at(0) as usize - AT as usize, 0);
    elf.extend_from_slice(data);
    let length = elf.len() as u32 - offset;
    elf.resize(elf.len().next_multiple_of(4), 0);
    let at = elf.len() as u32;
    elf.extend_from_slice(&headers);
    // PT_LOAD: type, offset, virtual and physical address, bytes of file and memory, readable and executable, alignment.
    for field in [1, offset, AT, AT, length, length, 5, 4096] {
        elf.extend_from_slice(&field.to_le_bytes());
    }
    elf[24..28].copy_from_slice(&AT.to_le_bytes());
    elf[28..32].copy_from_slice(&at.to_le_bytes());
    elf[44..46].copy_from_slice(&(count as u16 + 1).to_le_bytes());
    Ok(elf)
}

/// The address of a byte of `data`.
const fn data_at(offset: u32) -> u32 {
    AT + 0x100 + offset
}

/// Boots the minimal system for a board, with `code` before the kernel.
fn boot(context: &Context, name: &str, code: &[u8], data: &[u8]) -> Result<Machine> {
    let image = context.image("minimal", Build::Release)?;
    let from = image.iso.parent().unwrap_or(Path::new("/"));
    let dir = context.folder(&format!("firmware-{name}"))?;
    let kernel = dir.join("kernel");
    project::write(&kernel, &prepend(&project::read(&from.join("kernel"))?, code, data)?)?;
    let root_task = &from.join("root-task");
    let iso = iso::with_contents(
        Contents { kernel: &kernel, debug_kernel: None, root_task, console: COM1, waits: false },
        &dir,
    )?;
    let mut options = image.options(&format!("test-firmware-{name}"));
    options.iso = iso;
    // Enough for `ranges`.
    options.memory_mib = 1024;
    Machine::boot(&context.project, &options)
}

/// Memory as a firmware may divide it: 38 small ranges that are not whole pages, and two large ones, of which the last is needed.
fn ranges(context: &Context) -> Result<Outcome> {
    if kernel::are_own() {
        return Ok(Outcome::Skipped("what is tested is a patch of ours".into()));
    }
    const MIB: u64 = 1 << 20;
    let mut map = vec![(MIB, 199 * MIB)];
    map.extend((0..38).map(|n| ((204 + 4 * n) * MIB + 0x400, 2 * MIB)));
    map.push((400 * MIB, 600 * MIB));
    // Each entry: its own size, base, length, type 1 (available).
    let entries = map.iter().flat_map(|&(base, length)| {
        [20u32.to_le_bytes().as_slice(), &base.to_le_bytes(), &length.to_le_bytes(), &1u32.to_le_bytes()].concat()
    });
    let data: Vec<u8> = entries.collect();
    // mov dword [ebx + 44], mmap_length; mov dword [ebx + 48], mmap_addr
    let mut code = vec![0xc7, 0x43, 44];
    code.extend_from_slice(&(data.len() as u32).to_le_bytes());
    code.extend_from_slice(&[0xc7, 0x43, 48]);
    code.extend_from_slice(&data_at(0).to_le_bytes());
    let mut machine = boot(context, "ranges", &code, &data)?;
    let found = machine.console.expect(" KiB of memory left", super::LIMIT);
    found.into_diagnostic().wrap_err_with(|| last_lines(&machine))?;
    let text = super::transcript(&machine);
    let left = text.lines().find_map(|line| {
        let (before, _) = line.split_once(" KiB of memory left")?;
        before.rsplit_once(' ')?.1.parse::<u64>().ok()
    });
    // 128 MiB are the guest's, some 40 the image and the servers.
    ensure!(left.is_some_and(|left| left > 550 << 10), "{left:?} KiB left of 875 MiB:\n{text}");
    wait_for_shell(&mut machine)?;
    machine.stop();
    Ok(Outcome::Passed(format!("{} ranges", map.len())))
}

/// The console is open before root-task makes anything.
fn too_little(context: &Context) -> Result<Outcome> {
    // The guest alone has as much.
    let mut machine = context.boot_with("minimal", Build::Release, |options| options.memory_mib = 128)?;
    let remedy = "no memory left: give the machine more of it, or the VMs less";
    let found = machine.console.expect(remedy, super::LIMIT);
    found.into_diagnostic().wrap_err_with(|| last_lines(&machine))?;
    machine.stop();
    let text = super::transcript(&machine);
    ensure!(text.contains("root-task: failed: the system was not started: "), "{text}");
    passed()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_code_is_a_segment_of_its_own_and_the_entry() {
        let mut kernel = vec![0u8; 100];
        kernel[24..28].copy_from_slice(&0x10_0000u32.to_le_bytes());
        kernel[28..32].copy_from_slice(&52u32.to_le_bytes());
        (kernel[42], kernel[44]) = (32, 1);
        let elf = prepend(&kernel, &[0x90], &[7]).unwrap();
        let word = |at: usize| u32::from_le_bytes(elf[at..at + 4].try_into().unwrap());
        assert_eq!((word(24), elf[44]), (AT, 2));
        let (table, old) = (word(28) as usize, 52);
        assert_eq!(elf[table..table + 32], kernel[old..old + 32]);
        assert_eq!((word(table + 32), word(table + 36), word(table + 44)), (1, 4096, AT));
        assert_eq!(elf[4096..4104], [0x90, 0xbf, 0, 0, 0x10, 0, 0xff, 0xe7]);
        assert_eq!(elf[4096 + 0x100], 7);
    }
}
