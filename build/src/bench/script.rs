//! Boots of Linux in which a script does everything, without input, so that they repeat exactly: in a VM, and natively on
//! the same board. Two boots run at a time, since each needs a core of the host.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::thread;

use capdl_spec::host::{Architecture, CardModel, Debian, Flavour};
use miette::{Result, ensure, miette};

use super::exits::finish;
use crate::bochs::Machine;
use crate::bochs::config::{self, Devices};
use crate::guest::cpio::{Archive, Entry};
use crate::guest::{self, bzimage, debian, tiny};
use crate::image::Image;
use crate::kernel::Build;
use crate::native::{self, ENTRY_MARK, Linux};
use crate::process;
use crate::project::{self, Project};
use crate::test::Context;

/// The kernel of 32 bits that is measured.
pub const DEBIAN: Debian = Debian::I386;
/// The one of 64 bits: that which is made for virtual machines.
pub const DEBIAN_LONG: Debian = Debian::with(Flavour::CloudAmd64);

/// The same for both places, and near the default one of the guest's board.
const fn command_line(debian: Debian) -> &'static str {
    match debian.architecture() {
        Architecture::I386 => {
            "console=ttyS0,115200 i8042.nokbd=y i8042.nomux=y i8042.noaux=y io_delay=udelay noisapnp acpi=off \
             cryptomgr.notests=1 quiet"
        }
        Architecture::Amd64 => "console=ttyS0,115200 io_delay=udelay cryptomgr.notests=1 quiet",
    }
}

/// Memory of the guest, and of the board without a VMM, in MiB.
pub const fn memory_mib(debian: Debian) -> u32 {
    match debian.architecture() {
        Architecture::I386 => 128,
        Architecture::Amd64 => 256,
    }
}

/// The line that the script writes to the emulator's log when the first program on the console runs.
pub const SHELL_MARK: &str = "shell";

/// Programs that the scripts use: `/work`, `/net`, and `/port NUMBER WORD`.
const PROGRAMS: [(&str, &str); 3] =
    [("work", include_str!("work.c")), ("net", include_str!("net.c")), ("port", include_str!("port.c"))];
/// What they share.
const HEADER: (&str, &str) = ("program.h", include_str!("program.h"));

/// Where the disk's file is found, and its bytes: what work.c reads, and more.
const DISK: &str = "disk.img";
const DISK_BYTES: u64 = 80 << 20;
/// The slot of the network card: its interrupt line is its own.
const CARD: (u8, CardModel) = (2, CardModel::E1000);

/// What a script needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hardware {
    /// A console.
    Nothing,
    /// A disk behind the board's IDE controller and a network card, passed through to the guest.
    Devices,
    /// The same disk behind block-server and its driver, as a virtio disk.
    VirtioDisk,
    /// A second VM with the same script at the same switch: this one is 10.0.0.1, the other 10.0.0.2.
    Peer,
}

/// Where Linux runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Platform {
    /// In a VM.
    Vm,
    /// In a VM, and the emulator logs the processor's events, VM exits among them.
    Watched,
    /// On the board.
    Native,
}

/// A script to be run.
#[derive(Debug, Clone, Copy)]
pub struct Job {
    /// The run's name.
    pub name: &'static str,
    /// The kernel, and whose busybox.
    pub debian: Debian,
    /// What init runs after the mark [`SHELL_MARK`], and before it switches off.
    pub script: &'static str,
    /// See [`Hardware`].
    pub needs: Hardware,
    /// See [`Platform`].
    pub place: Platform,
}

/// What a boot printed and marked.
pub struct Run {
    /// All of the console.
    pub console: String,
    /// The tick of the kernel's first instruction.
    pub entry: u64,
    /// What was written to port 0x402, with ticks.
    pub marks: Vec<(u64, String)>,
    /// The system, if this was a VM.
    pub image: Option<Image>,
    /// The run's directory.
    pub dir: PathBuf,
}

impl Run {
    /// The tick of a mark.
    pub fn mark(&self, text: &str) -> Result<u64> {
        let mark = self.marks.iter().find(|(_, mark)| mark == text);
        mark.map(|(tick, _)| *tick).ok_or_else(|| miette!("the script did not mark `{text}`:\n{}", self.console))
    }

    /// From the kernel's first instruction to the script's.
    pub fn to_the_shell(&self) -> Result<u64> {
        Ok(self.mark(SHELL_MARK)?.saturating_sub(self.entry))
    }
}

