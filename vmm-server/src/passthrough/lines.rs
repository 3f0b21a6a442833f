//! The interrupt lines of passed-through devices: from a line's signal to an input of the guest's PIC, and from the
//! guest's end of interrupt back to the line's acknowledgement, without which it stays masked on the real controller.
//!
//! A function that sends messages on the machine has one line. It interrupts as the guest has set it up by its registers: as on
//! a pin, or as a message to the local APIC (`Signalling`). The kernel cannot mask messages. Those that come while the guest
//! serves the pin count as one more interrupt after the service, as those of a level would.
//!
//! A level line keeps its input high until the guest has ended the service. It is acknowledged when the guest unmasks
//! that input: Linux masks it, ends the service, and only then handles the device. If the device still asserts the
//! line, the kernel signals again. An edge-triggered line is acknowledged at once.
//!
//! Interrupt storms are rate-limited and logged: a line that interrupts more often in a millisecond than its limit is
//! acknowledged when the millisecond is over. No interrupt is lost: an unacknowledged one stays pending at the real
//! controller.

use devices::{Controllers, Nanos, lapic::Vectors, pci::msix::Message};
use heapless::Vec;
use layout::{
    Bdf,
    config::VmLine,
    guest_board::{self, Chipset, input},
};
use proto::pci::{GrantedLine, Messages};

use super::silence::Silence;

/// Most lines of a guest.
pub const MAX_LINES: usize = layout::limits::MAX_OWN_LINES;

/// Inputs for lines to which neither the description nor the device's kind gives one: first those that PCI cards get on
/// a PC, then those of devices that this board lacks.
const FREE: [u8; 10] = [11, 10, 9, 5, 7, 12, 3, 15, 14, 6];
/// Of a line that is never a pin.
const NO_INPUT: u8 = 0xff;
const MILLISECOND: u64 = 1_000_000;

/// How the guest has set up a function to interrupt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Signalling {
    /// On its pin.
    #[default]
    Pin,
    /// By this message; `None` if what the guest has written is none for the processor.
    Message(Option<Message>),
    /// Not at all, for now: neither by messages nor on its pin.
    Off,
}

/// What a line waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LineState {
    /// The device's next interrupt.
    Armed,
    /// The guest's end of interrupt: the input is high.
    Raised,
    /// The guest to unmask the input.
    Served,
    /// The end of a millisecond: the line is over its limit.
    Throttled,
}

#[derive(Clone, Copy, Debug)]
struct Line {
    input: u8,
    level: bool,
    limit: u16,
    state: LineState,
    signalling: Signalling,
    /// How it interrupts after a reset.
    rest: Signalling,
    /// Its function sends messages on the machine.
    sends: bool,
    /// It has interrupted once more, while it could not interrupt the guest.
    again: bool,
    /// The millisecond of its last interrupt, and interrupts in it.
    millisecond: u64,
    count: u16,
    /// The log has the storm of this line.
    logged: bool,
}

/// Lines that are not `Armed`, bit by bit.
#[derive(Clone, Copy, Debug, Default)]
struct Waits {
    /// `Raised` or `Served`.
    in_flight: u16,
    /// `Throttled`.
    throttled: u16,
}

impl Waits {
    /// Notes the state of line `n`.
    #[inline]
    fn note(&mut self, n: usize, state: LineState) {
        let bit = 1 << n;
        let (in_flight, throttled) = (self.in_flight & !bit, self.throttled & !bit);
        *self = match state {
            LineState::Armed => Self { in_flight, throttled },
            LineState::Raised | LineState::Served => Self { in_flight: in_flight | bit, throttled },
            LineState::Throttled => Self { in_flight, throttled: throttled | bit },
        };
    }
}

/// Lines by their position in the configuration; `None` for one without an input. Methods that return a `u16` say
/// which lines to acknowledge, bit by bit.
#[derive(Clone, Debug, Default)]
pub struct Lines {
    chipset: Chipset,
    lines: Vec<Option<Line>, MAX_LINES>,
    /// Device numbers on the guest's bus, and the inputs of their pins.
    wired: Vec<(u8, u8), MAX_LINES>,
    waits: Waits,
    /// Lines whose messages have to be masked on the machine, bit by bit: the kernel cannot do that.
    pub masked: u16,
    /// Messages for the local APIC, until [`take_messages`](Self::take_messages).
    messages: Vectors,
    /// Pins that have not interrupted yet.
    silence: Silence,
    /// Interrupts of all lines.
    pub interrupts: u64,
    /// Those that exceeded a limit.
    pub throttled: u64,
}

