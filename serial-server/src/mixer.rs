//! Merges streams into one. Streams take turns line by line, so that lines do not mix; a console that stopped in the
//! middle of a line (a prompt) keeps its turn until it has been silent for a while.
//!
//! Log lines are printed as `name: line`. Console bytes are printed unchanged; if there are several consoles, their
//! lines begin with the name as well.

use heapless::{Deque, Vec};
use layout::{config::Name, limits::MAX_STREAMS};
use mmio::Consumer;
use proto::serial::RingKind;

/// Most sources: the configuration's, and this server's own log.
pub const MAX_SOURCES: usize = MAX_STREAMS + 1;
/// Maximum length of a log line; longer ones are broken, so that a client that never ends its line does not block
/// others.
const LOG_LINE: u32 = 512;
/// Bytes that a console may print without an end of line before other streams may interrupt the line.
const CONSOLE_LINE: u32 = 32 * 1024;

/// The timeout after which other streams may interrupt the unfinished line of a silent console.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SilenceTimeout {
    /// The console printed recently, and may continue its line.
    Running,
    /// The console has been silent.
    Expired,
}

/// One source of bytes.
pub struct Source {
    /// Prefix of its lines.
    pub name: Name,
    /// Log or console.
    pub kind: RingKind,
    /// Its bytes.
    pub bytes: Consumer,
}

/// All sources, and which one prints.
pub struct Mixer {
    sources: Vec<Source, MAX_SOURCES>,
    /// The source that is in the middle of a line.
    turn: Option<usize>,
    /// Bytes of that line so far.
    column: u32,
    /// The source to poll first for the next line (round robin).
    next: usize,
    /// Bytes to print before all others: line ends and names.
    staged: Deque<u8, 64>,
}

impl Mixer {
    /// Nothing printed yet.
    pub fn new(sources: Vec<Source, MAX_SOURCES>) -> Self {
        Self { sources, turn: None, column: 0, next: 0, staged: Deque::new() }
    }

    /// All sources, by position.
    pub fn sources(&mut self) -> &mut [Source] {
        &mut self.sources
    }

    /// Bytes that have not been printed.
    pub fn pending(&self) -> u32 {
        let rings: u32 = self.sources.iter().map(|source| source.bytes.available()).sum();
        rings + self.staged.len() as u32
    }

    /// Whether a console is in the middle of a line.
    pub fn console_in_line(&self) -> bool {
        self.turn.and_then(|turn| self.sources.get(turn)).is_some_and(|source| source.kind == RingKind::Console)
    }

    /// The next byte, if one may go out now.
    pub fn next(&mut self, timeout: SilenceTimeout) -> Option<u8> {
        if let Some(byte) = self.staged.pop_front() {
            return Some(byte);
        }
        if !self.overlong() {
            if let Some(byte) = self.go_on() {
                return Some(byte);
            }
            if self.console_in_line() && timeout == SilenceTimeout::Running {
                return None;
            }
        }
        let next = self.choose()?;
        if self.turn == Some(next) && self.console_in_line() {
            // No other source has bytes, so the console continues its line, with a new share.
            self.column = 0;
        } else {
            if self.turn.is_some() {
                self.stage(b"\r\n");
            }
            self.begin(next);
        }
        self.staged.pop_front().or_else(|| self.go_on())
    }

    /// Whether the current line has used up its share.
    fn overlong(&self) -> bool {
        self.column >= if self.console_in_line() { CONSOLE_LINE } else { LOG_LINE }
    }

    /// The next byte of the current line.
    fn go_on(&mut self) -> Option<u8> {
        let source = self.sources.get_mut(self.turn?)?;
        let byte = source.bytes.pop_byte()?;
        self.column += 1;
        match (byte, source.kind) {
            (b'\n', RingKind::Console) => {
                self.turn = None;
                Some(b'\n')
            }
            (b'\n', RingKind::Log) => {
                self.turn = None;
                self.stage(b"\n");
                Some(b'\r')
            }
            // Logs are plain text: escape sequences could move the cursor and overwrite other processes' lines.
            (0..=0x1f | 0x7f, RingKind::Log) => Some(b'.'),
            _ => Some(byte),
        }
    }

    /// The next source with bytes, round robin.
    fn choose(&mut self) -> Option<usize> {
        let count = self.sources.len();
        let order = (0..count).map(|n| (self.next + n) % count);
        let turn = order.into_iter().find(|&n| self.sources.get(n).is_some_and(|s| s.bytes.available() > 0))?;
        self.next = (turn + 1) % count;
        Some(turn)
    }

    fn begin(&mut self, turn: usize) {
        self.turn = Some(turn);
        self.column = 0;
        let consoles = self.sources.iter().filter(|source| source.kind == RingKind::Console).count();
        let Some(source) = self.sources.get(turn) else { return };
        if source.kind == RingKind::Log || consoles > 1 {
            let name = source.name.clone();
            self.stage(name.as_bytes());
            self.stage(b": ");
        }
    }

    /// Queues bytes to print before all others. Two line ends and the longest name fit.
    fn stage(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            let _ = self.staged.push_back(byte);
        }
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use mmio::{Producer, Ring, Window};
    use proptest::prelude::*;
    use std::{format, string::String, vec, vec::Vec as StdVec};

