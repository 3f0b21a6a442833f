//! Runs a kernel and a root task on QEMU's Q35 board without KVM. There QEMU emulates VT-d, which Bochs does not, but
//! no VT-x, so no guest runs. The tool has the console, as with Bochs; a second socket speaks QMP (QEMU's
//! documentation, interop/qmp-spec), by which the tests ask QEMU about the board's devices. Time follows the host's
//! clock, so no two runs are alike.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::Duration;

use miette::{IntoDiagnostic, Result, miette};
use rustix::process::Pid;
use serde_json::{Value, json};

use crate::bochs::{accept, free_directory, last_lines};
use crate::console::Console;
use crate::packages::UEFI;
use crate::project::Project;
use crate::{interrupt, process};

/// What loads the system.
#[derive(Debug, Clone)]
pub enum Loader {
    /// QEMU itself, as a multiboot loader.
    Qemu {
        /// The kernel, a 32-bit ELF.
        kernel: PathBuf,
        /// The root task with its bundle.
        root_task: PathBuf,
    },
    /// The one in an ISO, which firmware finds.
    Iso {
        /// The ISO.
        iso: PathBuf,
        /// Whether the firmware is UEFI; else it is a BIOS.
        uefi: bool,
        /// Whether the ISO is on a USB drive; else it is a CD.
        usb: bool,
    },
}

/// What to boot, and the board's devices.
#[derive(Debug, Clone)]
pub struct Options {
    /// The run's name: target/runs/NAME holds its files.
    pub name: String,
    /// What is booted.
    pub loader: Loader,
    /// The number of the COM port that is the console.
    pub com: u8,
    /// The disk at the board's AHCI controller: as QEMU's `-drive` takes it, and its name.
    pub disk: Option<(String, &'static str)>,
    /// What is at the other end of a card, as QEMU's `-netdev` takes it.
    pub netdev: Option<String>,
    /// Further devices, as QEMU's `-device` takes them.
    pub devices: Vec<String>,
    /// Further properties of the board, as QEMU's `-machine` takes them.
    pub machine: &'static str,
    /// Further properties of the IOMMU, as QEMU's `-device` takes them; none is a board without one.
    pub iommu: Option<&'static str>,
    /// Further arguments of QEMU.
    pub arguments: Vec<String>,
    /// Further ACPI tables, as QEMU's `-acpitable` takes them.
    pub acpi_tables: Vec<String>,
}

impl Options {
    /// A board with an IOMMU, without a disk and further devices.
    pub fn new(name: &str, loader: Loader) -> Self {
        let (disk, netdev, devices, acpi_tables) = (None, None, Vec::new(), Vec::new());
        let (machine, iommu, arguments) = ("", Some(""), Vec::new());
        Self { name: name.into(), loader, com: 1, disk, netdev, devices, machine, iommu, arguments, acpi_tables }
    }
}

/// A running emulator. It is killed when dropped, and when the thread that started it ends.
pub struct Machine {
    dir: PathBuf,
    child: Child,
    group: Pid,
    /// The board's console.
    pub console: Console,
    monitor: BufReader<TcpStream>,
    /// Held as long as the run's directory is in use.
    _lock: File,
}

/// How long QEMU may take to answer a question about the board.
const PATIENCE: Duration = Duration::from_secs(30);

impl Machine {
    /// Switches a board on.
    pub fn boot(project: &Project, options: &Options) -> Result<Self> {
        let (dir, lock) = free_directory(project, &options.name)?;
        let listen = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).into_diagnostic();
        let (console, monitor) = (listen()?, listen()?);
        let output = dir.join("qemu.out");
        let mut child = start(&dir, &output, &arguments(options, &console, &monitor)?)?;
        let group = Pid::from_child(&child);
        interrupt::remember_group(group);
        let mut connect = || {
            let mut accept = |listener| {
                accept(listener, &mut child).map_err(|_| {
                    let said = last_lines(&std::fs::read(&output).unwrap_or_default(), 12);
                    miette!("QEMU did not start:\n{said}")
                })
            };
            let (console, monitor) = (accept(&console)?, accept(&monitor)?);
            monitor.set_read_timeout(Some(PATIENCE)).into_diagnostic()?;
            Ok((Console::socket(console, &dir, None)?, BufReader::new(monitor)))
        };
        let (console, monitor) = connect().inspect_err(|_: &miette::Report| interrupt::kill_group(group))?;
        let mut machine = Self { dir, child, group, console, monitor, _lock: lock };
        machine.ask("qmp_capabilities", json!({}))?;
        Ok(machine)
    }

