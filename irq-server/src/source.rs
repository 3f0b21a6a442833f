//! Where lines arrive: an input of an I/O APIC is a source, with one line of the system behind it or several. The
//! description gives most of them; the rest come one by one when pci-server has found out.

use heapless::Vec;
use layout::limits::MAX_LINES;
use proto::irq::{Error, Line, Route};

use crate::LineSet;
use crate::round::{Round, Trigger};
use crate::tally::Tally;

/// An input that lines arrive at.
#[derive(Debug)]
pub struct Source {
    /// Where it is, and how it interrupts.
    pub route: Route,
    /// The lines behind it.
    pub lines: LineSet,
    /// Its handler, made when the first owner claimed its line.
    pub handler: Option<u64>,
    /// The interrupt in progress: for shared lines.
    pub round: Round,
    /// How often it stormed.
    pub storms: Tally,
    /// How often the kernel refused the handler.
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

    /// How it arrives.
    pub fn trigger(&self) -> Trigger {
        if self.route.level { Trigger::Level } else { Trigger::Edge }
    }

    fn at(&self, route: Route) -> bool {
        (self.route.ioapic, self.route.pin) == (route.ioapic, route.pin)
    }

    /// Whether the line `joining` may join, which is `route`d here.
    fn admits(&self, joining: u8, route: Route, lines: &[Line]) -> Result<(), Error> {
        let handed_over = self.handler.is_some() && !self.shared();
        let together = self.lines.with(LineSet::of([joining]));
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
    /// Those that the description knows. A line that cannot join those before it stays without a route.
    pub fn of(lines: &[Line]) -> Self {
        let mut sources = Self::default();
        for (number, route) in (0..).zip(lines.iter().map(|line| line.route)) {
            if let Some(Err(error)) = route.map(|route| sources.connect(number, route, lines)) {
                log::error!("line {number} has no route: {error:?}");
            }
        }
        sources
    }

    /// Sends `line` to `route` for good. `lines` are all lines of the system.
    pub fn connect(&mut self, line: u8, route: Route, lines: &[Line]) -> Result<(), Error> {
        if let Some(source) = self.behind(line) {
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
        // There is room: each source has a line, and there are no more than `MAX_LINES` of those.
        let _ = self.0.push(source);
    }

    /// The source of a line that has one.
    pub fn behind(&mut self, line: u8) -> Option<&mut Source> {
        self.0.iter_mut().find(|source| source.lines.contains(line))
    }

    /// All of them.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Source> {
        self.0.iter_mut()
    }
}
