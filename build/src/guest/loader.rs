//! Runs vmm-server's loader on the host, before any boot, to check that it accepts a VM's kernel: it reads the same
//! headers of the same files. A refusal is reported as a mistake of the description, with its line.

use std::ops::Range;

use capdl_spec::host::{Files, Mistake, Mistakes, System};
use vmm_server::linux::{Error, GuestParts, Plan};
use vtx::cpuid::Processor;

/// Guests have whole pages of 2 MiB.
const PAGE: u64 = 2 << 20;

/// Checks all VMs of a system, for the processor that guests have. Images that are not among the files are left out.
pub fn check(system: &System, files: &Files, processor: Processor) -> Result<(), Mistakes> {
    let mistakes: Vec<Mistake> = (0..system.vms.len()).filter_map(|vm| refused(system, files, processor, vm)).collect();
    if mistakes.is_empty() { Ok(()) } else { Err(Mistakes(mistakes)) }
}

fn refused(system: &System, files: &Files, processor: Processor, number: usize) -> Option<Mistake> {
    let vm = system.vms.get(number)?;
    let (kernel, initrd) = system.boots(number)?;
    let mut kernel = files.images.get(&kernel)?.as_slice();
    let initrd = initrd.map_or(0, |name| files.images.get(&name).map_or(0, |bytes| bytes.len() as u64));
    let (ram, ram_at) = (vm.memory.get_ref().0, system.ram_at(number));
    let cmdline = vm.cmdline();
    let guest =
        GuestParts { processor, ram, ram_at, windows: None, acpi: None, initrd, command_line: cmdline.as_bytes() };
    let error = Plan::new(&mut kernel, &guest).err()?;
    let name = vm.name.get_ref();
    let (span, message): (Range<usize>, String) = match error {
        Error::TooLarge { need, .. } => {
            let (need, have) = (mib(need), mib(ram));
            let message = format!("`{name}` has {have} MiB of memory, and its kernel and initrd fill {need} MiB");
            (vm.memory.span(), message)
        }
        Error::CommandLineTooLong { .. } | Error::CommandLineHasNul => {
            let span = vm.cmdline.as_ref().map_or(vm.kernel.span(), |line| line.span());
            (span, format!("`{name}` cannot be started: {error}"))
        }
        _ => (vm.kernel.span(), format!("the kernel of `{name}` cannot be started: {error}")),
    };
    Some(Mistake::new(&system.source, span, message, remedy(error, ram)))
}

fn remedy(error: Error, ram: u64) -> String {
    match error {
        Error::TooLarge { have, .. } if have < ram => {
            format!("make the initrd smaller: this kernel takes none above {} MiB", mib(have))
        }
        Error::TooLarge { need, .. } => {
            let enough = mib(need.next_multiple_of(PAGE));
            format!("write \"{enough} MiB\" at least; Linux itself needs some tens of MiB more")
        }
        Error::SixtyFourBit => {
            "take a seL4 with KernelX86_64VTX64BitGuests, or the distribution's i386 or i686 kernel".into()
        }
        Error::OtherMachine(_) => "build it for x86: ARCH=x86_64 or ARCH=i386".into(),
        Error::NotAKernel => "leave `decompress` out: the build unpacks a compressed kernel".into(),
        Error::Truncated => "copy it again: the file is damaged".into(),
        Error::TooOld { .. } => "take Linux 2.6.31 or later".into(),
        Error::NotInMemory { .. } => "bring a bzImage: it can be moved to where the guest has memory".into(),
        Error::CommandLineTooLong { max, .. } => format!("shorten it to {max} bytes"),
        Error::CommandLineHasNul => "leave the NUL out".into(),
        Error::MemorySize => "give it 2 MiB to 3 GiB".into(),
        Error::Unreadable | Error::BadHeader | Error::NotExecutable(_) => "name a bzImage, or a vmlinux".into(),
    }
}

