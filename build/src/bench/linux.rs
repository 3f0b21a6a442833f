//! The rows of whole boots: Debian's kernel in a VM and natively on the same board, to the first program of the user's; what
//! Linux's own work costs there (work.c), both ways; and what an idle guest costs. Four boots, all of them exact.

use std::path::PathBuf;
use std::process::Command;

use miette::{IntoDiagnostic, Result, miette};

use super::exits::finish;
use super::row::{Row, Rows, Unit};
use crate::bochs::config::Devices;
use crate::guest::cpio::{Archive, Entry};
use crate::guest::{self, debian};
use crate::kernel::Build;
use crate::native::{self, ENTRY_MARK, Linux};
use crate::test::Context;
use crate::{process, project};

/// Both ways the same; near the default one.
const COMMAND_LINE: &str = "console=ttyS0,115200 i8042.nokbd=y i8042.nomux=y i8042.noaux=y io_delay=udelay noisapnp \
                            pci=nomsi acpi=off cryptomgr.notests=1 quiet";

/// Of the guest, and of the board when there is no VMM.
const MEMORY_MIB: u32 = 128;

/// The line that the script leaves in the emulator's log: the first program on the console runs.
const SHELL_MARK: &str = "shell";

/// Emulated seconds that a guest sleeps, to see what that costs.
const IDLE: u64 = 10;

const FLAGS: &str = "-m32 -std=gnu17 -O1 -Wall -Wextra -Werror -ffreestanding -nostdlib -static -no-pie -fno-pie \
                     -fno-stack-protector -fcf-protection=none -mgeneral-regs-only -fno-asynchronous-unwind-tables \
                     -Wl,--build-id=none,-z,noexecstack";

/// Measures them.
pub fn measure(context: &Context) -> Result<Rows> {
    let mut rows = Rows::default();
    let idle = virtual_boot(context, "bench-boot", "")?;
    boot_rows(&mut rows, &idle)?;
    rows.0.push(Row::single("power_on_to_guest", idle.entry, Unit::Ticks));
    let slept = virtual_boot(context, "bench-idle", &format!("sleep {IDLE}\n"))?;
    let exits = slept.exits()?.saturating_sub(idle.exits()?);
    rows.0.push(Row::single("idle_exits_per_second", exits / IDLE, Unit::Exits));
    let worked = virtual_boot(context, "bench-work", "/work\n")?;
    let natively = native_boot(context, "/work\n")?;
    rows.0.push(Row::single("boot_native", natively.ticks()?, Unit::Ticks));
    for (suffix, run) in [("vm", &worked), ("native", &natively)] {
        let named = |row: Row| Row { name: format!("{}_{suffix}", row.name), ..row };
        rows.0.extend(Rows::printed(&run.console).0.into_iter().map(named));
    }
    let image = std::fs::metadata(context.project.images("bench-boot").join("root-task")).into_diagnostic()?;
    rows.0.push(Row::single("image_size", image.len(), Unit::Bytes));
    Ok(rows)
}

/// What a boot printed and marked.
struct Run {
    console: String,
    /// The tick of the kernel's first instruction.
    entry: u64,
    marks: Vec<(u64, String)>,
}

impl Run {
    /// From the kernel's first instruction to the script's.
    fn ticks(&self) -> Result<u64> {
        let shell = mark(&self.marks, SHELL_MARK).ok_or_else(|| miette!("no script ran:\n{}", self.console))?;
        Ok(shell.saturating_sub(self.entry))
    }

    /// The numbers that vmm-server prints at power-off, by what it calls them.
    fn count(&self, what: &str) -> Option<u64> {
        let line =
            self.console.lines().find_map(|line| line.strip_prefix("vmm-linux: ")?.trim_start().split_once(what));
        line?.0.trim_end().parse().ok()
    }

    fn exits(&self) -> Result<u64> {
        self.count(" exits, ").ok_or_else(|| miette!("vmm-server does not tell its exits:\n{}", self.console))
    }
}

