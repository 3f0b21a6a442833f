//! Builds kernel modules for a guest: by Linux's own build system, against the headers of the guest's kernel.
//!
//! Debian's headers are three packages: what all flavours have, what is the flavour's own, and the build system's tools, which
//! are programs for the same architecture. Those run by the loader and the libraries of the same archive, so a host needs none
//! of them.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use capdl_spec::host::{self, Architecture, Debian, Release, Stock};
use miette::{IntoDiagnostic, Result, miette};

use super::debian;
use crate::packages::Purpose;
use crate::project::{self, Project};
use crate::{cache, process, setup};

/// Where kbuild's tools are in their package, by its version.
const TOOLS: &str = "usr/lib";
/// Where the headers are.
const SOURCES: &str = "usr/src";
/// Whether a release merges /lib into /usr/lib in its packages.
const fn is_merged(release: Release) -> bool {
    matches!(release, Release::Trixie)
}

/// What runs those tools.
struct Runtime {
    /// Packages.
    packages: &'static [&'static str],
    /// The loader.
    loader: &'static str,
    /// Folders of libraries.
    libraries: &'static [&'static str],
    /// The class of the tools' ELFs (System V ABI, "ELF Identification").
    class: u8,
}

fn runtime(debian: Debian) -> Runtime {
    let packages: &[&str] = match debian.release {
        Release::Bookworm => &["libc6", "libelf1", "zlib1g"],
        Release::Trixie => &["libc6", "libelf1t64", "zlib1g", "libzstd1"],
    };
    match debian.architecture() {
        Architecture::I386 => Runtime {
            packages,
            loader: "lib/i386-linux-gnu/ld-linux.so.2",
            libraries: &["lib/i386-linux-gnu", "usr/lib/i386-linux-gnu"],
            class: 1,
        },
        Architecture::Amd64 => Runtime {
            packages,
            loader: if is_merged(debian.release) {
                "usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2"
            } else {
                "lib/x86_64-linux-gnu/ld-linux-x86-64.so.2"
            },
            libraries: &["lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu"],
            class: 2,
        },
    }
}

/// The architecture's name in Linux's build system.
pub const fn arch(debian: Debian) -> &'static str {
    match debian.architecture() {
        Architecture::I386 => "i386",
        Architecture::Amd64 => "x86_64",
    }
}

/// The kernels for which modules can be built, as descriptions name them.
pub const KERNELS: [&str; 4] = ["debian-686", "debian-686-pae", "debian-amd64", "debian-cloud-amd64"];

/// The Debian of a system's first VM.
pub fn of_system(project: &Project, name: &str) -> Result<Debian> {
    let system = host::load(&project.system(name)?)?;
    system.vms.first().map(|vm| vm.debian).ok_or_else(|| miette!("{name} has no VM"))
}

/// One of these kernels, of a release or of the last that has it; without a name `default`'s, of a release or of its own.
pub fn named(kernel: Option<&str>, release: Option<&str>, default: Debian) -> Result<Debian> {
    let debian = match kernel {
        None => default,
        Some(name) => {
            let kernel = Stock::ALL.into_iter().find(|stock| stock.name() == name);
            kernel.ok_or_else(|| miette!("no kernel is called so"))?.debian
        }
    };
    let release = match release {
        None => debian.release,
        Some(name) => [Release::Bookworm, Release::Trixie]
            .into_iter()
            .find(|release| release.name() == name)
            .ok_or_else(|| miette!("no release is called {name}"))?,
    };
    if !release.has_kernels_for(debian.architecture()) {
        let help = "leave --release out, or name a kernel for amd64";
        let architecture = debian.architecture().name();
        return Err(miette!(help = help, "Debian {} has no kernel for {architecture}", release.name()));
    }
    Ok(Debian { release, ..debian })
}

/// Builds the modules of `folder`, which has kbuild's Makefile; returns their files.
pub fn modules(project: &Project, debian: Debian, folder: &Path) -> Result<Vec<PathBuf>> {
    let folder = folder.canonicalize().map_err(|error| miette!("{}: {error}", folder.display()))?;
    if !["Kbuild", "Makefile"].iter().any(|name| folder.join(name).is_file()) {
        let help = "write one that says which modules to build, such as: obj-m := hello.o";
        return Err(miette!(help = help, "{} has no Makefile", folder.display()));
    }
    setup::ensure(&[Purpose::Kernel])?;
    let (release, headers) = headers(project, debian)?;
    let mut make = process::tool("make");
    // Debian's headers ask for the compiler of their release by its version.
    make.arg("-C").arg(&headers).arg(format!("M={}", folder.display()));
    make.arg(format!("ARCH={}", arch(debian))).args(["CC=gcc", "modules"]);
    process::run(&format!("guest: build modules for {release}"), make)?;
    let mut built = cache::sources_below(&folder)?;
    built.retain(|path| path.extension().is_some_and(|extension| extension == "ko"));
    if built.is_empty() {
        return Err(miette!(
            "{} names no module: its Makefile needs a line such as obj-m := hello.o",
            folder.display()
        ));
    }
    Ok(built)
}

