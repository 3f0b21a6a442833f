//! Pins that stay silent: those whose driver has unmasked its input, and that have not interrupted once in five seconds since. On a
//! real board that is the symptom of a wrong `source` in the description, and the device's driver says nothing that
//! leads there. Looked at when a timer of the guest's is due, ten times a second at most, and not at all once each pin has
//! interrupted or is reported. A device may also have had no reason to interrupt, so this is a hint.

use devices::Nanos;
use heapless::Vec;
use layout::{Bdf, limits::MAX_OWN_LINES};

/// How long a pin may be silent, in nanoseconds.
const LONGEST: u64 = 5_000_000_000;
/// How long nobody looks after a look, in nanoseconds.
const PAUSE: u64 = 100_000_000;

#[derive(Clone, Copy, Debug)]
struct Pin {
    /// The line, by its position.
    line: usize,
    function: Bdf,
    /// Since when its input has been unmasked.
    since: Option<Nanos>,
}

/// The pins that have not interrupted yet.
#[derive(Clone, Debug, Default)]
pub struct Silence {
    pins: Vec<Pin, MAX_OWN_LINES>,
    /// Their lines, bit by bit.
    lines: u16,
    /// When to look again.
    next: Nanos,
}

impl Silence {
    /// Listens to the line at this position: a pin of `function`.
    pub fn listen(&mut self, line: usize, function: Bdf) {
        if self.pins.push(Pin { line, function, since: None }).is_ok() {
            self.lines |= 1 << line;
        }
    }

    /// These lines have interrupted.
    #[inline]
    pub fn end(&mut self, lines: u16) {
        self.lines &= !lines;
    }

    /// Whether any are silent, and nobody has looked for a while.
    #[inline]
    pub fn is_due(&self, now: Nanos) -> bool {
        self.lines != 0 && self.next <= now
    }

    /// The guest was reset: its next driver begins anew.
    pub fn reset(&mut self) {
        self.pins.iter_mut().for_each(|pin| pin.since = None);
    }

    /// Takes the functions whose pins have been silent for too long; `is_unmasked` says which lines have an unmasked input.
    pub fn look(&mut self, now: Nanos, is_unmasked: impl Fn(usize) -> bool) -> impl Iterator<Item = Bdf> {
        self.next = now + PAUSE;
        let mut late = Vec::<Bdf, MAX_OWN_LINES>::new();
        let lines = &mut self.lines;
        self.pins.retain_mut(|pin| {
            if *lines & 1 << pin.line == 0 {
                return false;
            }
            if !is_unmasked(pin.line) {
                pin.since = None;
                return true;
            }
            let since = *pin.since.get_or_insert(now);
            if now < since + LONGEST {
                return true;
            }
            *lines &= !(1 << pin.line);
            late.push(pin.function).is_err()
        });
        late.into_iter()
    }
}