    /// Executes a QMP command; returns its result.
    pub fn ask(&mut self, command: &str, arguments: Value) -> Result<Value> {
        let line = json!({ "execute": command, "arguments": arguments }).to_string();
        self.monitor.get_mut().write_all(line.as_bytes()).into_diagnostic()?;
        loop {
            let mut line = String::new();
            if self.monitor.read_line(&mut line).into_diagnostic()? == 0 {
                return Err(miette!("QEMU ended; see qemu.out in {}", self.dir.display()));
            }
            // QMP's greeting and events may come before the reply.
            let answer: Value = serde_json::from_str(&line).into_diagnostic()?;
            if let Some(value) = answer.get("return") {
                return Ok(value.clone());
            }
            if let Some(error) = answer.get("error") {
                return Err(miette!("QEMU refuses `{command}`: {error}"));
            }
        }
    }

    /// The 64-bit word at a physical address.
    pub fn physical_word(&mut self, at: u64) -> Result<u64> {
        let line = json!({ "command-line": format!("xp /1gx {at:#x}") });
        let answer = self.ask("human-monitor-command", line)?;
        // `0000000004000000: 0x0123456789abcdef`
        let word = answer.as_str().and_then(|text| text.trim().rsplit_once(": 0x"));
        let word = word.and_then(|(_, digits)| u64::from_str_radix(digits, 16).ok());
        word.ok_or_else(|| miette!("QEMU shows no memory at {at:#x}: {answer}"))
    }

    /// The run's directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        interrupt::kill_group(self.group);
        let _ = self.child.wait();
    }
}

fn arguments(options: &Options, console: &TcpListener, monitor: &TcpListener) -> Result<Vec<String>> {
    let socket =
        |listener: &TcpListener| Ok::<_, miette::Report>(format!("tcp:{}", listener.local_addr().into_diagnostic()?));
    let mut all = vec!["-nodefaults", "-no-user-config", "-no-reboot", "-display", "none"];
    let board = format!("q35,kernel-irqchip=split{}", options.machine);
    all.extend(["-machine", &board, "-accel", "tcg", "-cpu", "max", "-m", "512"]);
    let mut all: Vec<String> = all.into_iter().map(str::to_owned).collect();
    all.extend_from_slice(&options.arguments);
    let mut add = |option: &str, value: String| all.extend([option.to_owned(), value]);
    // QEMU numbers the ports in the order of their mention.
    for _ in 1..options.com {
        add("-serial", "null".into());
    }
    add("-serial", socket(console)?);
    add("-qmp", socket(monitor)?);
    match &options.loader {
        Loader::Qemu { kernel, root_task } => {
            add("-kernel", kernel.display().to_string());
            add("-initrd", root_task.display().to_string());
        }
        Loader::Iso { iso, uefi, usb } => {
            if *uefi {
                add("-bios", UEFI.into());
            }
            // QEMU takes a comma for the end of a value unless it is doubled.
            let file = iso.display().to_string().replace(',', ",,");
            add(
                "-drive",
                format!(
                    "if=none,id=iso,format=raw,media={},readonly=on,file={file}",
                    if *usb { "disk" } else { "cdrom" }
                ),
            );
            if *usb {
                add("-device", "qemu-xhci".into());
            }
            add(
                "-device",
                if *usb { "usb-storage,drive=iso,bootindex=0" } else { "ide-cd,bus=ide.2,drive=iso,bootindex=0" }
                    .into(),
            );
        }
    }
    // The IOMMU first, since QEMU attaches devices to it when it creates them.
    if let Some(properties) = options.iommu {
        add("-device", format!("intel-iommu{properties}"));
    }
    if let Some((drive, model)) = &options.disk {
        add("-drive", format!("if=none,id=disk,format=raw,{drive}"));
        add("-device", format!("ide-hd,bus=ide.0,drive=disk,model={model}"));
    }
    if let Some(netdev) = &options.netdev {
        add("-netdev", netdev.clone());
    }
    for device in &options.devices {
        add("-device", device.clone());
    }
    for table in &options.acpi_tables {
        add("-acpitable", table.clone());
    }
    Ok(all)
}

fn start(dir: &Path, output: &Path, arguments: &[String]) -> Result<Child> {
    let output = File::create(output).into_diagnostic()?;
    // setpriv (of util-linux, always there): the emulator must not outlive us, however we end.
    let mut command = process::tool("setpriv");
    command.args(["--pdeathsig", "KILL", "qemu-system-x86_64"]).args(arguments);
    command.current_dir(dir).process_group(0);
    command.stdin(Stdio::null()).stdout(output.try_clone().into_diagnostic()?).stderr(output);
    command.spawn().map_err(|error| {
        miette!(help = "`cargo xtask setup` installs QEMU", "cannot start `{}`: {error}", process::show(&command))
    })
}