fn mib(bytes: u64) -> u64 {
    bytes.div_ceil(1 << 20)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use capdl_spec::host::{self, Source};

    use super::*;

    const MIB: usize = 1 << 20;

    fn system(keys: &str) -> System {
        let text = format!(
            "board = \"bochs\"\n[[vm]]\nname = \"linux\"\nkernel = \"debian-686\"\ninitrd = \"debian-busybox\"\n{keys}\n"
        );
        host::parse(Source { path: Path::new("x.toml").into(), text }).expect("it is right")
    }

    /// An ELF (System V ABI, chapters 4 and 5) of one segment of 16 bytes that fills `memory` bytes at 16 MiB.
    fn elf(class: u8, machine: u8, memory: usize) -> Vec<u8> {
        let mut elf = vec![0; 4096];
        elf[..7].copy_from_slice(&[0x7f, b'E', b'L', b'F', class, 1, 1]);
        let mut put = |at: usize, value: u32| elf[at..at + 4].copy_from_slice(&value.to_le_bytes());
        put(16, 2 | u32::from(machine) << 16);
        put(20, 1);
        put(24, 0x100_0000);
        put(28, 52);
        put(40, 52 | 32 << 16);
        put(44, 1);
        for (field, value) in [1, 0x100, 0x100_0000, 0x100_0000, 16, memory as u32, 5, 0x1000].into_iter().enumerate() {
            put(52 + 4 * field, value);
        }
        elf
    }

    fn verdict(keys: &str, kernel: Vec<u8>, initrd: usize) -> String {
        let system = system(keys);
        let mut files = Files::default();
        files.images.insert("debian-686".into(), kernel);
        files.images.insert("debian-busybox".into(), vec![1; initrd]);
        check(&system, &files, Processor::Bits32).map_or_else(|mistakes| mistakes.plain(), |()| "nothing".into())
    }

    #[test]
    fn a_kernel_that_fits_is_right() {
        assert_eq!(verdict("memory = \"32 MiB\"", elf(1, 3, MIB), MIB), "nothing");
    }

    #[test]
    fn a_kernel_for_64_bits_is_named_at_its_line() {
        let mut bzimage = vec![0; 0x2000];
        bzimage[0x1fe..0x208].copy_from_slice(b"\x55\xaa\xeb\x66HdrS\x0f\x02");
        (bzimage[0x211], bzimage[0x236]) = (1, 1);
        bzimage[0x258..0x260].copy_from_slice(&0x100_0000u64.to_le_bytes());
        let said = verdict("memory = \"32 MiB\"", bzimage, MIB);
        assert!(said.starts_with("x.toml:4: the kernel of `linux` cannot be started: a 64-bit kernel"), "{said}");
        let said = verdict("memory = \"32 MiB\"", elf(1, 62, MIB), MIB);
        assert!(said.contains("an ELF file for machine 62, neither"), "{said}");
    }

    #[test]
    fn too_little_memory_is_said_in_its_unit_at_its_line() {
        let said = verdict("memory = \"32 MiB\"", elf(1, 3, MIB), 20 * MIB);
        assert_eq!(
            said,
            "x.toml:6: `linux` has 32 MiB of memory, and its kernel and initrd fill 37 MiB\n  \
             write \"38 MiB\" at least; Linux itself needs some tens of MiB more\n"
        );
    }

    #[test]
    fn what_is_compressed_is_not_for_the_guest_to_unpack() {
        let said = verdict("memory = \"32 MiB\"\ndecompress = \"guest\"", vec![0x1f, 0x8b, 8, 0], MIB);
        assert!(said.contains("neither a bzImage nor an ELF") && said.contains("leave `decompress` out"), "{said}");
    }

    #[test]
    fn every_refusal_has_a_remedy_and_no_panic() {
        let right = elf(1, 3, MIB);
        for end in 0..right.len().min(300) {
            verdict("memory = \"32 MiB\"", right[..end].to_vec(), MIB);
        }
        for at in 0..84 {
            for byte in [0, 1, 0x7f, 0xff] {
                let mut damaged = right.clone();
                damaged[at] = byte;
                verdict("memory = \"32 MiB\"", damaged, MIB);
            }
        }
    }
}
