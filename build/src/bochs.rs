//! Runs a system in Bochs, in its own directory and process group, and connects to its console.
//!
//! Debian's Bochs is built with its debugger, which 2.7 always starts: a script tells it to run. 3.0 starts it on demand
//! only, and runs twice as fast without it. Preloads make runs repeat bit for bit (determinism.c) and keep the screen off the
//! network (loopback.c). On this board a warm reboot ends in a triple fault, so a system ends by `Shutdown` on port 0x8900.

pub mod config;
pub mod log;
mod refusal;

use std::fs::File;
use std::io;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use miette::{Context, IntoDiagnostic, Result, ensure, miette};
use rustix::process::Pid;

use crate::console::{Console, paint, report, voice::Voice};
use crate::project::{self, Project};
use crate::{cache, guest, interrupt, process, room};
use config::{Board, Devices, Pace, Serial, Version};
use log::Ending;

/// What to boot, and how.
#[derive(Debug, Clone)]
pub struct Options {
    /// The run's name: target/runs/NAME holds its files (NAME-2 while another run uses that, and so on).
    pub name: String,
    /// The ISO to boot.
    pub iso: PathBuf,
    /// The board's memory, in MiB.
    pub memory_mib: u32,
    /// Its processor, as Bochs calls it (`bochs-bin --help cpu`).
    pub processor: String,
    /// Whether the board sees the ISO as a disk, as it would a USB drive, instead of a CD.
    pub as_disk: bool,
    /// The number of the COM port that is the console.
    pub com: u8,
    /// Whether the console takes input. Without input, a run repeats exactly.
    pub input: bool,
    /// Whether time follows the host's clock or passes as fast as it can.
    pub pace: Pace,
    /// The plugged-in devices.
    pub devices: Devices,
    /// Further lines for the configuration file.
    pub extra: Vec<String>,
    /// Whether the console's output also goes to our standard output.
    pub show: bool,
    /// The VM whose shell the console types at.
    pub voice: Voice,
}

impl Options {
    /// A board of 1 GiB with an interactive console that is not shown.
    pub fn new(name: &str, iso: &Path) -> Self {
        Self {
            name: name.to_owned(),
            iso: iso.to_path_buf(),
            memory_mib: 1024,
            processor: config::HASWELL.to_owned(),
            as_disk: false,
            com: 1,
            input: true,
            pace: Pace::Free,
            devices: Devices::default(),
            extra: Vec::new(),
            show: false,
            voice: Voice::default(),
        }
    }
}

/// A running emulator. Dropping it kills it.
///
/// It also dies with the thread that started it, so that killing the tool leaves no emulator behind.
pub struct Machine {
    dir: PathBuf,
    child: Child,
    group: Pid,
    ended: Option<Ending>,
    /// The board's console.
    pub console: Console,
    /// Held as long as the run's directory is in use.
    _lock: File,
}

