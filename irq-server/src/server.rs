//! Decides which client gets which line, and multiplexes lines with several owners. The server creates a line's handler
//! when its first owner claims it, and keeps it, so that a restarted owner can claim it again.

use core::fmt;

use heapless::Vec;
use layout::{
    Bdf, Slot, event,
    limits::{MAX_CLIENTS, MAX_LINES},
};
use proto::irq::{Claim, Config, Done, Error, Line, Lines, MsiMessage, Serve, SetMessage, SetRoute};
use proto::tally::{Report, Tally};
use proto::wire::ClientId;

use crate::LineSet;
use crate::round::{Answer, Raised};
use crate::source::{Origin, Source, Sources};

/// Attempts to create a handler.
const MAX_TRIES: u32 = 4;

/// The kernel refused to create the handler.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused;

/// The kernel's side of interrupts.
pub trait Controller {
    /// Creates the handler of `line`, the system's `index`th, for interrupts from `origin`, sets it to signal `notified` and
    /// unmasks the line; returns the capability's address.
    fn attach(&mut self, index: u8, line: &Line, origin: Origin, notified: Slot) -> Result<u64, Refused>;
    /// The message that raises `line`.
    fn message(&self, line: &Line) -> MsiMessage;
    /// Acknowledges the interrupt of a handler, which unmasks its line.
    fn acknowledge(&mut self, handler: u64);
    /// Signals a notification.
    fn signal(&mut self, slot: Slot);
}

/// A client's errors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// Calls that were refused.
    pub refused: Tally,
    /// Interrupts for which it missed the timeout.
    pub late: Tally,
    /// `Done` without an interrupt.
    pub spurious: Tally,
}

/// The server.
pub struct Server<C> {
    controller: C,
    lines: Vec<Line, MAX_LINES>,
    sources: Sources,
    router: Option<u64>,
    alarm: Alarm,
    /// By client; the last one is for all unknown badges.
    records: [Record; MAX_CLIENTS + 1],
    /// Signals without an interrupt.
    spurious: Tally,
}

/// The request to timer-server for a signal in a millisecond. `Slot` has the notification that requests it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Alarm {
    /// The system has no timer-server: no owner becomes late, and no line is throttled.
    None,
    Idle(Slot),
    Set(Slot),
}

impl<C: Controller> Server<C> {
    /// The server of the lines in `config`; creates no handlers yet.
    pub fn new(config: Config, controller: C) -> Self {
        Self {
            controller,
            sources: Sources::of(&config.lines),
            lines: config.lines,
            router: config.router,
            alarm: config.alarm.map_or(Alarm::None, Alarm::Idle),
            records: core::array::from_fn(|_| Record::default()),
            spurious: Tally::default(),
        }
    }

    /// Bits of the server's own notification: [`event::TIMER`], and [`event::ring`] of a shared line.
    pub fn on_signal(&mut self, bits: u64) {
        if bits & event::TIMER != 0 {
            self.on_tick();
        }
        let lines = bits & !event::TIMER;
        for line in (0..64).filter(|&line| lines & 1 << line != 0) {
            self.on_interrupt(line);
        }
    }

    /// A client's error counts.
    pub fn record(&self, client: ClientId) -> Record {
        self.records.get(client.index()).or(self.records.last()).copied().unwrap_or_default()
    }

    /// How many signals belonged to no interrupt.
    pub fn spurious(&self) -> u32 {
        self.spurious.count()
    }

    fn on_interrupt(&mut self, line: u8) {
        let known = self.sources.of_line(line).filter(|source| source.shared() && source.handler.is_some());
        let Some(source) = known else { return self.count_spurious(line) };
        // Only a tick unmasks a throttled line, so without ticks there is no limit.
        let limit = if self.alarm == Alarm::None { 0 } else { limit(&self.lines, source.lines) };
        match source.round.raised(source.trigger(), limit) {
            Raised::Spurious => return self.count_spurious(line),
            Raised::Storm if source.storms.add() == Report::Log => {
                let (names, storms) = (Names(&self.lines, source.lines), source.storms.count());
                log::warn!("{names}: throttled, more than {limit} interrupts in a millisecond; storm {storms}");
            }
            Raised::Storm | Raised::Regular => {}
        }
        for owner in source.round.listeners().iter().filter_map(|line| self.lines.get(usize::from(line))) {
            self.controller.signal(owner.signal);
        }
        unmask_if_done(&mut self.controller, source);
        self.alarm = set(self.alarm, &mut self.controller);
    }