fn boot_rows(rows: &mut Rows, run: &Run) -> Result<()> {
    rows.0.push(Row::single("boot_vm", run.ticks()?, Unit::Ticks));
    rows.0.push(Row::single("boot_exits", run.exits()?, Unit::Exits));
    for (name, what) in [
        ("boot_exits_io", " I/O instruction"),
        ("boot_exits_window", " interrupt window"),
        ("boot_exits_cpuid", " CPUID"),
        ("boot_exits_halt", " HLT"),
    ] {
        rows.0.push(Row::single(name, run.count(what).unwrap_or(0), Unit::Exits));
    }
    Ok(())
}

fn mark(marks: &[(u64, String)], text: &str) -> Option<u64> {
    marks.iter().find(|(_, mark)| mark == text).map(|(tick, _)| *tick)
}

/// The default initramfs with a script, and the program that works.
fn initrd(context: &Context, script: &str) -> Result<PathBuf> {
    const WORK: &str = include_str!("work.c");
    let dir = context.project.guest().join("bench");
    let (source, program) = (dir.join("work.c"), dir.join("work"));
    project::write(&source, WORK.as_bytes())?;
    let mut gcc = Command::new("gcc");
    gcc.args(FLAGS.split_whitespace()).arg("-o").arg(&program).arg(&source);
    process::output(gcc)?;
    let script = format!(
        "#!/bin/sh\n\
         put() {{ printf $2 | dd of=/dev/port bs=1 count=1 seek=$1 conv=notrunc 2>/dev/null; }}\n\
         for c in s h e l l '\\n'; do put 1026 $c; done\n\
         {script}"
    );
    let first = guest::initramfs(&context.project, Some(&script))?;
    // The kernel unpacks one archive after the other.
    let mut second = Archive::default();
    second.add("work", &Entry::File { mode: 0o755, bytes: &project::read(&program)? });
    let bytes = [project::read(&first)?, second.finish()].concat();
    let path = dir.join(format!("{}.cpio", guest::bzimage::fingerprint(&bytes)));
    project::write(&path, &bytes)?;
    Ok(path)
}

fn virtual_boot(context: &Context, name: &str, script: &str) -> Result<Run> {
    let initrd = initrd(context, &format!("{script}poweroff\n"))?;
    let description = context.project.guest().join("bench").join(format!("{name}.toml"));
    let text = format!(
        "board = \"bochs\"\n\
         \n\
         [[vm]]\n\
         name = \"linux\"\n\
         memory = \"{MEMORY_MIB} MiB\"\n\
         kernel = \"debian-686\"\n\
         initrd = \"{}\"\n\
         cmdline = \"{COMMAND_LINE}\"\n\
         direct_ports = [0x402]\n",
        initrd.display()
    );
    project::write(&description, text.as_bytes())?;
    let description = description.to_string_lossy();
    let machine = context.boot_with(&description, Build::Release, |options| options.input = false)?;
    let (console, machine) = finish(machine)?;
    let entry = console.lines().find_map(|line| line.split_once("entering the guest at TSC ")?.1.trim().parse().ok());
    let entry = entry.ok_or_else(|| miette!("vmm-server does not tell when the guest begins:\n{console}"))?;
    Ok(Run { entry, marks: machine.marks(), console })
}

/// Natively nothing switches the board off, so the script writes to the emulator's switch.
fn native_boot(context: &Context, script: &str) -> Result<Run> {
    let project = &context.project;
    let linux = Linux {
        kernel: debian::kernel(project, debian::Flavour::Plain)?,
        initrd: initrd(context, &format!("{script}for c in S h u t d o w n; do put 35072 $c; done\n"))?,
        cmdline: COMMAND_LINE.to_owned(),
        memory_mib: MEMORY_MIB,
        devices: Devices::default(),
    };
    let machine = native::boot(project, "bench-native", &linux, |options| options.input = false)?;
    let (console, machine) = finish(machine)?;
    let marks = machine.marks();
    let entry = mark(&marks, ENTRY_MARK).ok_or_else(|| miette!("the loader did not come to its end:\n{console}"))?;
    Ok(Run { entry, marks, console })
}
