//! Inputs of the I/O APIC ("sources"), each with one or several lines of the system connected to it. The description
//! has most of the routes; pci-server sets the others at run time.

use heapless::Vec;
use layout::limits::MAX_LINES;
use proto::irq::{Error, Line, Route};
use proto::tally::Tally;

use crate::LineSet;
use crate::round::{Round, Trigger};

/// An input of an I/O APIC.
#[derive(Debug)]
pub struct Source {
    /// Its pin, trigger mode and polarity.
    pub route: Route,
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
    fn new(route: Route) -> Self {
        let (storms, refused) = (Tally::default(), Tally::default());
        Self { route, lines: LineSet::default(), handler: None, round: Round::default(), storms, refused }
    }

    /// Whether irq-server keeps the handler.
    pub fn shared(&self) -> bool {
        self.lines.len() > 1
    }

    /// Its trigger mode.
    pub fn trigger(&self) -> Trigger {
        if self.route.level { Trigger::Level } else { Trigger::Edge }
    }

    fn at(&self, route: Route) -> bool {
        (self.route.ioapic, self.route.pin) == (route.ioapic, route.pin)
    }

    /// Whether the line `joining`, which is `route`d here, may share this input.
    fn admits(&self, joining: u8, route: Route, lines: &[Line]) -> Result<(), Error> {
        // The kernel signals a handed-over line to its owner alone, and the owner acknowledges it without irq-server.
        let handed_over = self.handler.is_some() && !self.shared();
        let together = self.lines.with(LineSet::of([joining]));
        // Without a notification of irq-server's own (`own`), the line is a server's and cannot be shared.
        let alone = (0..).zip(lines).any(|(number, line)| together.contains(number) && line.own.is_none());
        if handed_over || alone {
            return Err(Error::RouteTaken);
        }
        if self.route != route { Err(Error::Conflict) } else { Ok(()) }
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
            if let Some(Err(error)) = route.map(|route| sources.connect(number, route, lines)) {
                log::error!("line {number} has no route: {error:?}");
            }
        }
        sources
    }

    /// Connects `line` to the input of `route`, permanently. `lines` are all lines of the system.
    pub fn connect(&mut self, line: u8, route: Route, lines: &[Line]) -> Result<(), Error> {
        // A restarted pci-server sets the same routes again.
        if let Some(source) = self.of_line(line) {
            return if source.route == route { Ok(()) } else { Err(Error::RouteTaken) };
        }
        if let Some(source) = self.0.iter().find(|source| source.at(route)) {
            source.admits(line, route, lines)?;
        }
        self.put(line, route);
        Ok(())
    }

    fn put(&mut self, line: u8, route: Route) {
        if let Some(source) = self.0.iter_mut().find(|source| source.at(route)) {
            source.lines.insert(line);
            return;
        }
        let mut source = Source::new(route);
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
