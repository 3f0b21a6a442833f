//! Programs and kernel modules of the user's, built for a guest from their sources: folders with a Makefile, whose target `install`
//! puts files below DESTDIR.
//!
//! The compiler is the host's, by `-m32` or `-m64`; headers, libraries and start-up files are those of the guest's release, from packages.
//! Makefiles get it as CC, a guest's kernel headers, ready for kbuild, as KDIR, with its ARCH, and our own header, that of channels, as
//! PORTCULLIS.

use std::path::{Path, PathBuf};

use capdl_spec::host::{Additions, Architecture, Debian, Release};
use miette::{IntoDiagnostic, Result, miette};

use super::{debian, kbuild};
use crate::packages::Purpose;
use crate::project::{self, Project};
use crate::{cache, process, setup};

/// Where our own headers for guests' programs are.
const INCLUDES: &str = "guests/channel";

/// Builds a folder and returns the directory into which its Makefile has installed.
pub fn install(project: &Project, folder: &Path, additions: &Additions) -> Result<PathBuf> {
    let debian = additions.debian;
    let makefile = folder.join("Makefile");
    let text = String::from_utf8_lossy(&project::read(&makefile)?).into_owned();
    setup::ensure(&[Purpose::Kernel])?;
    let base = ["libc6-dev".to_owned(), format!("libgcc-{}-dev", gcc_of(debian.release))];
    let names: Vec<String> = base.into_iter().chain(additions.build_packages.iter().cloned()).collect();
    let sysroot = debian::packages(project, debian, &names)?;
    let mut variables = vec![format!("CC={}", compiler(&sysroot, debian))];
    // The headers are of use only to kbuild, and are fetched for those who ask for them.
    if text.contains("KDIR") {
        if !additions.has_kernel {
            let help = "write kernel = \"debian-686\", or leave the module out";
            return Err(miette!(
                help = help,
                "{} builds modules, but the VM's kernel is none of Debian's",
                makefile.display()
            ));
        }
        variables.push(format!("KDIR={}", kbuild::headers(project, debian)?.1.display()));
        variables.push(format!("ARCH={}", kbuild::arch(debian)));
    }
    let mut recipe = format!("{} {}", cache::fingerprint(folder)?, variables.join(" "));
    let own = project.root.join(INCLUDES);
    if text.contains("PORTCULLIS") {
        recipe = format!("{recipe} {}", cache::fingerprint(&own)?);
        variables.push(format!("PORTCULLIS={}", own.display()));
    }
    let built = project.guest().join("programs").join(cache::sha256(recipe.as_bytes()));
    cache::keep(&built, &recipe, |aside| {
        // Sources stay as they are.
        let sources = aside.with_extension("sources");
        let _ = std::fs::remove_dir_all(&sources);
        project::copy_tree(folder, &sources)?;
        std::fs::create_dir_all(aside).into_diagnostic()?;
        let mut make = process::tool("make");
        make.arg("-C").arg(&sources).args(&variables).arg(format!("DESTDIR={}", aside.display())).arg("install");
        let name = folder.file_name().unwrap_or_default().display();
        let made = process::run(&format!("guest: build {name}"), make);
        let _ = std::fs::remove_dir_all(&sources);
        made.map_err(|error| error.wrap_err(format!("{} cannot be built", folder.display())))?;
        if project::entries_below(aside)?.is_empty() {
            let help = "its target `install` puts files below $(DESTDIR), such as $(DESTDIR)/bin/hello";
            return Err(miette!(help = help, "{} installs nothing", makefile.display()));
        }
        Ok(())
    })?;
    Ok(built)
}

/// The version of a release's compiler, whose libraries work with the host's.
fn gcc_of(release: Release) -> &'static str {
    match release {
        Release::Bookworm => "12",
        Release::Trixie => "14",
    }
}

/// The compiler for programs of the guest's release.
fn compiler(sysroot: &Path, debian: Debian) -> String {
    let (width, triple) = match debian.architecture() {
        Architecture::I386 => ("-m32", "i686-linux-gnu"),
        Architecture::Amd64 => ("-m64", "x86_64-linux-gnu"),
    };
    let own = sysroot.join("usr/lib/gcc").join(triple).join(gcc_of(debian.release));
    let (root, own) = (sysroot.display(), own.display());
    format!("gcc {width} --sysroot={root} -B{own} -L{own}")
}
