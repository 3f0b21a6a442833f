//! Merges streams into one, line by line, so that lines do not mix. Log lines are printed as `name: line`.
//!
//! A sole console is printed byte for byte. It keeps the line that it is in until it has been silent for a while (a prompt);
//! then logs may come between.
//!
//! Several consoles are shared in whole lines, each behind its console's name, in turn. What is not a line yet waits for
//! its end, but not for long: a prompt has none. What a console prints while the user types at it is printed at once, and
//! others wait a moment for its end. If another line comes between nevertheless, the rest has a bar behind the name:
//! `name| rest`. Consoles that are typed at together print as one as long as they print the same.

use heapless::{Deque, Vec};
use layout::limits::{MAX_GUESTS, MAX_HVCS, MAX_NAME, MAX_STREAMS};
use mmio::Ring;
use proto::serial::RingKind;

use crate::set::Set;
use crate::source::{CONSOLE_LINE, Source};

/// Most sources: the configuration's, this server's own log, and its answers to commands.
pub const MAX_SOURCES: usize = MAX_STREAMS + 2;
const _: () = assert!(MAX_SOURCES <= Set::MOST, "each source has a place in a set");
/// Two line ends, colours, and the names of all consoles.
const STAGED: usize = (MAX_GUESTS + MAX_HVCS) * (MAX_NAME + 1) + 32;
/// Maximum length of a log line; longer ones are broken, so that a client that never ends its line does not block
/// others.
const LOG_LINE: u32 = 512;
/// Bytes that a sole console may print without an end of line before logs may interrupt the line.
const SOLE_LINE: u32 = 32 * 1024;
/// SGR sequences (ECMA-48, 8.3.117), by console: red to cyan without the dark blue, then the same bright.
const COLOURS: [&[u8]; 10] = [
    b"\x1b[32m",
    b"\x1b[33m",
    b"\x1b[36m",
    b"\x1b[35m",
    b"\x1b[31m",
    b"\x1b[92m",
    b"\x1b[93m",
    b"\x1b[96m",
    b"\x1b[95m",
    b"\x1b[91m",
];
/// For consoles that print as one.
const TOGETHER: &[u8] = b"\x1b[97m";
const NO_COLOUR: &[u8] = b"\x1b[m";

/// Times, in ticks of the TSC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Times {
    /// A console in the middle of a line that has printed nothing for so long counts as silent: 40 ms, in any case longer
    /// than a guest takes from one byte of a line to the next.
    pub silence: u64,
    /// The same for a console that is typed at: longer than a user takes from one key to the next.
    pub typing: u64,
    /// So long, others wait in all for the end of a console's line.
    pub longest: u64,
    /// So long, a console's bytes wait for the end of their line.
    pub patience: u64,
}

impl Times {
    /// With a TSC of so many Hz.
    pub const fn new(hertz: u64) -> Self {
        Self { silence: hertz / 25, typing: hertz / 2, longest: hertz * 4, patience: hertz / 4 }
    }
}

/// Whether what is not a line yet may wait for its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hurry {
    /// It may.
    No,
    /// Somebody waits until all is printed.
    Yes,
}

/// The line that is being printed.
#[derive(Clone, Copy, Debug)]
struct Turn {
    /// Whose it is: several consoles that print the same.
    who: Set,
    /// Bytes of it so far.
    column: u32,
    /// When it began, and when its last byte was printed.
    begun: u64,
    last: u64,
}

/// All sources, and which one prints.
pub struct Mixer {
    sources: Vec<Source, MAX_SOURCES>,
    /// Clients' consoles. With two of them, the console is shared.
    consoles: Set,
    /// Consoles that get what is typed.
    input: Set,
    times: Times,
    turn: Option<Turn>,
    /// The source to poll first for the next line (round robin).
    next: usize,
    /// Bytes to print before all others: line ends and names.
    staged: Deque<u8, STAGED>,
    /// Whether names of consoles, and what follows them, are coloured.
    colours: bool,
    /// Whether control characters of consoles are printed as `^X`.
    pub visible: bool,
}

impl Mixer {
    /// Nothing printed yet. The first console is the one that is typed at. The server's own lines wait in `own`.
    pub fn new(mut sources: Vec<Source, MAX_SOURCES>, own: Ring, times: Times, colours: bool) -> Self {
        let consoles: Set = (0..sources.len()).filter(|&n| sources[n].kind == RingKind::Console).collect();
        let added = sources.push(Source::own(own));
        debug_assert!(added.is_ok(), "it has room for one more than the configuration and the server's log");
        let input = consoles.iter().next().map_or(Set::NONE, Set::of);
        let staged = Deque::new();
        Self { sources, consoles, input, times, turn: None, next: 0, staged, colours, visible: false }
    }