    /// Counts a signal without an interrupt.
    fn count_spurious(&mut self, line: u8) {
        if self.spurious.add() == Report::Log {
            log::warn!("spurious signal for line {line}; {} so far", self.spurious.count());
        }
    }

    fn on_tick(&mut self) {
        if let Alarm::Set(slot) = self.alarm {
            self.alarm = Alarm::Idle(slot);
        }
        let mut again = false;
        for source in self.sources.iter_mut() {
            for line in source.round.tick().iter().filter_map(|line| self.lines.get(usize::from(line))) {
                let late = &mut record(&mut self.records, ClientId(line.owner)).late;
                if late.add() == Report::Log {
                    let (name, owner, count) = (&line.name, line.owner, late.count());
                    log::warn!("`{name}`: client {owner} missed the timeout, is not waited for; {count} so far");
                }
            }
            unmask_if_done(&mut self.controller, source);
            again |= source.round.needs_tick();
        }
        if again {
            self.alarm = set(self.alarm, &mut self.controller);
        }
    }

    /// Counts a refusal and logs it, rate-limited per client.
    fn refuse(&mut self, from: ClientId, line: u8, what: &str, error: Error) -> Error {
        let refused = &mut record(&mut self.records, from).refused;
        if refused.add() == Report::Log {
            let (name, count) = (self.lines.get(usize::from(line)).map_or("?", |line| &line.name), refused.count());
            log::warn!("client {} may not {what} line {line} (`{name}`): {error:?}; refusal {count}", from.0);
        }
        error
    }

    fn owned(&self, from: ClientId, line: u8) -> Result<&Line, Error> {
        let line = self.lines.get(usize::from(line)).ok_or(Error::NoSuchLine)?;
        if line.owner == from.0 { Ok(line) } else { Err(Error::NotOwner) }
    }

    /// The handler of line `number` for its owner; none if the line is shared, as irq-server then keeps the handler.
    fn try_claim(&mut self, from: ClientId, number: u8) -> Result<Option<u64>, Error> {
        self.owned(from, number)?;
        let source = self.sources.of_line(number).ok_or(Error::NoRoute)?;
        match source.handler {
            // A restarted owner claims again. An interrupt that its previous instance did not acknowledge would keep
            // the line masked.
            Some(handler) if !source.shared() => self.controller.acknowledge(handler),
            Some(_) => {}
            // Each failed attempt is logged, and further attempts fail as well: a client must not fill the log with
            // them.
            None if source.refused.count() >= MAX_TRIES => return Err(Error::Kernel),
            None => {
                let handler = attach(&mut self.controller, &self.lines, source, number);
                source.handler = Some(handler.inspect_err(|_| {
                    source.refused.add();
                })?);
            }
        }
        if !source.shared() {
            return Ok(source.handler);
        }
        source.round.claim(number);
        // A restarted owner no longer owes an answer, which may have been the last one missing.
        unmask_if_done(&mut self.controller, source);
        Ok(None)
    }

    fn try_route(&mut self, from: ClientId, line: u8, origin: Origin) -> Result<(), Error> {
        if self.router != Some(from.0) {
            return Err(Error::NotOwner);
        }
        if usize::from(line) >= self.lines.len() {
            return Err(Error::NoSuchLine);
        }
        self.sources.connect(line, origin, &self.lines)
    }

    fn try_message(&mut self, from: ClientId, line: u8, function: Bdf) -> Result<MsiMessage, Error> {
        self.try_route(from, line, Origin::Messages(function))?;
        let line = self.lines.get(usize::from(line)).ok_or(Error::NoSuchLine)?;
        Ok(self.controller.message(line))
    }
}

impl<C: Controller> Serve for Server<C> {
    fn claim(&mut self, from: ClientId, call: Claim) -> Result<Option<u64>, Error> {
        // The claim may be that of a restarted timer-server, which has lost the alarm.
        if let Alarm::Set(slot) = self.alarm {
            self.controller.signal(slot);
        }
        self.try_claim(from, call.line).map_err(|error| self.refuse(from, call.line, "claim", error))
    }

