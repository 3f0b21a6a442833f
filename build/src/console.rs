//! A system's serial console: collects its output, waits for texts in it, and types.
//!
//! A thread collects everything that arrives, so no output is lost between waits. `shell` knows how to talk to a shell,
//! `terminal` joins the console to the user's terminal.

pub mod paint;
pub mod report;
pub mod shell;
pub mod terminal;
#[cfg(test)]
mod typing;
pub mod voice;

use std::fs::File;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use std::{fmt, io, thread};

use miette::{IntoDiagnostic, Result};
use rustix::process::{Pid, PidfdFlags, WaitId, WaitIdOptions, pidfd_open, waitid};
use voice::Voice;

/// Why a text did not appear.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// The time ran out first.
    TimedOut,
    /// The system ended first.
    Ended,
    /// The system said that something has failed, see [`Console::watch`].
    Reported,
    /// The guest's kernel panicked and halted.
    Panicked,
    /// The guest was reset.
    Reset,
    /// The guest is off, and other guests go on.
    Off,
    /// This console takes no input.
    NoInput,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TimedOut => "the time was over",
            Self::Ended => "the system ended",
            Self::Reported => "something has failed",
            Self::Panicked => "the guest's kernel panicked",
            Self::Reset => "the guest was reset",
            Self::Off => "the guest went off",
            Self::NoInput => "this console takes no input",
        })
    }
}

impl std::error::Error for Failure {}
impl miette::Diagnostic for Failure {}

/// Everything printed so far, and whether more can come.
#[derive(Debug, Default)]
struct Printed {
    bytes: Vec<u8>,
    ended: bool,
}

type Shared = Arc<(Mutex<Printed>, Condvar)>;

/// Typing no faster than this gives the guest time to read characters from its UART.
const CHUNK: usize = 16;
const PAUSE: Duration = Duration::from_millis(4);

/// One console.
pub struct Console {
    printed: Shared,
    input: Option<TcpStream>,
    /// The VM whose shell it types at.
    pub voice: Voice,
    /// Whether waiting ends when root-task reports a failure.
    watch: bool,
    /// Where the next `expect` starts to look.
    cursor: usize,
    /// The start of the first line in which the user may have moved the input without `voice` having followed.
    followed: usize,
    /// How many commands were typed: each gets its own marks.
    commands: u32,
    /// The prompts at which commands were typed.
    prompts: Vec<Vec<u8>>,
}

impl Console {
    /// The console at the end of a socket. A copy of what it prints goes to console.txt in `dir`.
    pub fn socket(stream: TcpStream, dir: &Path, shown: Option<Box<dyn Write + Send>>) -> Result<Self> {
        let reader = stream.try_clone().into_diagnostic()?;
        let copy: Box<dyn Write + Send> = Box::new(File::create(dir.join("console.txt")).into_diagnostic()?);
        Ok(Self::collect(reader, Some(stream), std::iter::once(copy).chain(shown).collect()))
    }

    /// The console that Bochs writes to serial.txt in `dir`: it takes no input. It ends with the process `writer`.
    pub fn file(dir: &Path, writer: Pid, shown: Option<Box<dyn Write + Send>>) -> Result<Self> {
        let path = dir.join("serial.txt");
        let file = File::options().read(true).write(true).create(true).truncate(false).open(path).into_diagnostic()?;
        let printed = Shared::default();
        let writer = pidfd_open(writer, PidfdFlags::empty()).into_diagnostic()?;
        let tail = Tail { file, writer, printed: Arc::downgrade(&printed) };
        let copy: Box<dyn Write + Send> = Box::new(File::create(dir.join("console.txt")).into_diagnostic()?);
        Ok(Self::collect_into(printed, tail, None, std::iter::once(copy).chain(shown).collect()))
    }

    fn collect(from: impl Read + Send + 'static, input: Option<TcpStream>, copies: Vec<Box<dyn Write + Send>>) -> Self {
        Self::collect_into(Shared::default(), from, input, copies)
    }

