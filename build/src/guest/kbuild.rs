//! Builds kernel modules for a guest: by Linux's own build system, against the headers of the guest's kernel.
//!
//! Debian's headers are three packages: what all flavours have, what is the flavour's own, and the build system's tools, which
//! are programs for i386. Those run by the loader and the libraries of the same archive, so a host needs none of them.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use miette::{IntoDiagnostic, Result, miette};

use super::debian::{self, Flavour};
use crate::packages::Purpose;
use crate::project::{self, Project};
use crate::{cache, process, setup};

/// Where kbuild's tools are in their package, by its version.
const TOOLS: &str = "usr/lib";
/// Where the headers are.
const SOURCES: &str = "usr/src";
/// The loader and the libraries of those tools.
const LIBRARIES: [&str; 3] = ["libc6", "libelf1", "zlib1g"];
const LOADER: &str = "lib/i386-linux-gnu/ld-linux.so.2";
const LIBRARY_PATHS: [&str; 2] = ["lib/i386-linux-gnu", "usr/lib/i386-linux-gnu"];

/// Builds the modules of `folder`, which has kbuild's Makefile; returns their files.
pub fn modules(project: &Project, flavour: Flavour, folder: &Path) -> Result<Vec<PathBuf>> {
    let folder = folder.canonicalize().map_err(|error| miette!("{}: {error}", folder.display()))?;
    if !["Kbuild", "Makefile"].iter().any(|name| folder.join(name).is_file()) {
        let help = "write one that says which modules to build, such as: obj-m := hello.o";
        return Err(miette!(help = help, "{} has no Makefile", folder.display()));
    }
    setup::ensure(&[Purpose::Kernel])?;
    let (release, headers) = headers(project, flavour)?;
    let mut make = process::tool("make");
    // Debian's headers ask for the compiler of their release by its version.
    make.arg("-C").arg(&headers).arg(format!("M={}", folder.display())).args(["ARCH=i386", "CC=gcc", "modules"]);
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
pub fn headers(project: &Project, flavour: Flavour) -> Result<(String, PathBuf)> {
    let release = debian::release(project, flavour)?;
    // 6.1.0-50-686 has its own headers, and 6.1.0-50's and 6.1's tools.
    let version = release.strip_suffix(flavour.name()).unwrap_or(&release).trim_end_matches('-');
    let series: Vec<&str> = version.split('.').take(2).collect();
    let kept = project.guest().join("headers").join(&release);
    // The tree has its own path in it.
    cache::keep(&kept, &format!("{release} at {}, {}", kept.display(), include_str!("kbuild.rs")), |aside| {
        let own = [release.clone(), format!("{version}-common")].map(|name| format!("linux-headers-{name}"));
        let tools = format!("linux-kbuild-{}", series.join("."));
        for name in own.iter().chain([&tools]).map(String::as_str).chain(LIBRARIES) {
            debian::unpack_all(project, name, aside)?;
        }
        let makefile = aside.join(SOURCES).join(format!("linux-headers-{release}/Makefile"));
        let text = String::from_utf8_lossy(&project::read(&makefile)?).into_owned();
        project::write(&makefile, text.replace("/usr/src", &kept.join(SOURCES).to_string_lossy()).as_bytes())?;
        cache::sources_below(&aside.join(TOOLS).join(tools))?.iter().try_for_each(|path| wrap(path, aside, &kept))
    })?;
    let tree = kept.join(SOURCES).join(format!("linux-headers-{release}"));
    Ok((release, tree))
}

/// Has a program for i386 run by the loader of the tree, which will be at `kept`. Leaves other files as they are.
fn wrap(path: &Path, aside: &Path, kept: &Path) -> Result<()> {
    /// A magic number, and the class of 32 bits (System V ABI, "ELF Identification").
    const ELF32: &[u8] = b"\x7fELF\x01";
    if !project::read(path)?.starts_with(ELF32) {
        return Ok(());
    }
    let mut program = path.as_os_str().to_owned();
    program.push(".i386");
    std::fs::rename(path, &program).into_diagnostic()?;
    let moved = |path: &Path| kept.join(path.strip_prefix(aside).unwrap_or(path));
    let libraries = LIBRARY_PATHS.map(|path| kept.join(path).display().to_string()).join(":");
    // modpost finds the program of a byte order beside itself, by its own name.
    let text = format!(
        "#!/bin/sh\nexec '{}' --library-path '{libraries}' --argv0 \"$0\" '{}' \"$@\"\n",
        kept.join(LOADER).display(),
        moved(Path::new(&program)).display()
    );
    project::write(path, text.as_bytes())?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).into_diagnostic()
}