    fn done(&mut self, from: ClientId, call: Done) -> Result<(), Error> {
        let owned = self.owned(from, call.line).map(|_| ());
        owned.map_err(|error| self.refuse(from, call.line, "finish", error))?;
        let source = self.sources.of_line(call.line);
        let answer = source.map_or(Answer::Spurious, |source| {
            let answer = source.round.answered(call.line);
            unmask_if_done(&mut self.controller, source);
            answer
        });
        let spurious = &mut record(&mut self.records, from).spurious;
        if answer == Answer::Spurious && spurious.add() == Report::Log {
            let count = spurious.count();
            log::warn!("client {} sent Done for line {}, which had not interrupted; {count} so far", from.0, call.line);
        }
        Ok(())
    }

    fn set_route(&mut self, from: ClientId, call: SetRoute) -> Result<(), Error> {
        let routed = self.try_route(from, call.line, Origin::Input(call.route));
        routed.map_err(|error| self.refuse(from, call.line, "route", error))
    }

    fn set_message(&mut self, from: ClientId, call: SetMessage) -> Result<MsiMessage, Error> {
        match self.try_message(from, call.line, call.from) {
            // No mistake: pci-server asks for each function that can send messages, and the description takes precedence.
            Err(Error::RouteTaken) => Err(Error::RouteTaken),
            answer => answer.map_err(|error| self.refuse(from, call.line, "route", error)),
        }
    }

    fn lines(&mut self, from: ClientId, _: Lines) -> u32 {
        let Self { lines, sources, .. } = self;
        let owned =
            (0..).zip(lines).filter(|(number, line)| line.owner == from.0 && sources.of_line(*number).is_some());
        LineSet::of(owned.map(|(number, _)| number)).bits()
    }
}

/// Creates the handler of `source`, claimed by the owner of `number`.
fn attach(c: &mut impl Controller, lines: &[Line], source: &Source, number: u8) -> Result<u64, Error> {
    let line = lines.get(usize::from(number)).ok_or(Error::NoSuchLine)?;
    // A shared line signals irq-server, which signals the owners; any other line signals its owner directly.
    let notified = if source.shared() { line.own.ok_or(Error::Kernel)? } else { line.signal };
    let handler = c.attach(number, line, source.origin, notified).map_err(|Refused| {
        log::error!("the kernel refuses `{}`: {}", line.name, source.origin);
        Error::Kernel
    })?;
    let (names, vector) = (Names(lines, source.lines), line.vector);
    log::info!("{names}: {}, vector {vector}", source.origin);
    Ok(handler)
}

/// Unmasks the line unless it has to wait for an owner or a tick.
fn unmask_if_done(controller: &mut impl Controller, source: &mut Source) {
    if let (true, Some(handler)) = (source.round.unmask(), source.handler) {
        controller.acknowledge(handler);
    }
}

/// Requests a tick, unless one is pending.
fn set(alarm: Alarm, controller: &mut impl Controller) -> Alarm {
    let Alarm::Idle(slot) = alarm else { return alarm };
    controller.signal(slot);
    Alarm::Set(slot)
}

/// The sum of the limits of a source's lines, in interrupts per millisecond; 0, no limit, if any line has none.
fn limit(lines: &[Line], shared: LineSet) -> u32 {
    let limits = shared.iter().filter_map(|line| lines.get(usize::from(line))).map(|line| u32::from(line.limit));
    limits.reduce(|sum, limit| if sum == 0 || limit == 0 { 0 } else { sum + limit }).unwrap_or(0)
}

fn record(records: &mut [Record; MAX_CLIENTS + 1], client: ClientId) -> &mut Record {
    let [known @ .., others] = records;
    known.get_mut(client.index()).unwrap_or(others)
}

/// The names of some lines, for the log.
struct Names<'a>(&'a [Line], LineSet);

impl fmt::Display for Names<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, line) in self.1.iter().filter_map(|line| self.0.get(usize::from(line))).enumerate() {
            write!(out, "{}`{}`", if position == 0 { "" } else { " and " }, line.name)?;
        }
        Ok(())
    }
}