impl Lines {
    /// The lines of a configuration that irq-server has; `granted` has the trigger mode and usual input of some.
    pub fn new(chipset: Chipset, wanted: &[Option<VmLine>], granted: &[GrantedLine]) -> Self {
        let inputs = inputs(chipset, wanted, granted);
        let line = |(input, wanted): (&Option<Input>, &Option<VmLine>)| {
            let Input { at, level } = (*input)?;
            let VmLine { line, limit, .. } = (*wanted)?;
            let (input, state) = (at?, LineState::Armed);
            let messages = granted.iter().find(|known| known.line == line).and_then(|known| known.messages);
            let rest = if is_msix(messages) { Signalling::Off } else { Signalling::Pin };
            let (signalling, sends, again, logged) = (rest, messages.is_some(), false, false);
            Some(Line { input, level, limit, state, signalling, rest, sends, again, millisecond: 0, count: 0, logged })
        };
        Self { chipset, lines: inputs.iter().zip(wanted).map(line).collect(), ..Self::default() }
    }

    /// The input of line `n`.
    pub fn input(&self, n: usize) -> Option<u8> {
        Some(self.lines.get(n)?.as_ref()?.input).filter(|input| *input != NO_INPUT)
    }

    /// Notes the input to which the pins of a device on the guest's bus are wired.
    pub fn wire(&mut self, device: u8, input: u8) {
        // There are no more devices with interrupts than lines.
        let _ = self.wired.push((device, input));
    }

    /// The inputs of all devices of the guest's bus, by their numbers: those of modelled functions share one.
    pub fn inputs(&self) -> [u8; acpi::DEVICES] {
        let mut inputs = [self.free_input().unwrap_or(FREE[0]); acpi::DEVICES];
        // A device with several lines has the first.
        for &(device, input) in self.wired.iter().rev() {
            if let Some(place) = inputs.get_mut(usize::from(device)) {
                *place = input;
            }
        }
        inputs
    }

    /// An input that no line has: for the functions that are modelled.
    pub fn free_input(&self) -> Option<u8> {
        free(self.chipset).find(|&at| self.lines.iter().flatten().all(|line| line.input != at))
    }

    /// Sets the inputs of level lines to level, as the firmware of a PC would: at the start, and after a reset of the PIC.
    /// Returns the lines whose service the guest has not ended: after a reset it will not, so the caller acknowledges
    /// them.
    pub fn reset(&mut self, controllers: &mut Controllers) -> u16 {
        let mut waiting = 0;
        for (n, line) in each(&mut self.lines) {
            if line.level {
                controllers.pic.set_level_triggered(line.input);
            }
            if line.state != LineState::Armed {
                waiting |= 1 << n;
            }
            (line.state, line.signalling, line.again) = (LineState::Armed, line.rest, false);
        }
        (self.waits, self.masked, self.messages) = (Waits::default(), 0, Vectors::NONE);
        self.silence.reset();
        waiting
    }

    /// Notes that line `n` is a pin of `function`, which is expected to interrupt. Not the pins of ISA, whose wiring nobody gets wrong.
    pub fn expect(&mut self, n: usize, function: Bdf) {
        if self.lines.get(n).is_some_and(|line| line.is_some_and(|line| !line.sends)) {
            self.silence.listen(n, function);
        }
    }

    /// Whether it is time to look for pins that have not interrupted yet, by [`silent`](Self::silent).
    #[inline]
    pub fn may_be_silent(&self, now: Nanos) -> bool {
        self.silence.is_due(now)
    }

    /// Takes the functions whose pins have not interrupted, though their drivers unmasked them five seconds ago.
    pub fn silent(&mut self, now: Nanos, controllers: &Controllers) -> impl Iterator<Item = Bdf> {
        let lines = &self.lines;
        self.silence.look(now, |n| {
            let line = lines.get(n).copied().flatten();
            line.is_some_and(|line| line.signalling == Signalling::Pin && !controllers.masked(line.input))
        })
    }

    /// The guest has set line `n` up to interrupt in another way. What it has not served counts again in that way. Returns
    /// whether that is new.
    pub fn signal_by(&mut self, n: usize, signalling: Signalling, controllers: &mut Controllers) -> bool {
        let Some(Some(line)) =
            self.lines.get_mut(n).filter(|line| line.is_some_and(|line| line.signalling != signalling))
        else {
            return false;
        };
        line.signalling = signalling;
        if matches!(line.state, LineState::Raised | LineState::Served) {
            line.again |= line.state == LineState::Raised;
            line.state = LineState::Armed;
            controllers.drive(line.input, false);
        }
        line.catch_up(n, controllers, &mut self.messages);
        self.waits.note(n, line.state);
        true
    }

