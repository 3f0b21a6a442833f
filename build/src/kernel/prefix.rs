//! A prefix, an installed seL4: bin/kernel.elf and libsel4/include. Refuses kernels that cannot run a system, each with the
//! setting to change.

use std::path::{Path, PathBuf};

use capdl_spec::host::Processor;
use miette::{Result, miette};
use sel4_sys_gen::{Config, Prefix as Installed, Release, release};
use vtx::cpuid;

use crate::kernel::{Build, Kernel, Lacking, Platform};
use crate::project;

/// A checked prefix.
#[derive(Debug, Clone)]
pub struct Prefix {
    dir: PathBuf,
    name: String,
    about: String,
    needs: Vec<&'static str>,
    slots: u64,
    /// Whether it is a debug kernel where a release kernel is wanted.
    slow: bool,
    guest_debug_registers: bool,
    guests_of_64_bits: bool,
    xcr0: u64,
    switches_all_msrs: bool,
}

impl Prefix {
    /// Checks a directory. `name` is the kernel's name in paths.
    pub fn open(dir: &Path, name: &str, kernel: Kernel) -> Result<Self> {
        exists(dir)?;
        let installed = Installed::open(dir.to_path_buf()).map_err(|why| miette!("{why}"))?;
        let release = Release::of(&installed).map_err(|why| miette!("{why}"))?;
        if let Some((what, setting)) = refused(release, &installed.config, kernel) {
            return Err(miette!(
                help = format!("configure the kernel with {setting}: kernel-config/README.md has the settings for it"),
                "{what} in {}",
                dir.display()
            ));
        }
        Ok(Self {
            dir: dir.to_path_buf(),
            name: name.to_owned(),
            about: release::describe(release, &installed.config),
            needs: release::needs(&installed.config),
            slots: 1 << installed.config.number(SLOT_BITS),
            slow: kernel.build == Build::Release && installed.config.is_defined("DEBUG_BUILD"),
            guest_debug_registers: installed.config.is_defined("X86_VTX_GUEST_DEBUG_REGISTERS"),
            guests_of_64_bits: installed.config.is_defined("X86_64_VTX_64BIT_GUESTS"),
            switches_all_msrs: installed.config.is_defined("X86_64_VTX_64BIT_GUESTS") && release == Release::Pinned,
            xcr0: match installed.config.number("XSAVE_FEATURE_SET") {
                set if installed.config.is_defined("XSAVE") && set & !cpuid::COMPONENTS == 0 => set,
                _ => 0,
            },
        })
    }

    /// The user's. It has one configuration, where ours has one for each class of boards.
    pub fn open_own(dir: &Path, kernel: Kernel) -> Result<Self> {
        let name = match (kernel.platform, kernel.build) {
            (Platform::Iommu, _) => "own-prefix-iommu",
            (Platform::Vtx(_), Build::Debug) => "own-prefix-debug",
            (Platform::Vtx(_), Build::Release) => "own-prefix",
        };
        let prefix = Self::open(dir, name, kernel)?;
        let has: &[&str] = match kernel.platform {
            Platform::Vtx(Processor::Nehalem) => &[],
            Platform::Vtx(Processor::IvyBridge) => &["FSGSBASE"],
            Platform::Vtx(Processor::Haswell) | Platform::Iommu => return Ok(prefix),
        };
        let lacks: Vec<&str> = prefix.needs.iter().copied().filter(|need| !has.contains(need)).collect();
        match lacks.is_empty() {
            true => Ok(prefix),
            false => Err(Lacking(format!(
                "the board's processor may lack {}, which the kernel in {} needs: configure one with \
                 KernelSupportPCID=OFF, KernelFSGSBase=msr and KernelHugePage=OFF",
                lacks.join(", "),
                dir.display()
            ))
            .into()),
        }
    }

    /// The kernel's name in paths.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The directory: the value for SEL4_PREFIX.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Release and configuration, in a sentence.
    pub fn about(&self) -> &str {
        &self.about
    }

    /// How many capabilities the root task can hold.
    pub fn slots(&self) -> u64 {
        self.slots
    }

    /// Whether the kernel switches debug registers between guests (`debug-registers` in docs/kernel-defects.md).
    pub fn has_guest_debug_registers(&self) -> bool {
        self.guest_debug_registers
    }

    /// Whether the kernel switches KERNEL_GS_BASE and TSC_AUX for a guest. Ours does so, and seL4 16.0.0 does not.
    pub const fn switches_all_msrs(&self) -> bool {
        self.switches_all_msrs
    }

    /// XCR0 of guests, as `vtx::enter` finds it in the configuration: zero without XSAVE.
    pub const fn xcr0(&self) -> u64 {
        self.xcr0
    }