    fn collect_into(
        printed: Shared,
        mut from: impl Read + Send + 'static,
        input: Option<TcpStream>,
        mut copies: Vec<Box<dyn Write + Send>>,
    ) -> Self {
        let weak = Arc::downgrade(&printed);
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            loop {
                let count = from.read(&mut buffer).unwrap_or(0);
                let bytes = buffer.get(..count).unwrap_or_default();
                for copy in &mut copies {
                    // A closed standard output must not end the run.
                    let _ = copy.write_all(bytes).and_then(|()| copy.flush());
                }
                let Some(printed) = weak.upgrade() else {
                    return;
                };
                let mut state = lock(&printed);
                state.bytes.extend_from_slice(bytes);
                state.ended = count == 0;
                printed.1.notify_all();
                if count == 0 {
                    return;
                }
            }
        });
        let (voice, prompts) = (Voice::default(), Vec::new());
        Self { printed, input, voice, watch: false, cursor: 0, followed: 0, commands: 0, prompts }
    }

    /// Waits until `text` is printed, and returns the output before it. The next call starts after it.
    pub fn expect(&mut self, text: &str, limit: Duration) -> Result<String, Failure> {
        let (before, length) = self.wait_until(limit, |fresh| Some((find(fresh, text.as_bytes())?, text.len())))?;
        let start = self.cursor;
        self.cursor += before + length;
        let bytes = lock(&self.printed).bytes.get(start..start + before).unwrap_or_default().to_vec();
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Waits until `judge`, given everything after the cursor, returns an answer.
    pub fn wait_until<T>(&self, limit: Duration, judge: impl Fn(&[u8]) -> Option<T>) -> Result<T, Failure> {
        let deadline = Instant::now() + limit;
        let mut state = lock(&self.printed);
        loop {
            if let Some(answer) = judge(state.bytes.get(self.cursor..).unwrap_or_default()) {
                return Ok(answer);
            }
            if self.watch && !report::failures(&state.bytes).is_empty() {
                return Err(Failure::Reported);
            }
            if state.ended {
                return Err(Failure::Ended);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Failure::TimedOut);
            }
            let waited = self.printed.1.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Waits until more than `length` bytes are printed, or no more can come.
    fn wait_for_more(&self, length: usize, limit: Duration) {
        let state = lock(&self.printed);
        let waiting = |state: &mut Printed| state.bytes.len() <= length && !state.ended;
        let _ = self.printed.1.wait_timeout_while(state, limit, waiting);
    }

    /// Listens to the VM to which the user has moved the input; returns whether that is another one.
    pub fn follow_input(&mut self) -> bool {
        if !self.voice.is_shared() {
            return false;
        }
        let moved = {
            let state = lock(&self.printed);
            let fresh = state.bytes.get(self.followed..).unwrap_or_default();
            let moved = self.voice.input_moved(fresh);
            self.followed += fresh.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
            moved
        };
        let other = moved.filter(|vm| vm != self.voice.own());
        other.as_ref().inspect(|vm| self.voice.listen_to(vm)).is_some()
    }

    /// Moves the input to another VM, once serial-server is there to do that.
    pub fn move_input(&mut self, vm: &str, limit: Duration) -> Result<(), Failure> {
        let deadline = Instant::now() + limit;
        self.rewind();
        self.expect("serial-server: ", limit)?;
        self.skip();
        self.send(format!("@{vm}\r").as_bytes())?;
        self.expect(
            &format!("serial-server: input goes to {vm}\r\n"),
            deadline.saturating_duration_since(Instant::now()),
        )?;
        self.voice.listen_to(vm);
        self.rewind();
        Ok(())
    }

    /// From now on, waiting ends when root-task reports a failure.
    pub fn watch(&mut self) {
        self.watch = true;
    }

    /// Types bytes, as they are.
    pub fn send(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        let input = self.input.as_mut().ok_or(Failure::NoInput)?;
        for chunk in bytes.chunks(CHUNK) {
            input.write_all(chunk).map_err(|_| Failure::Ended)?;
            thread::sleep(PAUSE);
        }
        Ok(())
    }

    /// A second handle for typing, for a thread of its own; `None` where the console takes no input.
    pub fn keyboard(&self) -> Option<TcpStream> {
        self.input.as_ref()?.try_clone().ok()
    }

    /// Everything printed since power-on.
    pub fn transcript(&self) -> Vec<u8> {
        lock(&self.printed).bytes.clone()
    }

    /// Moves the cursor to the end of the output so far.
    pub fn skip(&mut self) {
        self.cursor = lock(&self.printed).bytes.len();
    }

    /// Moves the cursor back to power-on.
    pub fn rewind(&mut self) {
        self.cursor = 0;
    }

    /// Gives the last bytes of an ended emulator time to arrive.
    pub fn wait_for_end(&self, limit: Duration) {
        let deadline = Instant::now() + limit;
        let mut state = lock(&self.printed);
        while !state.ended && Instant::now() < deadline {
            state = self.printed.1.wait_timeout(state, LOOK_AGAIN).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        if let Some(input) = &self.input {
            let _ = input.shutdown(Shutdown::Both);
        }
    }
}

/// The interval between reads of a growing file.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// Reads a file that another process is writing, until that process ends or the receiver is gone.
struct Tail {
    file: File,
    writer: OwnedFd,
    printed: std::sync::Weak<(Mutex<Printed>, Condvar)>,
}

impl Tail {
    fn writer_is_gone(&self) -> bool {
        // This leaves the child for its starter to reap. Once that has happened, there is no such child, which is an
        // error.
        let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        !matches!(waitid(WaitId::PidFd(self.writer.as_fd()), look), Ok(None))
    }
}

impl Read for Tail {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            // In this order, so that this read gets all that it wrote before its end.
            let gone = self.writer_is_gone();
            let count = self.file.read(buffer)?;
            if count > 0 || gone || self.printed.strong_count() == 0 {
                return Ok(count);
            }
            thread::sleep(LOOK_AGAIN);
        }
    }
}