    /// Whether there are any messages to take.
    #[inline]
    pub const fn has_messages(&self) -> bool {
        !self.messages.is_empty()
    }

    /// Takes the messages that lines have sent to the local APIC.
    pub const fn take_messages(&mut self) -> Vectors {
        core::mem::replace(&mut self.messages, Vectors::NONE)
    }

    /// Raises the inputs of the lines in `bits`, which have interrupted.
    pub fn raise(&mut self, bits: u16, now: Nanos, controllers: &mut Controllers) -> u16 {
        // A service that the guest ended before this interrupt must not count as the end of this one.
        let mut acknowledge = self.settle(controllers);
        self.silence.end(bits);
        let Self { lines, messages, waits, masked, interrupts, throttled, .. } = self;
        for (n, line) in each(lines).filter(|(n, _)| bits & 1 << n != 0) {
            *interrupts += 1;
            if line.count(n, now) {
                *throttled += 1;
                *masked |= u16::from(line.sends) << n;
            }
            acknowledge |= line.interrupt(n, controllers, messages);
            waits.note(n, line.state);
        }
        acknowledge
    }

    /// Whether the guest's next access to its controllers may matter to a line.
    pub const fn in_flight(&self) -> bool {
        self.waits.in_flight != 0
    }

    /// Follows the guest's controllers: lowers the inputs whose service has ended, and returns the lines to acknowledge.
    pub fn settle(&mut self, controllers: &mut Controllers) -> u16 {
        let ended = controllers.take_ended();
        if self.waits.in_flight == 0 {
            return 0;
        }
        let Self { lines, messages, waits, .. } = self;
        let mut acknowledge = 0;
        for (n, line) in each(lines) {
            if line.state == LineState::Raised && ended & 1 << line.input != 0 {
                line.state = LineState::Served;
                controllers.drive(line.input, false);
            }
            if line.state == LineState::Served && !controllers.masked(line.input) {
                acknowledge |= line.done(n);
                acknowledge |= line.catch_up(n, controllers, messages);
            }
            waits.note(n, line.state);
        }
        acknowledge
    }

    /// The next moment for [`expire`](Self::expire).
    #[inline]
    pub fn next_event(&self) -> Option<Nanos> {
        let limited = self.waits.throttled | self.masked;
        if limited == 0 { None } else { self.end_of_first(limited) }
    }

    #[cold]
    #[inline(never)]
    fn end_of_first(&self, limited: u16) -> Option<Nanos> {
        let limited = self.lines.iter().enumerate().filter(|(n, _)| limited & 1 << n != 0);
        limited.filter_map(|(_, line)| line.as_ref()).map(Line::end_of_millisecond).min()
    }

    /// Lets rate-limited lines interrupt again whose millisecond is over, and no longer masks their messages.
    pub fn expire(&mut self, now: Nanos, controllers: &mut Controllers) -> u16 {
        let Self { lines, messages, waits, masked, .. } = self;
        let mut acknowledge = 0;
        for (n, line) in each(lines) {
            let (bit, throttled) = (1 << n, line.state == LineState::Throttled);
            if !(throttled || *masked & bit != 0) || line.end_of_millisecond() > now {
                continue;
            }
            if throttled {
                line.state = LineState::Armed;
                acknowledge |= bit;
            }
            *masked &= !bit;
            line.count = 0;
            // What was masked may be lost.
            line.again |= line.sends;
            acknowledge |= line.catch_up(n, controllers, messages);
            waits.note(n, line.state);
        }
        acknowledge
    }
}

/// The lines that have an input, by their positions.
fn each(lines: &mut [Option<Line>]) -> impl Iterator<Item = (usize, &mut Line)> {
    lines.iter_mut().enumerate().filter_map(|(n, line)| Some((n, line.as_mut()?)))
}

/// The input that a line has, or does not have yet.
#[derive(Clone, Copy, Debug)]
struct Input {
    at: Option<u8>,
    level: bool,
}

