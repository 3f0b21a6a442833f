//! Tiny guests: an instruction or a device each, in tests/guests/NAME.c, compiled to an ELF that boots like Linux. The guest
//! `long-NAME` has 64-bit code: a file of that name, or else NAME.c, which both widths share.
//!
//! For tests, each becomes a system of its own in target/guest/tiny/NAME: the ELF, and a description with a VM of 4 MiB. A
//! description may also name such a C file as a kernel, as systems/bench.toml does.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use capdl_spec::host::Architecture;
use miette::Result;

use crate::process;
use crate::project::{self, Project};

/// The compiler's options: no library, no FPU.
const FLAGS: &str = "-std=gnu17 -O1 -Wall -Wextra -Werror -ffreestanding -nostdlib -static -no-pie -fno-pie \
                     -fno-stack-protector -fcf-protection=none -mgeneral-regs-only -fno-asynchronous-unwind-tables \
                     -Wl,--build-id=none,-z,noexecstack";
/// The linker's options: everything from 1 MiB on.
const AT_1_MIB: &str = "-Wl,-Ttext-segment=0x100000";

/// The command that compiles a C file, without a library, to `program`.
pub fn gcc(source: &Path, program: &Path, architecture: Architecture) -> Command {
    let mut gcc = process::tool("gcc");
    gcc.arg(match architecture {
        Architecture::I386 => "-m32",
        Architecture::Amd64 => "-m64",
    });
    gcc.args(FLAGS.split_whitespace()).arg("-o").arg(program).arg(source);
    gcc
}

/// Compiles the guest `name` to `dir`/`name`.
pub fn compile(project: &Project, name: &str, dir: &Path) -> Result<()> {
    let source = |name: &str| project.root.join("tests/guests").join(name).with_extension("c");
    let shared = name.strip_prefix("long-").filter(|_| !source(name).exists());
    compile_file(&source(shared.unwrap_or(name)), &dir.join(name), name.starts_with("long-"))
}

/// The guest that a description names by its C file, compiled: of 64 bits if it is called `long-NAME.c`.
pub fn kernel(project: &Project, source: &Path) -> Result<PathBuf> {
    let name = source.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let guest = project.guest().join("tiny").join("kernels").join(&name);
    compile_file(source, &guest, name.starts_with("long-"))?;
    Ok(guest)
}

fn compile_file(source: &Path, guest: &Path, is_long: bool) -> Result<()> {
    let dir = guest.parent().unwrap_or(guest);
    std::fs::create_dir_all(dir).map_err(|error| miette::miette!("cannot create {}: {error}", dir.display()))?;
    let architecture = if is_long { Architecture::Amd64 } else { Architecture::I386 };
    let mut gcc = gcc(source, guest, architecture);
    gcc.arg(AT_1_MIB);
    if is_long {
        // An interrupt uses the stack of the code that it interrupts, and pages of 4 KiB keep the file small.
        gcc.args(["-mno-red-zone", "-Wl,-z,max-page-size=4096"]);
    }
    process::output(gcc).map(|_| ())
}

/// Compiles the guests `names` and describes a system of one VM for each, with further lines `keys`, and `rest` behind them;
/// returns the description. The system has the name of the first.
pub fn system(project: &Project, names: &[&str], keys: &str, rest: &str) -> Result<PathBuf> {
    let name = format!("tiny-{}", names.join("-"));
    let dir = project.guest().join("tiny").join(&name);
    let mut description = "board = \"bochs\"\n".to_owned();
    for guest in names {
        compile(project, guest, &dir)?;
        let _ = write!(description, "\n[[vm]]\nname = \"{guest}\"\nmemory = \"4 MiB\"\nkernel = \"./{guest}\"\n{keys}");
    }
    description.push_str(rest);
    let path = dir.join(name).with_extension("toml");
    project::write(&path, description.as_bytes())?;
    Ok(path)
}