    fn source(name: &str, kind: RingKind) -> (Producer, Source) {
        let ring = Ring::new(Window::leak(vec![0; 4096].leak())).unwrap();
        (ring.producer(), Source { name: name.try_into().unwrap(), kind, bytes: ring.consumer() })
    }

    fn mixer<const N: usize>(sources: [(&str, RingKind); N]) -> ([Producer; N], Mixer) {
        let mut all = Vec::new();
        let producers = sources.map(|(name, kind)| {
            let (producer, source) = source(name, kind);
            assert!(all.push(source).is_ok());
            producer
        });
        (producers, Mixer::new(all))
    }

    fn drain(mixer: &mut Mixer, timeout: SilenceTimeout) -> String {
        let mut out = StdVec::new();
        while let Some(byte) = mixer.next(timeout) {
            out.push(byte);
        }
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_log_line_carries_its_name_and_a_console_does_not() {
        let ([mut log, mut console], mut mixer) = mixer([("irq", RingKind::Log), ("vm0", RingKind::Console)]);
        log.push(b"two lines\nof text\n");
        console.push(b"Linux\r\n");
        assert_eq!(drain(&mut mixer, SilenceTimeout::Running), "irq: two lines\r\nLinux\r\nirq: of text\r\n");
    }

    #[test]
    fn a_log_waits_for_the_end_of_the_consoles_line() {
        let ([mut log, mut console], mut mixer) = mixer([("irq", RingKind::Log), ("vm0", RingKind::Console)]);
        console.push(b"[    0.0");
        assert_eq!(drain(&mut mixer, SilenceTimeout::Running), "[    0.0");
        log.push(b"hello\n");
        assert_eq!(drain(&mut mixer, SilenceTimeout::Running), "");
        console.push(b"00] Linux\r\n");
        assert_eq!(drain(&mut mixer, SilenceTimeout::Running), "00] Linux\r\nirq: hello\r\n");
    }

    #[test]
    fn a_log_line_interrupts_a_silent_prompt() {
        let ([mut log, mut console], mut mixer) = mixer([("irq", RingKind::Log), ("vm0", RingKind::Console)]);
        console.push(b"/ # ");
        drain(&mut mixer, SilenceTimeout::Running);
        log.push(b"hello\n");
        assert_eq!(drain(&mut mixer, SilenceTimeout::Expired), "\r\nirq: hello\r\n");
        console.push(b"ls");
        assert_eq!(drain(&mut mixer, SilenceTimeout::Expired), "ls");
    }

    #[test]
    fn several_consoles_take_turns_by_line_and_are_named() {
        let ([mut a, mut b], mut mixer) = mixer([("a", RingKind::Console), ("b", RingKind::Console)]);
        a.push(b"1\n2\n");
        b.push(b"x\ny");
        assert_eq!(drain(&mut mixer, SilenceTimeout::Running), "a: 1\nb: x\na: 2\nb: y");
    }

    #[test]
    fn a_log_cannot_move_the_cursor() {
        let ([mut log], mut mixer) = mixer([("irq", RingKind::Log)]);
        log.push(b"\x1b[2Jgone\r\n");
        assert_eq!(drain(&mut mixer, SilenceTimeout::Running), "irq: .[2Jgone.\r\n");
    }

    #[test]
    fn an_endless_console_line_does_not_silence_the_logs() {
        let ([mut log, mut console], mut mixer) = mixer([("irq", RingKind::Log), ("vm0", RingKind::Console)]);
        console.push(b"x");
        drain(&mut mixer, SilenceTimeout::Running);
        mixer.column = CONSOLE_LINE - 1;
        console.push(b"yz");
        log.push(b"here\n");
        assert_eq!(drain(&mut mixer, SilenceTimeout::Running), "y\r\nirq: here\r\nz");
    }

    #[test]
    fn an_endless_log_line_is_cut() {
        let ([mut log, mut console], mut mixer) = mixer([("irq", RingKind::Log), ("vm0", RingKind::Console)]);
        log.push(&[b'x'; 600]);
        console.push(b"ok\n");
        let cut = format!("irq: {}\r\nok\nirq: {}", "x".repeat(512), "x".repeat(88));
        assert_eq!(drain(&mut mixer, SilenceTimeout::Running), cut);
        console.push(b"ok\n");
        assert_eq!(drain(&mut mixer, SilenceTimeout::Running), "\r\nok\n", "an unfinished log line is not waited for");
    }

    proptest! {
        #[test]
        fn a_single_console_passes_byte_for_byte(
            pieces in prop::collection::vec((prop::collection::vec(any::<u8>(), 0..40), any::<bool>()), 0..20),
        ) {
            let ([mut console], mut mixer) = mixer([("vm0", RingKind::Console)]);
            // The console has used up nearly all of its share.
            mixer.column = CONSOLE_LINE - 10;
            let (mut sent, mut got) = (StdVec::new(), StdVec::new());
            for (piece, over) in pieces {
                console.push(&piece);
                sent.extend(piece);
                let timeout = if over { SilenceTimeout::Expired } else { SilenceTimeout::Running };
                while let Some(byte) = mixer.next(timeout) {
                    got.push(byte);
                }
            }
            prop_assert_eq!(got, sent);
        }
    }
}