/// Chooses inputs: the one in the description, or else the one that drivers expect, or else a free one. A line whose
/// input is taken is `None`.
fn inputs(chipset: Chipset, wanted: &[Option<VmLine>], granted: &[GrantedLine]) -> Vec<Option<Input>, MAX_LINES> {
    let mut inputs = Vec::<Option<Input>, MAX_LINES>::new();
    for (n, wanted) in wanted.iter().enumerate().take(MAX_LINES) {
        let input = wanted.and_then(|wanted| {
            let known = granted.iter().find(|granted| granted.line == wanted.line);
            if is_msix(known.and_then(|known| known.messages)) {
                return Some(Input { at: Some(NO_INPUT), level: false });
            }
            let at = wanted.dest.or(known.and_then(|known| known.isa));
            // A line of unknown trigger mode counts as level. That only delays an edge, while a level taken for an edge
            // would be acknowledged, and interrupt again, before the guest serves it.
            let level = known.map_or(wanted.level, |known| known.level);
            let taken = at.is_some_and(|at| {
                at >= input::COUNT || guest_board::driver_of_input(chipset, at).is_some() || clashes(&inputs, at, level)
            });
            if taken {
                log::error!("interrupt line {n}: its input of the PIC, {at:?}, is taken");
            }
            (!taken).then_some(Input { at, level })
        });
        let _ = inputs.push(input);
    }
    for n in 0..inputs.len() {
        let free = free(chipset).find(|&at| inputs.iter().flatten().all(|input| input.at != Some(at)));
        let shared = inputs.iter().flatten().find(|input| input.level).and_then(|input| input.at);
        if let Some(Some(input @ Input { at: None, .. })) = inputs.get_mut(n) {
            input.at = free.or(shared.filter(|_| input.level));
        }
    }
    inputs
}

/// Whether the line is that of the messages of MSI-X.
const fn is_msix(messages: Option<Messages>) -> bool {
    matches!(messages, Some(Messages::Msix { .. }))
}

/// The inputs of `FREE` that no device of the board has.
fn free(chipset: Chipset) -> impl Iterator<Item = u8> {
    FREE.into_iter().filter(move |&at| guest_board::driver_of_input(chipset, at).is_none())
}

/// Whether one of `lines` has input `at` and cannot share it with another line: only levels can.
fn clashes(lines: &[Option<Input>], at: u8, level: bool) -> bool {
    lines.iter().flatten().any(|input| input.at == Some(at) && !(input.level && level))
}

impl Line {
    /// Counts an interrupt; returns whether it exceeds the limit.
    fn count(&mut self, n: usize, now: Nanos) -> bool {
        let millisecond = now.0 / MILLISECOND;
        if self.millisecond != millisecond {
            (self.millisecond, self.count) = (millisecond, 0);
        }
        self.count = self.count.saturating_add(1);
        let storms = self.storms();
        if storms && !self.logged {
            self.logged = true;
            log::warn!("interrupt line {n} storms: it gets no more than {} interrupts a millisecond", self.limit);
        }
        storms
    }

    /// It has interrupted; returns whether to acknowledge that at once.
    #[inline]
    fn interrupt(&mut self, n: usize, controllers: &mut Controllers, messages: &mut Vectors) -> u16 {
        match (self.signalling, self.state) {
            // A message that is throttled comes later; a level that is raised is served first.
            (_, LineState::Throttled) | (Signalling::Pin, LineState::Raised) => {
                self.again = true;
                0
            }
            (Signalling::Off, _) => {
                self.again = true;
                1 << n
            }
            (Signalling::Message(_), _) if self.storms() => {
                (self.again, self.state) = (true, LineState::Throttled);
                0
            }
            (Signalling::Message(message), _) => {
                if let Some(message) = message {
                    messages.set(message.vector());
                }
                1 << n
            }
            (Signalling::Pin, _) if self.level => {
                self.state = LineState::Raised;
                controllers.drive(self.input, true);
                0
            }
            (Signalling::Pin, _) => {
                // The input has to fall before it can rise again.
                controllers.drive(self.input, false);
                controllers.drive(self.input, true);
                self.done(n)
            }
        }
    }

    /// Interrupts for what has come meanwhile, if the line may again.
    fn catch_up(&mut self, n: usize, controllers: &mut Controllers, messages: &mut Vectors) -> u16 {
        if !self.again || self.state != LineState::Armed {
            return 0;
        }
        self.again = false;
        self.interrupt(n, controllers, messages)
    }

    const fn storms(&self) -> bool {
        self.limit != 0 && self.count > self.limit
    }

    /// Ends the service: the line is acknowledged now, or when the millisecond is over.
    const fn done(&mut self, n: usize) -> u16 {
        let storms = self.storms();
        self.state = if storms { LineState::Throttled } else { LineState::Armed };
        (!storms as u16) << n
    }

    fn end_of_millisecond(&self) -> Nanos {
        Nanos::from_millis(self.millisecond.saturating_add(1))
    }
}
