//! Programs and kernel modules of the user's, built for a guest from their sources: folders with a Makefile, whose target `install`
//! puts files below DESTDIR.
//!
//! The compiler is the host's, by `-m32`; headers, libraries and start-up files are those of the guest's release, from packages.
//! Makefiles get it as CC, a guest's kernel headers, ready for kbuild, as KDIR, and our own header, that of channels, as
//! PORTCULLIS.

use std::path::{Path, PathBuf};

use miette::{IntoDiagnostic, Result, miette};

use super::debian::{self, Flavour};
use super::kbuild;
use crate::packages::Purpose;
use crate::project::{self, Project};
use crate::{cache, process, setup};

/// What every program is compiled with: C's headers and library, and the compiler's own.
const BASE: [&str; 2] = ["libc6-dev", "libgcc-12-dev"];
/// Where those of the compiler are. They work with other versions of it.
const COMPILER: &str = "usr/lib/gcc/i686-linux-gnu/12";

/// Where our own headers for guests' programs are.
const INCLUDES: &str = "guests/channel";

/// Builds a folder and returns the directory into which its Makefile has installed.
pub fn install(project: &Project, folder: &Path, libraries: &[String], kernel: Option<Flavour>) -> Result<PathBuf> {
    let makefile = folder.join("Makefile");
    let text = String::from_utf8_lossy(&project::read(&makefile)?).into_owned();
    setup::ensure(&[Purpose::Kernel])?;
    let names: Vec<String> = BASE.iter().map(|name| (*name).to_owned()).chain(libraries.iter().cloned()).collect();
    let sysroot = debian::packages(project, &names)?;
    let mut variables = vec![format!("CC={}", compiler(&sysroot))];
    // The headers are of use only to kbuild, and are fetched for those who ask for them.
    if text.contains("KDIR") {
        let flavour = kernel.ok_or_else(|| {
            let help = "write kernel = \"debian-686\", or leave the module out";
            miette!(help = help, "{} builds modules, but the VM's kernel is none of Debian's", makefile.display())
        })?;
        variables.push(format!("KDIR={}", kbuild::headers(project, flavour)?.1.display()));
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

/// The compiler for programs of the guest's release.
fn compiler(sysroot: &Path) -> String {
    let (root, own) = (sysroot.display(), sysroot.join(COMPILER));
    let own = own.display();
    format!("gcc -m32 --sysroot={root} -B{own} -L{own}")
}