/// The headers of a kernel, ready to build against, and its release.
pub fn headers(project: &Project, debian: Debian) -> Result<(String, PathBuf)> {
    let release = debian::release(project, debian)?;
    let kept = debian::folder(project, debian).join("headers").join(&release);
    // The tree has its own path in it.
    cache::keep(&kept, &format!("{release} at {}, {}", kept.display(), include_str!("kbuild.rs")), |aside| {
        let runtime = runtime(debian);
        let own = format!("linux-headers-{release}");
        // What all flavours have, and the tools, by the kernel's version or by its series.
        let others = debian::dependencies(project, debian, &own)?;
        let others =
            others.iter().filter(|name| name.starts_with("linux-headers-") || name.starts_with("linux-kbuild-"));
        for name in others.chain([&own]).map(String::as_str).chain(runtime.packages.iter().copied()) {
            debian::unpack_all(project, debian, name, aside)?;
        }
        let makefile = aside.join(SOURCES).join(&own).join("Makefile");
        let text = String::from_utf8_lossy(&project::read(&makefile)?).into_owned();
        project::write(&makefile, text.replace("/usr/src", &kept.join(SOURCES).to_string_lossy()).as_bytes())?;
        let config = aside.join(SOURCES).join(&own).join("include/config/auto.conf");
        project::write(&config, without_tools(&String::from_utf8_lossy(&project::read(&config)?)).as_bytes())?;
        let tools = std::fs::read_dir(aside.join(TOOLS)).into_diagnostic()?.flatten().map(|entry| entry.path());
        for folder in tools
            .filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("linux-kbuild-")))
        {
            cache::sources_below(&folder)?.iter().try_for_each(|path| wrap(path, aside, &kept, &runtime))?;
        }
        Ok(())
    })?;
    let tree = kept.join(SOURCES).join(format!("linux-headers-{release}"));
    Ok((release, tree))
}

/// The configuration, as Makefiles read it, without what takes tools that a host need not have. C's view of it stays, since the
/// layout of structures depends on that.
fn without_tools(config: &str) -> String {
    const LEFT_OUT: [&str; 2] = [
        // -fmin-function-alignment is gcc 14's; without it Linux uses -falign-functions.
        "CONFIG_CC_HAS_MIN_FUNCTION_ALIGNMENT=",
        // Types for BPF, by pahole. Linux loads modules without them.
        "CONFIG_DEBUG_INFO_BTF_MODULES=",
    ];
    let kept = config.lines().filter(|line| !LEFT_OUT.iter().any(|option| line.starts_with(option)));
    kept.map(|line| format!("{line}\n")).collect()
}

/// Has a program run by the loader of the tree, which will be at `kept`. Leaves other files as they are.
fn wrap(path: &Path, aside: &Path, kept: &Path, runtime: &Runtime) -> Result<()> {
    if !is_program(&project::read(path)?, runtime.class) {
        return Ok(());
    }
    let mut program = path.as_os_str().to_owned();
    program.push(".wrapped");
    std::fs::rename(path, &program).into_diagnostic()?;
    let moved = |path: &Path| kept.join(path.strip_prefix(aside).unwrap_or(path));
    let libraries = runtime.libraries.iter().map(|path| kept.join(path).display().to_string());
    let libraries = libraries.collect::<Vec<_>>().join(":");
    // modpost finds the program of a byte order beside itself, by its own name.
    let text = format!(
        "#!/bin/sh\nexec '{}' --library-path '{libraries}' --argv0 \"$0\" '{}' \"$@\"\n",
        kept.join(runtime.loader).display(),
        moved(Path::new(&program)).display()
    );
    project::write(path, text.as_bytes())?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).into_diagnostic()
}

/// Whether an ELF of this class is a program: executable, or position-independent as libraries are (System V ABI, e_type).
fn is_program(file: &[u8], class: u8) -> bool {
    let kind = file.get(16..18);
    file.starts_with(b"\x7fELF") && file.get(4) == Some(&class) && (kind == Some(&[2, 0]) || kind == Some(&[3, 0]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use capdl_spec::host::Flavour;

    #[test]
    fn what_takes_tools_that_hosts_lack_is_left_out() {
        let config = "CONFIG_CC_IS_GCC=y\nCONFIG_CC_HAS_MIN_FUNCTION_ALIGNMENT=y\nCONFIG_MODULES=y\nCONFIG_DEBUG_INFO_BTF_MODULES=y\n";
        assert_eq!(without_tools(config), "CONFIG_CC_IS_GCC=y\nCONFIG_MODULES=y\n");
    }

    #[test]
    fn only_programs_of_the_architecture_are_wrapped() {
        let elf = |class, kind| {
            let mut elf = [b"\x7fELF".as_slice(), &[class, 1, 1]].concat();
            elf.resize(64, 0);
            elf[16] = kind;
            elf
        };
        assert!(is_program(&elf(2, 2), 2) && is_program(&elf(2, 3), 2));
        // Of the other class; an object file; a script.
        assert!(!is_program(&elf(1, 2), 2) && !is_program(&elf(2, 1), 2) && !is_program(b"#!/bin/sh\n", 2));
    }

    #[test]
    fn kernels_are_named_as_in_descriptions() {
        for name in KERNELS {
            let debian = named(Some(name), None, Debian::AMD64).unwrap();
            assert_eq!(debian, Debian::with(debian.flavour));
            assert_eq!(format!("debian-{}", debian.flavour.name()), name);
        }
        let of = |kernel, release| named(Some(kernel), Some(release), Debian::AMD64).map_err(|error| error.to_string());
        let bookworm = Debian { release: Release::Bookworm, flavour: Flavour::CloudAmd64 };
        assert_eq!(of("debian-cloud-amd64", "bookworm"), Ok(bookworm));
        assert_eq!(of("debian-686", "trixie"), Err("Debian trixie has no kernel for i386".into()));
    }
    #[test]
    fn without_a_name_it_is_the_default_systems_kernel() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let default = of_system(&Project { target: root.join("target"), root }, "amd64").unwrap();
        let bookworm = Debian { release: Release::Bookworm, flavour: Flavour::CloudAmd64 };
        assert_eq!(named(None, None, default).unwrap(), bookworm);
        let trixie = Debian { release: Release::Trixie, ..bookworm };
        assert_eq!(named(None, Some("trixie"), default).unwrap(), trixie);
    }
}