fn lock(shared: &Shared) -> MutexGuard<'_, Printed> {
    shared.0.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Where `needle` first occurs.
pub fn find(bytes: &[u8], needle: &[u8]) -> Option<usize> {
    bytes.windows(needle.len().max(1)).position(|window| window == needle)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_secs(5);

    fn console(text: &'static str) -> Console {
        Console::collect(text.as_bytes(), None, Vec::new())
    }

    #[test]
    fn expect_returns_what_came_before_and_goes_on_behind() {
        let mut console = console("one two one three");
        assert_eq!(console.expect("one", SOON).unwrap(), "");
        assert_eq!(console.expect("one", SOON).unwrap(), " two ");
        assert_eq!(console.expect("one", SOON), Err(Failure::Ended));
        console.rewind();
        assert_eq!(console.expect("two", SOON).unwrap(), "one ");
    }

    #[test]
    fn a_text_that_does_not_come_times_out() {
        let (reader, _writer) = io::pipe().unwrap();
        let mut console = Console::collect(reader, None, Vec::new());
        assert_eq!(console.expect("x", Duration::from_millis(30)), Err(Failure::TimedOut));
    }

    #[test]
    fn a_text_is_found_across_two_arrivals() {
        let (reader, mut writer) = io::pipe().unwrap();
        let mut console = Console::collect(reader, None, Vec::new());
        writer.write_all(b"portcul").unwrap();
        thread::sleep(Duration::from_millis(20));
        writer.write_all(b"lis").unwrap();
        console.expect("portcullis", SOON).unwrap();
    }

    #[test]
    fn a_file_ends_with_the_process_that_writes_it() {
        let dir = std::env::temp_dir().join(format!("portcullis-tail-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let mut command = crate::process::tool("sh");
        command.args(["-c", "printf portcul > serial.txt; sleep 0.2; printf lis >> serial.txt"]).current_dir(&dir);
        let mut writer = command.spawn().unwrap();
        let mut console = Console::file(&dir, Pid::from_child(&writer), None).unwrap();
        console.expect("portcullis", SOON).unwrap();
        assert_eq!(console.expect("more", SOON), Err(Failure::Ended));
        writer.wait().unwrap();
        assert_eq!(console.expect("more", SOON), Err(Failure::Ended));
        std::fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn a_console_without_input_refuses_typing() {
        assert_eq!(console("").send(b"x"), Err(Failure::NoInput));
    }

    #[test]
    fn everything_stays_in_the_transcript() {
        let mut console = console("abc");
        console.expect("c", SOON).unwrap();
        assert_eq!(console.transcript(), b"abc");
    }
}