/// All exits of all VMs until power-off, which each vmm-server prints on the console: `vmm-linux: 38862 exits, 6185 signals`.
pub fn exits(console: &str) -> Result<u64> {
    let line = |line: &str| {
        let (count, _) = line.strip_prefix("vmm-")?.split_once(": ")?.1.split_once(" exits, ")?;
        count.trim().parse::<u64>().ok()
    };
    let counts: Vec<u64> = console.lines().filter_map(line).collect();
    ensure!(!counts.is_empty(), "vmm-server does not tell its exits:\n{console}");
    Ok(counts.iter().sum())
}

/// Held while jobs run, since concurrent tests would overwrite each other's files.
static RUNNING: Mutex<()> = Mutex::new(());

/// Runs them, and returns their runs in the same order.
pub fn run<const N: usize>(context: &Context, jobs: [Job; N]) -> Result<[Run; N]> {
    let _running = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
    programs(&context.project)?;
    // One after the other, since they share some of their files.
    let ready: Vec<Ready> = jobs.iter().map(|job| prepare(context, job)).collect::<Result<_>>()?;
    let waiting = Mutex::new(ready.into_iter().enumerate());
    let ended = Mutex::new(Vec::new());
    let work = || {
        while let Some((number, ready)) = next(&waiting) {
            let run = ready.run(&context.project);
            ended.lock().unwrap_or_else(PoisonError::into_inner).push((number, run));
        }
    };
    thread::scope(|scope| {
        scope.spawn(work);
        work();
    });
    let mut ended = ended.into_inner().unwrap_or_else(PoisonError::into_inner);
    ended.sort_by_key(|(number, _)| *number);
    let runs: Vec<Run> = ended.into_iter().map(|(_, run)| run).collect::<Result<_>>()?;
    runs.try_into().map_err(|_| miette!("not every boot was made"))
}

/// A function of its own, so that the loop does not hold the lock while it boots.
fn next<T>(waiting: &Mutex<impl Iterator<Item = T>>) -> Option<T> {
    waiting.lock().unwrap_or_else(PoisonError::into_inner).next()
}

/// A job that is ready to boot.
struct Ready {
    job: Job,
    system: System,
}

enum System {
    Vm(Box<Image>),
    Native(Linux),
}

impl Ready {
    fn run(self, project: &Project) -> Result<Run> {
        let Job { name, place, .. } = self.job;
        let (machine, image) = match self.system {
            System::Vm(image) => {
                let mut options = image.options(name);
                options.input = false;
                if place == Platform::Watched {
                    options.extra.push("debug: action=ignore, cpu0=report".to_owned());
                }
                (Machine::boot(project, &options)?, Some(*image))
            }
            System::Native(linux) => (native::boot(project, name, &linux, |options| options.input = false)?, None),
        };
        let (console, machine) = finish(machine)?;
        // It contains every packet, and nothing here reads it.
        let _ = std::fs::remove_file(machine.dir().join(config::NETWORK_LOG));
        let marks = machine.marks();
        let entry = match place {
            Platform::Native => marks.iter().find(|(_, mark)| mark == ENTRY_MARK).map(|(tick, _)| *tick),
            _ => console.lines().find_map(|line| line.split_once("entering the guest at TSC ")?.1.trim().parse().ok()),
        };
        let entry = entry.ok_or_else(|| miette!("nothing tells when the kernel begins:\n{console}"))?;
        Ok(Run { console, entry, marks, image, dir: machine.dir().to_path_buf() })
    }
}

fn prepare(context: &Context, job: &Job) -> Result<Ready> {
    let project = &context.project;
    let system = match job.place {
        Platform::Native => {
            // No VMM powers the board off, so the script writes to the emulator's power-off port.
            let initrd = initrd(project, job, "/port 35072 Shutdown")?;
            let devices = match job.needs {
                Hardware::Nothing | Hardware::VirtioDisk | Hardware::Peer => Devices::default(),
                Hardware::Devices => Devices { disk: Some(disk(project)?), cards: vec![CARD] },
            };
            System::Native(Linux {
                kernel: debian::kernel(project, job.debian)?,
                initrd,
                cmdline: command_line(job.debian).to_owned(),
                memory_mib: memory_mib(job.debian),
                devices,
            })
        }
        Platform::Vm | Platform::Watched => {
            // `-f` powers off at once, without init's shutdown sequence.
            let initrd = initrd(project, job, "poweroff -f")?;
            let file = folder(project).join(format!("{}.toml", job.name));
            project::write(&file, description(project, job, &initrd)?.as_bytes())?;
            System::Vm(Box::new(context.image(&file.to_string_lossy(), Build::Release)?))
        }
    };
    Ok(Ready { job: *job, system })
}