    /// All sources, by position.
    pub fn sources(&mut self) -> &mut [Source] {
        &mut self.sources
    }

    /// The clients' consoles.
    pub fn consoles(&self) -> Set {
        self.consoles
    }

    /// Whether several consoles share the line.
    pub fn is_shared(&self) -> bool {
        self.consoles.len() > 1
    }

    /// Those that get what is typed.
    pub fn input(&self) -> Set {
        self.input
    }

    /// One of them is typed at.
    pub fn typed_at(&mut self, n: usize, now: u64) {
        if let Some(source) = self.sources.get_mut(n) {
            (source.echoes, source.last) = (true, now);
        }
    }

    /// From now on, these do.
    pub fn set_input(&mut self, input: Set) {
        self.input = input;
    }

    /// The server's own lines, behind all clients'.
    pub fn own(&mut self) -> Option<&mut Source> {
        self.sources.last_mut()
    }

    /// Bytes that have not been printed.
    pub fn pending(&self) -> u32 {
        let sources: u32 = self.sources.iter().map(Source::pending).sum();
        sources + self.staged.len() as u32
    }

    /// Whether the next byte begins a line.
    pub fn at_line_start(&self) -> bool {
        self.turn.is_none() && self.staged.is_empty()
    }

    /// When [`Self::next`] may have a byte that it has not now, though nothing has come: `None` if nothing waits.
    pub fn deadline(&self, now: u64) -> Option<u64> {
        if self.pending() == 0 {
            return None;
        }
        match self.held_until() {
            Some(end) if end > now => Some(end),
            _ => {
                let since = self.sources.iter().filter_map(Source::since).min().unwrap_or(now);
                // At least a while from now, so that no mistake here can keep the processor busy.
                Some((since + self.times.patience).max(now + self.times.silence))
            }
        }
    }

    /// The next byte, if one may go out now.
    pub fn next(&mut self, now: u64, hurry: Hurry) -> Option<u8> {
        if let Some(byte) = self.staged.pop_front() {
            return Some(byte);
        }
        if !self.overlong()
            && let Some(byte) = self.go_on(now)
        {
            return Some(byte);
        }
        self.look(now);
        if hurry == Hurry::No && !self.overlong() && self.held_until().is_some_and(|end| now < end) {
            return None;
        }
        let who = self.choose(now, hurry)?;
        match &mut self.turn {
            // No other source has bytes, so the console continues its line, with a new share.
            Some(turn) if turn.who == who && self.sources[who.first()].kind == RingKind::Console => {
                (turn.column, turn.begun) = (0, now);
            }
            turn => {
                if let Some(turn) = turn.take() {
                    self.uncolour(turn.who);
                    self.stage(b"\r\n");
                }
                self.begin(who, now);
            }
        }
        self.staged.pop_front().or_else(|| self.go_on(now))
    }

    /// Whether the current line has used up its share.
    fn overlong(&self) -> bool {
        let Some(turn) = self.turn else { return false };
        let most = match self.sources[turn.who.first()].kind {
            RingKind::Log => LOG_LINE,
            RingKind::Console if self.is_shared() => CONSOLE_LINE,
            RingKind::Console => SOLE_LINE,
        };
        turn.column >= most
    }

    /// Until when all others wait for the end of the current line.
    fn held_until(&self) -> Option<u64> {
        let turn = self.turn.filter(|turn| self.sources[turn.who.first()].kind == RingKind::Console)?;
        // They print the same no longer.
        if turn.who.len() > 1 && turn.who.iter().all(|n| self.sources[n].pending() > 0) {
            return None;
        }
        if !self.is_shared() {
            return Some(turn.last + self.times.silence + 1);
        }
        let own = turn.who == Set::of(self.sources.len() - 1);
        let wait = if own || self.input.contains(turn.who) { self.times.typing } else { self.times.silence };
        Some((turn.last + wait).min(turn.begun + self.times.longest) + 1)
    }

