//! Which Debian each VM's kernel, initrd and packages are of: the kernel decides, by its name or its file.

use std::{fs::File, io::Read as _, path::Path};

use toml::Spanned;

use crate::description::{
    debian::{Architecture, Debian, Stock, What},
    file,
    guest::Origin,
    system::System,
};

impl System {
    /// Decides for each VM of which Debian its kernel, its initrd and its packages are.
    pub(crate) fn settle_guests(&mut self) {
        let folder = self.folder().to_path_buf();
        for vm in &mut self.vms {
            let kernel = match vm.kernel.get_ref() {
                Origin::Stock(stock) => stock.debian,
                Origin::File(path) => match beginning(&folder.join(path)).and_then(|file| Architecture::of(&file)) {
                    Some(Architecture::Amd64) => Debian::AMD64,
                    Some(Architecture::I386) | None => Debian::I386,
                },
            };
            vm.debian = Debian { release: vm.release.as_ref().map_or(kernel.release, |one| *one.get_ref()), ..kernel };
            let debian = vm.debian;
            for image in core::iter::once(&mut vm.kernel).chain(&mut vm.initrd) {
                let span = image.span();
                let Origin::Stock(stock) = image.get_ref() else { continue };
                let debian = match stock.what {
                    What::Kernel | What::Disk => debian,
                    // It has no modules.
                    What::Busybox => debian.of_any_kernel(),
                    What::Sysv | What::Lvm | What::Systemd => continue,
                };
                *image = Spanned::new(span, Origin::Stock(Stock { debian, ..*stock }));
            }
        }
    }
}

/// As much of a file as [`Architecture::of`] looks at. Files that cannot be read are found by a check.
fn beginning(path: &Path) -> Option<Vec<u8>> {
    const ENOUGH: u64 = 1024;
    file::examine(path).ok()?;
    let mut bytes = Vec::new();
    File::open(path).ok()?.take(ENOUGH).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::{self, Source};

    fn bzimage(xloadflags: u8) -> Vec<u8> {
        let mut file = vec![0; 1024];
        file[0x202..0x206].copy_from_slice(b"HdrS");
        file[0x236] = xloadflags;
        file
    }

    /// The kernel's and the initrd's full name, and the Debian of packages.
    fn vm(keys: &str) -> (String, String, Debian) {
        let text = format!("board = \"bochs\"\n[[vm]]\nname = \"x\"\nmemory = \"128 MiB\"\n{keys}\n");
        let system = host::parse(Source { path: "x.toml".into(), text }).expect("it is right");
        let vm = &system.vms[0];
        let name = |origin: &Origin| origin.base_name();
        (name(vm.kernel.get_ref()), vm.initrd.as_ref().map_or(String::new(), |one| name(one.get_ref())), vm.debian)
    }

    #[test]
    fn a_kernels_file_tells_its_architecture() {
        let elf = |class| [b"\x7fELF".as_slice(), &[class; 60]].concat();
        assert_eq!(Architecture::of(&elf(1)), Some(Architecture::I386));
        assert_eq!(Architecture::of(&elf(2)), Some(Architecture::Amd64));
        assert_eq!(Architecture::of(&bzimage(0)), Some(Architecture::I386));
        assert_eq!(Architecture::of(&bzimage(0x3f)), Some(Architecture::Amd64));
        assert_eq!(Architecture::of(&bzimage(0x3e)), Some(Architecture::I386));
        assert_eq!(Architecture::of(b"\x1f\x8b\x08"), None);
        assert_eq!(Architecture::of(b""), None);
    }

    #[test]
    fn an_initrd_is_that_of_the_kernel() {
        let busybox = "initrd = \"debian-busybox\"";
        let disk = "initrd = \"debian-disk\"";
        for (keys, kernel, initrd) in [
            (format!("kernel = \"debian-686\"\n{busybox}"), "debian-686", "debian-busybox"),
            (format!("kernel = \"debian-686-pae\"\n{busybox}"), "debian-686-pae", "debian-busybox"),
            (format!("kernel = \"debian-686-pae\"\n{disk}"), "debian-686-pae", "debian-disk-686-pae"),
            (format!("kernel = \"debian-amd64\"\n{busybox}"), "debian-amd64", "debian-busybox-amd64"),
            (format!("kernel = \"debian-cloud-amd64\"\n{busybox}"), "debian-cloud-amd64", "debian-busybox-amd64"),
            (format!("kernel = \"debian-cloud-amd64\"\n{disk}"), "debian-cloud-amd64", "debian-disk-cloud-amd64"),
            (
                format!("kernel = \"debian-amd64\"\nrelease = \"bookworm\"\n{busybox}"),
                "debian-amd64-bookworm",
                "debian-busybox-amd64-bookworm",
            ),
        ] {
            let found = vm(&keys);
            assert_eq!((found.0.as_str(), found.1.as_str()), (kernel, initrd), "{keys}");
        }
    }

    #[test]
    fn the_initrd_and_the_packages_for_an_own_kernel_are_of_its_architecture() {
        let dir = std::env::temp_dir().join(format!("capdl-spec-debian-{}", std::process::id()));
        std::fs::create_dir_all(&dir).expect("is writable");
        for (flags, name, debian) in [(1, "debian-busybox-amd64", Debian::AMD64), (0, "debian-busybox", Debian::I386)] {
            let file = dir.join("bzImage");
            std::fs::write(&file, bzimage(flags)).expect("is writable");
            let found = vm(&format!("kernel = \"{}\"\ninitrd = \"debian-busybox\"", file.display()));
            assert_eq!((found.1.as_str(), found.2), (name, debian));
        }
        std::fs::remove_dir_all(dir).expect("is removed");
    }
}