fn description(project: &Project, job: &Job, initrd: &Path) -> Result<String> {
    let (memory, cmdline) = (memory_mib(job.debian), command_line(job.debian));
    let vm = |name: &str, words: &str| {
        format!(
            "\n\
             [[vm]]\n\
             name = \"{name}\"\n\
             memory = \"{memory} MiB\"\n\
             kernel = \"debian-{}\"\n\
             initrd = \"{}\"\n\
             cmdline = \"{cmdline}{words}\"\n",
            job.debian.flavour.name(),
            initrd.display()
        )
    };
    let linux = vm("linux", if job.needs == Hardware::Peer { " ip=10.0.0.1/24" } else { "" });
    let mut text = format!("board = \"bochs\"\n{linux}direct_ports = [0x402]\n");
    match job.needs {
        Hardware::Nothing => {}
        Hardware::Devices => {
            let (slot, model) = CARD;
            text.push_str(&format!(
                "pci_devices = [{{ address = \"00:01.1\", dma = \"trusted\" }}, {{ address = \"00:{:02x}.0\", dma = \"trusted\" }}]\n\
                 \n\
                 [emulator]\n\
                 disk = \"{}\"\n\
                 cards = [{{ slot = {slot}, model = \"{}\" }}]\n",
                slot + 1,
                disk(project)?.display(),
                model.word()
            ));
        }
        Hardware::VirtioDisk => text.push_str(&format!(
            "disks = [{{ name = \"main\" }}]\n\
             \n\
             [[component]]\n\
             name = \"ide\"\n\
             image = \"ide-driver\"\n\
             priority = 100\n\
             services = [\"timer\"]\n\
             drives = \"main\"\n\
             pci_devices = [{{ address = \"00:01.1\", dma = \"trusted\" }}]\n\
             dma_memory = \"192 KiB\"\n\
             \n\
             [emulator]\n\
             disk = \"{}\"\n",
            disk(project)?.display()
        )),
        Hardware::Peer => {
            text.push_str(&vm("peer", " ip=10.0.0.2/24"));
            text.push_str("\n[[network]]\nname = \"lan\"\nmembers = [\"linux\", \"peer\"]\n");
        }
    }
    Ok(text)
}

fn folder(project: &Project) -> PathBuf {
    project.guest().join("bench")
}

fn programs(project: &Project) -> Result<()> {
    let (header, source) = HEADER;
    project::write(&folder(project).join(header), source.as_bytes())?;
    for (name, source) in PROGRAMS {
        let program = folder(project).join(name);
        let file = program.with_extension("c");
        project::write(&file, source.as_bytes())?;
        process::output(tiny::gcc(&file, &program, Architecture::I386))?;
    }
    Ok(())
}

/// A disk with nothing on it.
fn disk(project: &Project) -> Result<PathBuf> {
    let path = folder(project).join(DISK);
    let file = std::fs::File::create(&path).and_then(|file| file.set_len(DISK_BYTES));
    file.map_err(|error| miette!("cannot make {}: {error}", path.display()))?;
    Ok(path)
}

/// An initramfs of the usual kinds with the job's script and the programs.
fn initrd(project: &Project, job: &Job, switch_off: &str) -> Result<PathBuf> {
    let script = format!("#!/bin/sh\n/port 1026 {SHELL_MARK}\n{}\n{switch_off}\n", job.script);
    let first = match job.needs {
        Hardware::Nothing => guest::initramfs(project, job.debian, Some(&script))?,
        Hardware::Devices | Hardware::VirtioDisk | Hardware::Peer => guest::disk_initramfs(project, job.debian)?,
    };
    let mut second = Archive::default();
    if job.needs != Hardware::Nothing {
        second.add("etc/inittab", &Entry::File { mode: 0o644, bytes: b"ttyS0::wait:/run.sh\n" });
        second.add("run.sh", &Entry::File { mode: 0o755, bytes: script.as_bytes() });
    }
    extended(project, &first, second)
}

/// An initramfs with the programs in addition.
pub fn with_programs(project: &Project, first: &Path) -> Result<PathBuf> {
    programs(project)?;
    extended(project, first, Archive::default())
}

/// The kernel unpacks both archives in order; a later file replaces an earlier one of the same name.
fn extended(project: &Project, first: &Path, mut second: Archive) -> Result<PathBuf> {
    for (name, _) in PROGRAMS {
        second.add(name, &Entry::File { mode: 0o755, bytes: &project::read(&folder(project).join(name))? });
    }
    let bytes = [project::read(first)?, second.finish()].concat();
    let path = folder(project).join(format!("{}.cpio", bzimage::fingerprint(&bytes)));
    project::write(&path, &bytes)?;
    Ok(path)
}