    /// The next byte of the current line.
    fn go_on(&mut self, now: u64) -> Option<u8> {
        let turn = self.turn.as_mut()?;
        let who = turn.who;
        if who.len() > 1 {
            let byte = self.sources[who.first()].first()?;
            if !who.iter().all(|n| self.sources[n].first() == Some(byte)) {
                return None;
            }
        }
        let bytes = who.iter().map(|n| {
            self.sources[n].last = now;
            self.sources[n].pop()
        });
        // They are the same, unless a client has changed its own just now.
        let byte = bytes.fold(None, |first, byte| first.or(byte))?;
        (turn.column, turn.last) = (turn.column + 1, now);
        match (byte, self.sources[who.first()].kind) {
            (b'\n', kind) => {
                self.turn = None;
                if kind == RingKind::Log {
                    self.stage(b"\r");
                }
                self.uncolour(who);
                self.stage(b"\n");
                self.staged.pop_front()
            }
            // Logs are plain text: escape sequences could move the cursor and overwrite other processes' lines.
            (0..=0x1f | 0x7f, RingKind::Log) => Some(b'.'),
            (0..=8 | 0xb | 0xc | 0xe..=0x1f | 0x7f, RingKind::Console) if self.visible => {
                self.stage(&[byte ^ 0x40]);
                Some(b'^')
            }
            _ => Some(byte),
        }
    }

    /// Takes note of what has come.
    fn look(&mut self, now: u64) {
        if self.is_shared() {
            self.sources
                .iter_mut()
                .filter(|source| source.kind == RingKind::Console)
                .for_each(|source| source.look(now));
        }
    }

    /// Whose line is next, round robin.
    fn choose(&mut self, now: u64, hurry: Hurry) -> Option<Set> {
        let count = self.sources.len();
        let order = (0..count).map(|n| (self.next + n) % count);
        let (turn, who) = order.into_iter().find_map(|n| Some((n, self.ready(n, now, hurry)?)))?;
        self.next = (turn + 1) % count;
        Some(who)
    }

    /// Whether a source has bytes to begin a line with, and which others begin it with the same.
    fn ready(&self, n: usize, now: u64, hurry: Hurry) -> Option<Set> {
        let source = &self.sources[n];
        if source.pending() == 0 {
            return None;
        }
        if source.kind == RingKind::Log || !self.is_shared() || hurry == Hurry::Yes {
            return Some(Set::of(n));
        }
        let waited = source.since().is_some_and(|since| now.saturating_sub(since) >= self.times.patience);
        let together = if self.input.contains(Set::of(n)) { self.input } else { Set::of(n) };
        let same: Set = together.iter().filter(|&m| m == n || source.goes_on_like(&self.sources[m])).collect();
        // Those that are typed at together may print the same a little later, unless they are silent. Once the others have a
        // whole line, they will not; the one with the most to print has a line more before what is the same again.
        let differs = || {
            let done = |other: &Source| match other.pending() {
                0 => now.saturating_sub(other.last) >= self.times.patience,
                pending => other.has_line() && pending <= source.pending(),
            };
            together.iter().all(|m| done(&self.sources[m]))
        };
        // With nothing else to print, what is typed at need not wait for the end of its line: a prompt comes at once.
        let others = || (0..self.sources.len()).filter(|&m| !same.contains(Set::of(m)));
        let idle = || self.input.contains(same) && others().all(|m| self.sources[m].pending() == 0);
        let go = if same == together { source.has_line() || source.echoes || idle() } else { differs() };
        (go || waited).then_some(same)
    }

    fn begin(&mut self, who: Set, now: u64) {
        self.turn = Some(Turn { who, column: 0, begun: now, last: now });
        let first = who.first();
        if self.colours && self.is_shared() && self.consoles.contains(who) {
            let colour = (0..first).filter(|n| self.consoles.contains(Set::of(*n))).count() % COLOURS.len();
            self.stage(if who.len() > 1 { TOGETHER } else { COLOURS[colour] });
        }
        let (kind, rest) = (self.sources[first].kind, self.sources[first].unfinished);
        for n in who.iter() {
            self.sources[n].echoes = false;
            if kind == RingKind::Log || self.is_shared() {
                let name = self.sources[n].name.clone();
                self.stage(if n == first { b"" } else { b"+" });
                self.stage(name.as_bytes());
            }
        }
        if kind == RingKind::Log {
            self.stage(b": ");
        } else if self.is_shared() {
            self.stage(if rest { b"| " } else { b": " });
        }
    }

    /// Ends the colour of a line.
    fn uncolour(&mut self, who: Set) {
        if self.colours && self.is_shared() && self.consoles.contains(who) {
            self.stage(NO_COLOUR);
        }
    }

    /// Queues bytes to print before all others.
    fn stage(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            let _ = self.staged.push_back(byte);
        }
    }
}

#[cfg(test)]
mod tests;
