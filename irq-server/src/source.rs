//! Where interrupts come from ("sources"): inputs of an I/O APIC, each with one or several lines of the system connected to
//! it, and functions that send messages, each with a line of its own. The description has most of the routes; pci-server
//! sets the others at run time.

use core::fmt;

use heapless::Vec;
use layout::{Bdf, limits::MAX_LINES};
use proto::irq::{Error, Line, Route};
use proto::tally::Tally;

use crate::LineSet;
use crate::round::{Round, Trigger};

/// What raises an interrupt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// An input of an I/O APIC, with its trigger mode and polarity.
    Input(Route),
    /// Messages of a function.
    Messages(Bdf),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Input(Route { ioapic, pin, level, .. }) => {
                write!(f, "I/O APIC {ioapic} pin {pin}, {}", if *level { "level" } else { "edge" })
            }
            Self::Messages(function) => write!(f, "messages of {function}"),
        }
    }
}

/// An origin, and the lines connected to it.
#[derive(Debug)]
pub struct Source {
    /// The input, or the function.
    pub origin: Origin,
    /// The lines connected to it.
    pub lines: LineSet,
    /// Its handler, created when the first owner claimed its line.
    pub handler: Option<u64>,
    /// The interrupt in progress: for shared lines.
    pub round: Round,
    /// Interrupt storms.
    pub storms: Tally,
    /// Attempts at which the kernel refused to create the handler.
    pub refused: Tally,
}

impl Source {
    fn new(origin: Origin) -> Self {
        let (storms, refused) = (Tally::default(), Tally::default());
        Self { origin, lines: LineSet::default(), handler: None, round: Round::default(), storms, refused }
    }

    /// Whether irq-server keeps the handler.
    pub fn shared(&self) -> bool {
        self.lines.len() > 1
    }

    /// Its trigger mode.
    pub fn trigger(&self) -> Trigger {
        match self.origin {
            Origin::Input(Route { level: true, .. }) => Trigger::Level,
            Origin::Input(_) | Origin::Messages(_) => Trigger::Edge,
        }
    }

    /// Whether this is the source for `origin`. Each line of messages has its own, since each message has its vector.
    fn is_at(&self, origin: Origin) -> bool {
        match (self.origin, origin) {
            (Origin::Input(own), Origin::Input(other)) => (own.ioapic, own.pin) == (other.ioapic, other.pin),
            _ => false,
        }
    }

    /// Whether the line `joining`, whose `origin` is at this input, may share it.
    fn admits(&self, joining: u8, origin: Origin, lines: &[Line]) -> Result<(), Error> {
        // The kernel signals a handed-over line to its owner alone, and the owner acknowledges it without irq-server.
        let handed_over = self.handler.is_some() && !self.shared();
        let together = self.lines.with(LineSet::of([joining]));
        // Without a notification of irq-server's own (`own`), the line is a server's and cannot be shared.
        let alone = (0..).zip(lines).any(|(number, line)| together.contains(number) && line.own.is_none());
        if handed_over || alone {
            return Err(Error::RouteTaken);
        }
        if self.origin != origin { Err(Error::Conflict) } else { Ok(()) }
    }
}

/// All sources.
#[derive(Debug, Default)]
pub struct Sources(Vec<Source, MAX_LINES>);

impl Sources {
    /// The sources of the description's routes. A line that cannot share the input of an earlier one gets no route.
    pub fn of(lines: &[Line]) -> Self {
        let mut sources = Self::default();
        for (number, route) in (0..).zip(lines.iter().map(|line| line.route)) {
            if let Some(Err(error)) = route.map(|route| sources.connect(number, Origin::Input(route), lines)) {
                log::error!("line {number} has no route: {error:?}");
            }
        }
        sources
    }

    /// Connects `line` to `origin`, permanently; or to messages in place of its input. `lines` are all lines of the system.
    pub fn connect(&mut self, line: u8, origin: Origin, lines: &[Line]) -> Result<(), Error> {
        let sends = matches!(origin, Origin::Messages(_));
        let may_send = lines.get(usize::from(line)).is_some_and(|line| line.messages);
        match self.of_line(line) {
            // A restarted pci-server sets the same routes again.
            Some(source) if source.origin == origin => return Ok(()),
            _ if sends && !may_send => return Err(Error::RouteTaken),
            // Its owner has the input's handler already, or waits for irq-server's signals.
            Some(source) if !sends || source.handler.is_some() => return Err(Error::RouteTaken),
            Some(source) => {
                source.lines.remove(line);
                self.0.retain(|source| !source.lines.is_empty());
            }
            None => {}
        }
        if let Some(source) = self.0.iter().find(|source| source.is_at(origin)) {
            source.admits(line, origin, lines)?;
        }
        self.put(line, origin);
        Ok(())
    }

    fn put(&mut self, line: u8, origin: Origin) {
        if let Some(source) = self.0.iter_mut().find(|source| source.is_at(origin)) {
            source.lines.insert(line);
            return;
        }
        let mut source = Source::new(origin);
        source.lines.insert(line);
        // There is room: each source has at least one line, and there are at most `MAX_LINES` lines.
        let _ = self.0.push(source);
    }

    /// The source that a line is connected to.
    pub fn of_line(&mut self, line: u8) -> Option<&mut Source> {
        self.0.iter_mut().find(|source| source.lines.contains(line))
    }

    /// All of them.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Source> {
        self.0.iter_mut()
    }
}
