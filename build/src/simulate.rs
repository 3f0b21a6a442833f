//! The script `simulate` beside an ISO: it boots the ISO in QEMU with nested VT-x, on a machine like the description's
//! board, or says what its host lacks for that and what to do. `cargo xtask doctor` looks for the same.

use std::fmt::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use capdl_spec::host::{Board, CardModel, Processor};
use capdl_spec::spec::{Kind, Spec};
use miette::{Context as _, IntoDiagnostic as _, Result};

use crate::bochs::config::{Devices, mac};
use crate::project;

/// What has to be done so that KVM offers VT-x to its guests.
pub const NESTING: &str = "KVM keeps VT-x from its guests: as root, write `options kvm_intel nested=1` to \
                           /etc/modprobe.d/kvm.conf, then `modprobe -r kvm_intel && modprobe kvm_intel`";
/// What has to be done about /dev/kvm.
pub const NO_KVM: &str = "/dev/kvm is missing or not writable: `modprobe kvm_intel`, and be in the group `kvm`";
/// Where KVM says whether it offers VT-x to its guests.
pub const NESTED: &str = "/sys/module/kvm_intel/parameters/nested";

/// The processor features that a kernel relies on, as /proc/cpuinfo calls them (in `flags` or `vmx flags`).
pub fn features(processor: Processor) -> &'static [&'static str] {
    const ALL: &[&str] = &["ept", "vpid", "fsgsbase", "pcid", "invpcid", "pdpe1gb"];
    match processor {
        Processor::Nehalem => &ALL[..2],
        Processor::IvyBridge => &ALL[..3],
        Processor::Haswell => ALL,
    }
}

/// What is simulated.
pub struct Simulated<'a> {
    /// The description's board.
    pub board: &'a Board,
    /// The COM port of the console.
    pub com: u8,
    /// The machine's memory.
    pub memory_mib: u32,
    /// What is plugged in.
    pub devices: &'a Devices,
    /// What root-task makes.
    pub spec: &'a Spec,
}

/// Writes `dir`/simulate, which boots `dir`/system.iso.
pub fn write(dir: &Path, simulated: &Simulated) -> Result<()> {
    let path = dir.join("simulate");
    project::write(&path, script(simulated).as_bytes())?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755))
        .into_diagnostic()
        .wrap_err_with(|| path.display().to_string())
}

fn script(simulated: &Simulated) -> String {
    let board = simulated.board;
    let checks: String = features(board.processor).iter().fold(String::new(), |mut checks, flag| {
        let _ = writeln!(
            checks,
            "has {flag} || cannot \"its processor, or the host that it is part of, has no {flag}, which the kernel for board \
             \\\"{}\\\" needs; board \\\"pc\\\" needs the least (docs/hardware.md)\"",
            board.name
        );
        checks
    });
    let ends = match &board.power_off {
        Some(switch) => {
            // isa-debug-exit ends QEMU with twice a byte and one: the first, or in later versions also the last.
            let status = |bytes: &[u8]| bytes.first().map_or(1, |byte| (u32::from(*byte) * 2 + 1) % 256);
            // Without a byte it ends with zero, at a reset as well.
            format!(
                "case $status in\n\
                 0) status=1; echo \"simulate: ended without a word of the system, by a reset or Ctrl-A X\" >&2 ;;\n\
                 {}) status=0 ;;\n\
                 {}) status=1; echo \"simulate: the system has failed\" >&2 ;;\n\
                 esac\n",
                status(switch.off),
                status(switch.failed)
            )
        }
        None => String::new(),
    };
    format!(
        "#!/bin/sh\n\
         # Boots system.iso in QEMU, on a host with Intel VT-x and nesting; anywhere else `cargo xtask run` uses Bochs.\n\
         # Ctrl-A X ends it. The files that are looked at can be named, for tests.\n\
         : \"${{CPUINFO:=/proc/cpuinfo}}\" \"${{KVM:=/dev/kvm}}\" \"${{NESTED:={NESTED}}}\"\n\
         cannot() {{ echo \"simulate: this machine cannot: $1\" >&2; exit 1; }}\n\
         has() {{ sed -nE 's/^(vmx )?flags[^:]*://p' \"$CPUINFO\" | grep -qw \"$1\"; }}\n\
         has vmx || cannot \"its processor shows no VT-x (use cargo xtask run)\"\n\
         [ -w \"$KVM\" ] || cannot '{NO_KVM}'\n\
         case \"$(cat \"$NESTED\" 2>/dev/null)\" in [Yy1]*) ;; *) cannot '{NESTING}' ;; esac\n\
         {checks}\
         command -v qemu-system-x86_64 >/dev/null || cannot \"there is no qemu-system-x86_64 (cargo xtask setup)\"\n\
         qemu-system-x86_64 -enable-kvm -cpu host -m {} -nographic -no-reboot \\\n\
         \t{} \\\n\
         \t-cdrom \"$(dirname \"$0\")/system.iso\" \"$@\"\n\
         status=$?\n\
         {ends}exit $status\n",
        simulated.memory_mib,
        machine(simulated)
    )
}