    /// The processor that guests see.
    pub fn processor(&self) -> cpuid::Processor {
        if self.guests_of_64_bits { cpuid::Processor::Bits64 } else { cpuid::Processor::Bits32 }
    }

    /// What is to be said of a debug kernel in the place of the release kernel, which is for measuring and shipping.
    pub fn remark(&self) -> Option<String> {
        self.slow.then(|| {
            format!(
                "the kernel in {} is a debug kernel: slower, and any process can stop the machine by its debug system \
                 calls; to ship or measure a system, name a release kernel by SEL4_PREFIX and this one by SEL4_PREFIX_DEBUG",
                self.dir.display()
            )
        })
    }

    /// The kernel, a 64-bit ELF.
    pub fn kernel(&self) -> PathBuf {
        self.dir.join("bin/kernel.elf")
    }
}

/// The option that says how many capabilities the root task can hold, as a power of two.
const SLOT_BITS: &str = "ROOT_CNODE_SIZE_BITS";

/// Whether there is a kernel at all, and for this kind of processor.
fn exists(dir: &Path) -> Result<()> {
    let kernel = dir.join("bin/kernel.elf");
    if !kernel.is_file() {
        return Err(miette!(
            help =
                "an seL4 prefix is what `cmake --install` of a configured seL4 leaves: bin/kernel.elf, libsel4/include",
            "{} is missing",
            kernel.display()
        ));
    }
    // ELF (System V ABI, chapter 4): magic and class, 64 bits; e_machine, x86-64.
    let bytes = project::read(&kernel)?;
    if !bytes.starts_with(b"\x7fELF\x02") || bytes.get(18..20) != Some(&[62, 0]) {
        return Err(miette!(
            help = "configure it with KernelPlatform=pc99 and KernelSel4Arch=x86_64",
            "{} is no 64-bit kernel for x86",
            kernel.display()
        ));
    }
    Ok(())
}