impl Machine {
    /// Switches a board on.
    pub fn boot(project: &Project, options: &Options) -> Result<Self> {
        let (dir, lock) = free_directory(project, &options.name)?;
        let preloads = match options.pace {
            Pace::Free => &[LOOPBACK, DETERMINISM][..],
            // Determinism takes a clock that stands still, and this pace needs the real one.
            Pace::RealTime => &[LOOPBACK],
        };
        let listener =
            if options.input { Some(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).into_diagnostic()?) } else { None };
        let serial = match &listener {
            Some(listener) => Serial::Socket(listener.local_addr().into_diagnostic()?),
            None => Serial::File("serial.txt".into()),
        };
        plug_in(&options.devices, &dir)?;
        let (iso, memory_mib, extra) = (options.iso.clone(), options.memory_mib, options.extra.clone());
        let (processor, devices) = (options.processor.clone(), options.devices.clone());
        let (as_disk, com, version) = (options.as_disk, options.com, version()?);
        let pace = options.pace;
        let board = Board { iso, as_disk, memory_mib, processor, version, serial, com, pace, devices, extra };
        project::write(&dir.join("bochsrc"), config::bochsrc(&board).as_bytes())?;
        project::write(&dir.join("debugger"), b"c\nq\n")?;
        let mut child = start(project, &dir, preloads)?;
        let group = Pid::from_child(&child);
        interrupt::remember_group(group);
        let shown = options.show.then(|| shown(&options.voice));
        let console = match listener {
            Some(listener) => match accept(&listener, &mut child) {
                Ok(stream) => Console::socket(stream, &dir, shown),
                Err(missing) => Err(refused(&missing, &dir, options)),
            },
            None => Console::file(&dir, group, shown),
        };
        let mut console = console.inspect_err(|_| interrupt::kill_group(group))?;
        console.voice = options.voice.clone();
        Ok(Self { dir, child, group, ended: None, console, _lock: lock })
    }

    /// Waits until the board ends by itself; `None` if the time runs out first.
    pub fn wait(&mut self, limit: Duration) -> Result<Option<Ending>> {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(ending) = self.poll()? {
                return Ok(Some(ending));
            }
            if Instant::now() >= deadline {
                return Ok(None);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// How it ended; `None` while it runs.
    pub fn poll(&mut self) -> Result<Option<Ending>> {
        if self.ended.is_none()
            && let Some(status) = self.child.try_wait().into_diagnostic()?
        {
            self.ended = Some(log::ending(&self.log()).unwrap_or_else(|| Ending::Died(status.to_string())));
            self.console.wait_for_end(Duration::from_secs(2));
        }
        Ok(self.ended.clone())
    }

    /// Switches the board off and waits until the emulator is gone.
    pub fn stop(&mut self) {
        interrupt::kill_group(self.group);
        let _ = self.child.wait();
    }

    /// The emulator's log so far, which is complete only after the end, since Bochs buffers it.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(self.dir.join("bochs.log")).unwrap_or_default()).into_owned()
    }

    /// The run's directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The text that the system wrote to port 0x402 so far, with ticks.
    pub fn marks(&self) -> Vec<(u64, String)> {
        log::marks(&self.log())
    }

    /// The failures that the system has reported so far, a sentence each.
    pub fn failures(&self) -> Vec<String> {
        report::failures(&self.console.transcript())
    }

    /// The error for an unexpected end, with the last output.
    pub fn why(&self, ending: &Ending) -> miette::Report {
        let what = match ending {
            Ending::PowerOff => "the system powered off".to_owned(),
            Ending::Failed => match self.failures() {
                said if said.is_empty() => "the system ended with a failure".to_owned(),
                said => said.join("\n"),
            },
            Ending::Panic(text) => format!("the emulated board stopped: {text}"),
            Ending::Died(status) => format!("Bochs ended by itself, {status}"),
        };
        let help = format!("see bochs.log, bochs.out and console.txt in {}", self.dir.display());
        miette!(help = help, "{what}\nThe console's last lines:\n{}", last_lines(&self.console.transcript(), 15))
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Where the user sees the console: in colours if several VMs share it.
fn shown(voice: &Voice) -> Box<dyn io::Write + Send> {
    if voice.is_shared() && paint::wanted() {
        Box::new(paint::Paint::new(io::stdout(), voice.vms()))
    } else {
        Box::new(io::stdout())
    }
}

/// The last lines of some output that are not empty, as text.
pub fn last_lines(bytes: &[u8], count: usize) -> String {
    let text = String::from_utf8_lossy(bytes).replace(|c: char| c.is_control() && c != '\n', "");
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}

/// An empty directory for a run, and the lock that marks it as in use.
pub(crate) fn free_directory(project: &Project, name: &str) -> Result<(PathBuf, File)> {
    let runs = project.run("");
    std::fs::create_dir_all(&runs).into_diagnostic().wrap_err_with(|| format!("cannot create {}", runs.display()))?;
    room::keep_newest(&runs, room::MOST);
    for number in 1.. {
        let name = if number == 1 { name.to_owned() } else { format!("{name}-{number}") };
        let dir = project.run(&name);
        let lock = room::lock_file(&dir)?;
        if lock.try_lock().is_ok() {
            let _ = std::fs::remove_dir_all(&dir);
            std::fs::create_dir(&dir).into_diagnostic().wrap_err_with(|| format!("cannot create {}", dir.display()))?;
            return Ok((dir, lock));
        }
    }
    unreachable!("there is always another number")
}

/// The file that the emulated network offers by TFTP, and its length in bytes.
pub const TFTP_FILE: (&str, usize) = ("ten-megabytes", 10_000_000);

/// Puts the files that a run's devices need into its directory: a copy of the disk, the network's files.
fn plug_in(devices: &Devices, dir: &Path) -> Result<()> {
    if let Some(disk) = &devices.disk {
        guest::disk::copy(disk, &dir.join(config::DISK))?;
    }
    if !devices.cards.is_empty() {
        project::write(&dir.join(config::NETWORK), config::VNET.as_bytes())?;
        project::write(&dir.join(config::TFTP).join(TFTP_FILE.0), &tftp_file())?;
    }
    Ok(())
}

/// The same bytes every time, without two equal blocks of 512: the high bytes of a linear congruential generator
/// (Knuth's MMIX).
pub fn tftp_file() -> Vec<u8> {
    let mut state = 0u64;
    let next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    std::iter::repeat_with(next).take(TFTP_FILE.1).collect()
}

/// The version of the installed Bochs.
pub fn version() -> Result<Version> {
    let mut help = process::tool("bochs-bin");
    help.arg("--help");
    let (_, said) = process::finish(help, |_| {})?;
    config::version(&said).ok_or_else(|| miette!("bochs-bin does not say which version it is:\n{said}"))
}

/// The processors that it has, as [`Options::processor`] names them.
pub fn processors() -> Result<Vec<String>> {
    let mut help = process::tool("bochs-bin");
    help.args(["--help", "cpu"]);
    let (_, said) = process::finish(help, |_| {})?;
    let names = said.lines().skip_while(|line| !line.starts_with("Supported CPU models")).skip(1);
    // A name a line, among empty ones, until the emulator says that it ends.
    let names: Vec<String> =
        names.take_while(|line| !line.contains(' ')).filter(|line| !line.is_empty()).map(str::to_owned).collect();
    ensure!(!names.is_empty(), "bochs-bin does not say which processors it has:\n{said}");
    Ok(names)
}

/// A library to preload into Bochs: its name and its source.
type Preload = (&'static str, &'static str);

const DETERMINISM: Preload = ("determinism.so", include_str!("bochs/determinism.c"));
const LOOPBACK: Preload = ("loopback.so", include_str!("bochs/loopback.c"));

/// Compiles a preload into the target directory, once.
fn compiled(target: &Path, (name, source): Preload) -> Result<PathBuf> {
    let library = target.join(name);
    cache::keep(&library, source, |aside| {
        let text = aside.with_added_extension("c");
        project::write(&text, source.as_bytes())?;
        let mut compile = process::tool("gcc");
        compile.args(["-shared", "-fPIC", "-O1", "-Wall", "-o"]).arg(aside).arg(&text);
        process::output(compile)?;
        std::fs::remove_file(&text).into_diagnostic()
    })?;
    Ok(library)
}

fn start(project: &Project, dir: &Path, preloads: &[Preload]) -> Result<Child> {
    let output = File::create(dir.join("bochs.out")).into_diagnostic()?;
    // setpriv (of util-linux, always there): the emulator must not outlive us, however we end.
    let mut command = process::tool("setpriv");
    command.args(["--pdeathsig", "KILL", "bochs-bin", "-q", "-f", "bochsrc", "-rc", "debugger"]);
    command.current_dir(dir).process_group(0);
    command.env("LD_PRELOAD", preloaded(&project.target, dir, preloads)?);
    command.stdin(Stdio::null()).stdout(output.try_clone().into_diagnostic()?).stderr(output);
    command.spawn().map_err(|error| {
        miette!(help = "`cargo xtask setup` installs Bochs", "cannot start `{}`: {error}", process::show(&command))
    })
}

/// The value of LD_PRELOAD in `dir`: names without a path, since the dynamic linker splits the list at spaces and
/// colons, which a path may contain.
fn preloaded(target: &Path, dir: &Path, preloads: &[Preload]) -> Result<String> {
    let link = |preload: &Preload| {
        std::os::unix::fs::symlink(compiled(target, *preload)?, dir.join(preload.0)).into_diagnostic()?;
        Ok(format!("./{}", preload.0))
    };
    let names: Result<Vec<String>> = preloads.iter().map(link).collect();
    Ok(names?.join(":"))
}

/// Why an emulator has not connected.
#[derive(Debug)]
pub(crate) enum Missing {
    /// It ended.
    Ended,
    /// It did not connect in time.
    Silent,
    /// The host's socket failed.
    Host(io::Error),
}

impl From<io::Error> for Missing {
    fn from(error: io::Error) -> Self {
        Self::Host(error)
    }
}

/// The error for a Bochs that has not connected the console.
fn refused(missing: &Missing, dir: &Path, options: &Options) -> miette::Report {
    if let Missing::Host(error) = missing {
        return miette!("cannot wait for Bochs to connect the console: {error}");
    }
    let read = |name| String::from_utf8_lossy(&std::fs::read(dir.join(name)).unwrap_or_default()).into_owned();
    let said = read("bochs.out") + &read("bochs.log");
    let (what, help) = refusal::explain(&said, matches!(missing, Missing::Ended), options);
    miette!(help = format!("{help}\nthe run's files are in {}", dir.display()), "{what}")
}

/// Waits until the emulator has connected the console, which it does before the first instruction.
pub(crate) fn accept(listener: &TcpListener, child: &mut Child) -> Result<TcpStream, Missing> {
    listener.set_nonblocking(true)?;
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        if let Ok((stream, _)) = listener.accept() {
            stream.set_nonblocking(false)?;
            stream.set_nodelay(true)?;
            return Ok(stream);
        }
        if child.try_wait()?.is_some() {
            return Err(Missing::Ended);
        }
        if Instant::now() > deadline {
            return Err(Missing::Silent);
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_emulator_that_ends_at_once_is_not_waited_for() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let (mut child, started) = (process::tool("true").spawn().unwrap(), Instant::now());
        assert!(matches!(accept(&listener, &mut child), Err(Missing::Ended)));
        assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
    }

    /// What Perl prints in a directory whose name the dynamic linker would split, with the preloads.
    fn perl(name: &str, program: &str) -> String {
        let dir = std::env::temp_dir().join(format!("xtask bochs: {name} {}", std::process::id()));
        let run = dir.join("run");
        std::fs::create_dir_all(&run).unwrap();
        let list = preloaded(&dir, &run, &[LOOPBACK, DETERMINISM]).unwrap();
        let mut command = process::tool("perl");
        command.args(["-MSocket", "-e", program]).current_dir(&run).env("LD_PRELOAD", list);
        let (_, said) = process::finish(command, |_| {}).unwrap();
        std::fs::remove_dir_all(dir).unwrap();
        said
    }

    #[test]
    fn the_clock_stands_still() {
        let said = perl("clock", "print time");
        assert_eq!(said, "946684800");
    }

    /// Twice the same port at all addresses, as two emulators that start at once ask for it.
    #[test]
    fn the_screen_listens_on_this_machine_only_at_a_port_of_its_own() {
        let program = "for (1, 2) {
            socket(my $socket, PF_INET, SOCK_STREAM, 0);
            push @sockets, $socket;
            bind($socket, sockaddr_in(5900, INADDR_ANY)) and listen($socket, 1) or die;
            my ($port, $address) = sockaddr_in(getsockname($socket));
            print inet_ntoa($address), $port == 5900 ? ' the same' : ' another', qq(\n);
        }";
        let said = perl("screen", program);
        assert_eq!(said, "127.0.0.1 another\n127.0.0.1 another\n");
    }
}