/// QEMU's arguments for the board and what is plugged in.
fn machine(simulated: &Simulated) -> String {
    let board = simulated.board;
    let confined = simulated.spec.objects.iter().any(|object| matches!(object.kind, Kind::IoSpace { .. }));
    let mut text = match (board.name, confined) {
        // The board that Bochs emulates as well: an i440FX with a PIIX3, whose slots begin at device 2.
        ("bochs", _) => "-machine pc".to_owned(),
        // Four levels of tables, which most boards have alone. The kernel remaps no interrupts.
        (_, true) | ("q35", _) => {
            "-machine q35,kernel-irqchip=split -device intel-iommu,aw-bits=48,intremap=off".to_owned()
        }
        _ => "-machine q35".to_owned(),
    };
    if let Some(switch) = &board.power_off {
        let _ = write!(text, " -device isa-debug-exit,iobase={:#x},iosize=1", switch.port);
    }
    // -nographic has COM1 on the terminal, unless other ports are named, in order.
    if simulated.com > 1 {
        text += &format!("{} -serial mon:stdio", " -serial null".repeat(usize::from(simulated.com) - 1));
    }
    if let Some(disk) = &simulated.devices.disk {
        let _ = write!(text, " -drive 'if=ide,index=0,format=raw,snapshot=on,file={}'", disk.display());
    }
    for (index, (slot, model)) in simulated.devices.cards.iter().enumerate() {
        let model = match model {
            CardModel::E1000 => "e1000",
            CardModel::Ne2k => "ne2k_pci",
        };
        let (mac, device) = (mac(index), slot + 1);
        let _ = write!(text, " -netdev user,id=net{index} -device {model},netdev=net{index},mac={mac},addr={device}");
    }
    text
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::process::Output;
    use std::sync::atomic::{AtomicU32, Ordering};

    use capdl_spec::host::BOARDS;
    use capdl_spec::spec::Object;
    use layout::Bdf;

    use super::*;

    fn board(name: &str) -> &'static Board {
        BOARDS.iter().find(|board| board.name == name).unwrap()
    }

    /// A directory with a script, and with what it finds on its host.
    struct Host {
        dir: PathBuf,
        kvm: &'static str,
    }

    impl Drop for Host {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.dir);
        }
    }

    impl Host {
        /// A host with all features, whose QEMU prints its arguments and ends with this status.
        fn new(name: &str, spec: &Spec, status: u8) -> Self {
            static NUMBER: AtomicU32 = AtomicU32::new(0);
            let number = NUMBER.fetch_add(1, Ordering::Relaxed);
            let dir = std::env::temp_dir().join(format!("xtask-simulate-{}-{number}", std::process::id()));
            std::fs::create_dir_all(&dir).unwrap();
            let host = Self { dir, kvm: "/dev/null" };
            let devices = Devices::default();
            write(&host.dir, &Simulated { board: board(name), com: 1, memory_mib: 512, devices: &devices, spec })
                .unwrap();
            host.put("nested", "Y\n");
            host.put("cpuinfo", "flags\t\t: fpu vmx fsgsbase pcid invpcid pdpe1gb\nvmx flags\t: vnmi ept vpid\n");
            host.put("qemu-system-x86_64", &format!("#!/bin/sh\necho \"$@\"\nexit {status}\n"));
            let program = host.dir.join("qemu-system-x86_64");
            std::fs::set_permissions(program, std::fs::Permissions::from_mode(0o755)).unwrap();
            host
        }

        fn put(&self, file: &str, text: &str) {
            std::fs::write(self.dir.join(file), text).unwrap();
        }

        fn run(&self) -> Output {
            let file = |name: &str| self.dir.join(name);
            let path = format!("{}:{}", self.dir.display(), std::env::var("PATH").unwrap());
            let mut run = crate::process::tool(file("simulate"));
            run.env("PATH", path).env("KVM", self.kvm);
            run.env("CPUINFO", file("cpuinfo")).env("NESTED", file("nested")).output().unwrap()
        }

        /// The one sentence of a host that cannot.
        fn refusal(&self) -> String {
            let output = self.run();
            assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(1), [].as_slice()));
            String::from_utf8(output.stderr).unwrap()
        }
    }

    #[test]
    fn a_host_that_lacks_something_says_what_and_the_remedy() {
        let mut host = Host::new("pc-modern", &Spec::default(), 0);
        for (file, text, said) in [
            ("nested", "N\n", "nested=1"),
            ("cpuinfo", "flags\t\t: fpu svm\n", "shows no VT-x (use cargo xtask run)"),
            (
                "cpuinfo",
                "flags\t\t: fpu vmx ept vpid fsgsbase invpcid pdpe1gb\n",
                "has no pcid, which the kernel for board",
            ),
            ("cpuinfo", "flags\t\t: fpu vmx fsgsbase pcid invpcid pdpe1gb\nvmx flags\t: vpid\n", "has no ept"),
        ] {
            let file = host.dir.join(file);
            let before = std::fs::read(&file).unwrap();
            std::fs::write(&file, text).unwrap();
            let refusal = host.refusal();
            assert!(refusal.contains(said) && refusal.lines().count() == 1, "{refusal}");
            std::fs::write(&file, before).unwrap();
        }
        std::fs::remove_file(host.dir.join("nested")).unwrap();
        assert!(host.refusal().contains("KVM keeps VT-x from its guests"));
        host.kvm = "/nowhere";
        assert!(host.refusal().contains("/dev/kvm is missing or not writable"));
    }

    #[test]
    fn an_old_processor_is_enough_for_its_board() {
        let host = Host::new("pc", &Spec::default(), 0);
        host.put("cpuinfo", "flags\t\t: fpu vmx ept vpid\n");
        assert!(host.run().status.success());
    }

    #[test]
    fn the_machine_is_like_the_board() {
        let arguments = |name: &str, spec: &Spec| String::from_utf8(Host::new(name, spec, 0).run().stdout).unwrap();
        let space = Kind::IoSpace { domain: 1, function: Bdf { bus: 0, device: 2, function: 0 } };
        let confined = Spec { objects: vec![Object { name: String::new(), kind: space }], ..Spec::default() };
        let nothing = Spec::default();
        for (name, spec, chipset, iommu) in [
            ("bochs", &nothing, "-machine pc ", false),
            ("pc", &nothing, "-machine q35 ", false),
            ("cma34cr", &confined, "-machine q35,kernel-irqchip=split ", true),
            ("q35", &nothing, "-machine q35,kernel-irqchip=split ", true),
        ] {
            let text = arguments(name, spec);
            assert!(text.contains(chipset) && text.contains("intel-iommu,aw-bits=48") == iommu, "{name}: {text}");
            assert_eq!(text.contains("isa-debug-exit,iobase=0x8900"), name == "bochs", "{name}: {text}");
        }
    }

    #[test]
    fn the_end_of_a_system_is_the_scripts() {
        // QEMU's hw/misc/debugexit.c: the byte, shifted left, and one.
        let status = |byte: u8| (byte << 1) | 1;
        for (of_qemu, of_script, said) in [
            (status(b'S'), 0, ""),
            (status(b'F'), 1, "simulate: the system has failed\n"),
            (0, 1, "simulate: ended without a word of the system, by a reset or Ctrl-A X\n"),
            (7, 7, ""),
        ] {
            let output = Host::new("bochs", &Spec::default(), of_qemu).run();
            let text = String::from_utf8(output.stderr).unwrap();
            assert_eq!((output.status.code(), text.as_str()), (Some(of_script), said), "{of_qemu}");
        }
    }
}