/// Why this kernel cannot run what it is for, and the setting that would make it fit.
fn refused(release: Release, config: &Config, kernel: Kernel) -> Option<(&'static str, &'static str)> {
    let on = |option| config.is_defined(option);
    let vtx = matches!(kernel.platform, Platform::Vtx(_));
    let refusals = [
        (vtx && !on("VTX"), "VT-x is off", "KernelVTX=ON and KernelVerificationBuild=OFF"),
        (
            on("X86_64_VTX_64BIT_GUESTS") && !matches!(release, Release::Pinned | Release::Since16),
            "64-bit guests are on, and before 16.0.0 their VMM can take over the kernel (seL4 issue 1667),",
            "KernelX86_64VTX64BitGuests=OFF, or take a later release",
        ),
        (!vtx && on("VTX"), "VT-x is on, which QEMU without KVM does not emulate,", "KernelVTX=OFF"),
        (!vtx && on("SUPPORT_PCID"), "PCIDs are on, which QEMU without KVM does not emulate,", "KernelSupportPCID=OFF"),
        (
            kernel.build == Build::Debug && !(on("DEBUG_BUILD") && on("PRINTING")),
            "debugging is off",
            "KernelDebugBuild=ON and KernelPrinting=ON",
        ),
        (
            !(4..=32).contains(&config.number(SLOT_BITS)),
            "the configuration names no possible size of the root CNode",
            "KernelRootCNodeSizeBits=18",
        ),
    ];
    refusals.into_iter().find_map(|(wrong, what, setting)| wrong.then_some((what, setting)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel;

    const HASWELL: Kernel = Kernel { build: Build::Release, platform: Platform::Vtx(Processor::Haswell) };

    /// A prefix with this configuration, and the size of the root CNode; `name` makes its directory unique.
    fn fake(name: &str, config: &str) -> PathBuf {
        let config = config.replacen('{', r#"{"ROOT_CNODE_SIZE_BITS": 18, "#, 1);
        let dir = std::env::temp_dir().join(format!("xtask-prefix-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        let elf = [b"\x7fELF\x02".as_slice(), &[0; 13], &[62, 0]].concat();
        project::write(&dir.join("bin/kernel.elf"), &elf).unwrap();
        project::write(&dir.join("libsel4/include/kernel/gen_config.json"), config.as_bytes()).unwrap();
        project::write(&dir.join("libsel4/include/interfaces/object-api.xml"), b"<api/>").unwrap();
        dir
    }

    /// The error and the help of opening a prefix with this configuration.
    fn said(name: &str, config: &str, kernel: Kernel) -> String {
        let dir = fake(name, config);
        let opened = Prefix::open(&dir, "x", kernel);
        std::fs::remove_dir_all(&dir).unwrap();
        match opened {
            Ok(prefix) => prefix.about().to_owned(),
            Err(error) => format!("{error} {}", error.help().map(|help| help.to_string()).unwrap_or_default()),
        }
    }

    #[test]
    fn a_kernel_that_cannot_run_a_system_is_refused_with_the_setting_to_change() {
        let debug = Kernel { build: Build::Debug, ..HASWELL };
        let iommu = Kernel { platform: Platform::Iommu, ..HASWELL };
        for (name, config, kernel, what, setting) in [
            ("off", r#"{"VTX": false}"#, HASWELL, "VT-x is off", "KernelVTX=ON"),
            ("silent", r#"{"IOMMU": false}"#, HASWELL, "VT-x is off", "KernelVTX=ON"),
            ("mcs", r#"{"VTX": true, "KERNEL_MCS": true}"#, HASWELL, "the MCS scheduler", "KernelIsMCS=OFF"),
            (
                "escape",
                r#"{"VTX": true, "X86_64_VTX_64BIT_GUESTS": true}"#,
                HASWELL,
                "seL4 issue 1667",
                "KernelX86_64VTX64BitGuests=OFF",
            ),
            ("release", r#"{"VTX": true}"#, debug, "debugging is off", "KernelDebugBuild=ON and KernelPrinting=ON"),
            ("qemu", r#"{"VTX": true}"#, iommu, "VT-x is on", "KernelVTX=OFF"),
            (
                "slots",
                r#"{"VTX": true, "ROOT_CNODE_SIZE_BITS": false}"#,
                HASWELL,
                "names no possible size of the root CNode",
                "KernelRootCNodeSizeBits=18",
            ),
        ] {
            let said = said(name, config, kernel);
            assert!(said.contains(what) && said.contains(setting), "{name}: {said}");
        }
    }

    #[test]
    fn a_relative_prefix_is_made_absolute_and_an_empty_one_is_refused() {
        let dir = fake("relative", r#"{"VTX": true}"#);
        let up: PathBuf = std::env::current_dir().unwrap().components().skip(1).map(|_| "..").collect();
        let relative = up.join(dir.strip_prefix("/").unwrap());
        assert!(kernel::own("SEL4_PREFIX", relative.into(), HASWELL).unwrap().dir().is_absolute());
        let error = kernel::own("SEL4_PREFIX", "".into(), HASWELL).unwrap_err();
        assert_eq!(error.chain().nth(1).unwrap().to_string(), "it is empty");
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn a_kernel_that_needs_more_than_the_boards_processor_is_refused_for_that_board() {
        let dir = fake("fsgs", r#"{"VTX": true, "FSGSBASE_INST": true, "HUGE_PAGE": true}"#);
        assert!(Prefix::open_own(&dir, HASWELL).is_ok());
        for (processor, lacks) in
            [(Processor::Nehalem, "lack FSGSBASE, 1 GiB pages, "), (Processor::IvyBridge, "lack 1 GiB pages, ")]
        {
            let error = Prefix::open_own(&dir, Kernel { platform: Platform::Vtx(processor), ..HASWELL }).unwrap_err();
            assert!(error.downcast_ref::<Lacking>().is_some_and(|why| why.0.contains(lacks)), "{error}");
        }
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn a_fitting_kernel_is_taken_and_described() {
        let said = said("on", r#"{"VTX": true}"#, HASWELL);
        assert!(said.starts_with("seL4 before 15.0.0, release build for any processor: guests of 32 bits"), "{said}");
    }

    #[test]
    fn a_debug_kernel_is_remarked_on_where_a_release_kernel_is_wanted() {
        let dir = fake("slow", r#"{"VTX": true, "DEBUG_BUILD": true, "PRINTING": true}"#);
        let remark = |build| Prefix::open(&dir, "x", Kernel { build, ..HASWELL }).unwrap().remark();
        let said = remark(Build::Release).unwrap();
        assert!(said.starts_with(&format!("the kernel in {} is a debug kernel: ", dir.display())), "{said}");
        assert_eq!(remark(Build::Debug), None);
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn an_empty_directory_is_no_prefix_and_the_missing_file_is_named() {
        let error = Prefix::open(Path::new("/no/such"), "x", HASWELL).unwrap_err().to_string();
        assert!(error.ends_with("bin/kernel.elf is missing"), "{error}");
    }

    #[test]
    fn a_kernel_for_another_processor_is_refused() {
        let dir = fake("arm", r#"{"VTX": true}"#);
        project::write(&dir.join("bin/kernel.elf"), b"\x7fELF\x01 of 32 bits").unwrap();
        let error = Prefix::open(&dir, "x", HASWELL).unwrap_err().to_string();
        assert!(error.ends_with("is no 64-bit kernel for x86"), "{error}");
        std::fs::remove_dir_all(dir).unwrap();
    }
}
