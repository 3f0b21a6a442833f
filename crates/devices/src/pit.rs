//! The 8254 interval timer at ports 0x40 to 0x43, and port 0x61, which gates its counter 2 to the speaker.
//!
//! Intel 8254 data sheet (231164); 82371SB (PIIX3, 290550), "NMI Status and Control Register", for port 0x61.  The
//! clock runs at 1,193,182 Hz and is derived from the caller's time by exact integer arithmetic, so it never drifts.
//! Left out: the moment between the two CLK edges of a load, and parity and I/O check errors on port 0x61.

mod counter;
#[cfg(test)]
mod tests;

use crate::{Device, Nanos, SECOND, Width, read_bytes, write_bytes};
use counter::{Counter, CountingMode};

/// Ticks per second: a twelfth of 14.31818 MHz.
pub const HZ: u64 = 1_193_182;

/// The most ticks of counter 0 that are owed to a guest which falls behind; later ones are lost.
pub const MAX_OWED: u32 = 100;

/// Port 0x61: bits that read as they were written (gate, speaker, and the two error checks' enables).
const P61_WRITABLE: u8 = 0x0f;
const P61_GATE: u8 = 1 << 0;
/// Port 0x61: toggles with every memory refresh, about every 15 µs.
const P61_REFRESH: u8 = 1 << 4;
const P61_OUT2: u8 = 1 << 5;
/// Ticks between two refreshes: counter 1's usual count.
const REFRESH_TICKS: u64 = 18;

/// The control word's counter field that means "read back".
const READ_BACK: u8 = 3;

/// How the count passes the byte-wide port: bits 5 and 4 of the control word.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Access {
    Low = 1,
    High = 2,
    LowHigh = 3,
}

/// What reads give in place of the count: the status first, then a count. One of them is there.
#[derive(Clone, Copy, Debug, Default)]
struct Latch {
    status: Option<u8>,
    count: Option<u16>,
}

/// A counter and the byte-wide port before it.
#[derive(Clone, Copy, Debug)]
struct Channel {
    counter: Counter,
    access: Access,
    /// The low byte of a count whose high byte is still to come.
    low: Option<u8>,
    /// The next byte read is the high one.
    high: bool,
    /// Reads take low and high bytes in turn: kept from `access`, for the fast path.
    in_turn: bool,
    latched: Option<Latch>,
}

impl Channel {
    const fn new(gate: bool) -> Self {
        let counter = Counter::new(gate);
        Self { counter, access: Access::LowHigh, low: None, high: false, in_turn: true, latched: None }
    }

    fn program(&mut self, control: u8) {
        let access = match control >> 4 & 3 {
            1 => Access::Low,
            2 => Access::High,
            _ => Access::LowHigh,
        };
        self.counter.program(CountingMode::of(control), control & 1 != 0);
        let (high, in_turn) = (access == Access::High, access == Access::LowHigh);
        *self = Self { access, low: None, high, in_turn, latched: None, ..*self };
    }

    fn latch_count(&mut self, tick: u64) {
        let count = self.counter.value(tick);
        self.latched.get_or_insert_default().count.get_or_insert(count);
    }

    fn latch_status(&mut self, tick: u64) {
        let status = u8::from(self.counter.out(tick)) << 7
            | u8::from(self.counter.null_count(tick)) << 6
            | (self.access as u8) << 4
            | self.counter.control();
        self.latched.get_or_insert_default().status.get_or_insert(status);
    }

    /// Reads a byte of what is latched.
    #[cold]
    fn read_latched(&mut self, Latch { status, count }: Latch) -> u8 {
        let byte = status.unwrap_or_else(|| self.pass(count.unwrap_or(0)));
        let pair_is_open = self.in_turn && self.high;
        let left = count.filter(|_| status.is_some() || pair_is_open);
        self.latched = left.map(|count| Latch { status: None, count: Some(count) });
        byte
    }

    /// The next byte of a count, as the access mode orders them.
    #[inline]
    fn pass(&mut self, count: u16) -> u8 {
        let byte = count.to_le_bytes()[usize::from(self.high)];
        self.high ^= self.in_turn;
        byte
    }

    fn write(&mut self, value: u8, tick: u64) {
        let bytes = match (self.access, self.low.take()) {
            (Access::Low, _) => [value, 0],
            (Access::High, _) => [0, value],
            (Access::LowHigh, Some(low)) => [low, value],
            (Access::LowHigh, None) => {
                self.low = Some(value);
                return self.counter.first_byte();
            }
        };
        self.counter.load(u16::from_le_bytes(bytes), tick);
    }
}

/// The interval timer.
///
/// # Interrupt 0
/// The interrupt is a rising edge of OUT0. A VMM does not run at each of them, so the timer counts them, and the VMM
/// gives the guest one pulse per interrupt that it takes: a guest that counts ticks loses none of up to [`MAX_OWED`].
///
/// ```
/// # use devices::{Nanos, pic::Pic, pit::Pit};
/// fn drive(pit: &mut Pit, pic: &mut Pic, now: Nanos) -> Option<Nanos> {
///     if pit.poll(now) > 0 && !pic.requested(0) && pit.pay() {
///         pic.set_line(0, false);
///         pic.set_line(0, true);
///     }
///     pit.next_edge(now)
/// }
/// ```
/// Call it at the deadline that it returns, after each acknowledge, and after each write to the timer. Do not check the
/// mask of the line: Linux masks it during each service.
#[derive(Clone, Debug)]
pub struct Pit {
    channels: [Channel; 3],
    /// The tick up to which edges of OUT0 are counted. It never decreases.
    tick: u64,
    /// Before this tick OUT0 does not rise and no counter reloads, so `advance` has nothing to do.
    idle_until: u64,
    owed: u32,
    port_61: u8,
}

impl Default for Pit {
    fn default() -> Self {
        Self::new()
    }
}

impl Pit {
    /// A timer with no counter programmed, and the gate of counter 2 low.
    pub const fn new() -> Self {
        let channels = [Channel::new(true), Channel::new(true), Channel::new(false)];
        Self { channels, tick: 0, idle_until: 0, owed: 0, port_61: 0 }
    }

    /// Counts the rising edges of OUT0 until `now`; returns the number that is owed to the guest.
    pub fn poll(&mut self, now: Nanos) -> u32 {
        self.advance(now);
        self.owed
    }

    /// The edges that are owed: counted, but not given to the guest yet; at most [`MAX_OWED`].
    pub const fn owed(&self) -> u32 {
        self.owed
    }

    /// Takes one of the owed edges, to be given to the guest; returns whether there was one.
    pub const fn pay(&mut self) -> bool {
        let owed = self.owed > 0;
        self.owed = self.owed.saturating_sub(1);
        owed
    }

    /// Counts the edges until `now` and takes all that are owed, for a guest that gets one interrupt for all of them.
    pub fn take_edges(&mut self, now: Nanos) -> u32 {
        self.advance(now);
        core::mem::take(&mut self.owed)
    }

    /// When OUT0 rises next: the deadline to arm.  `None` if it never does; `now` if it did so uncounted.
    ///
    /// A guest may choose periods down to two ticks, 1.7 µs, so the caller has to limit the rate where deadlines cost
    /// something.
    pub fn next_edge(&self, now: Nanos) -> Option<Nanos> {
        let rise = self.channels[0].counter.next_rise(self.tick)?;
        Some(time_of(rise).max(now))
    }

    /// Fast path for writes: performs a write to counter `offset` if it is the first byte of two and no edge is owed.
    /// It has no side effect: it can stop a count, but raises no edge. Returns whether it has performed the write.
    pub fn write_low_byte(&mut self, offset: u16, value: u8, now: Nanos) -> bool {
        self.advance(now);
        match self.channels.get_mut(usize::from(offset)) {
            Some(channel @ Channel { access: Access::LowHigh, low: None, .. }) if self.owed == 0 => {
                channel.low = Some(value);
                channel.counter.first_byte();
                true
            }
            _ => false,
        }
    }

    /// Reads port 0x61.
    pub fn read_61(&mut self, now: Nanos) -> u8 {
        let tick = self.advance(now);
        let refresh = if tick % (2 * REFRESH_TICKS) >= REFRESH_TICKS { P61_REFRESH } else { 0 };
        let out2 = if self.channels[2].counter.out(tick) { P61_OUT2 } else { 0 };
        self.port_61 | refresh | out2
    }

    /// Writes port 0x61.
    pub fn write_61(&mut self, value: u8, now: Nanos) {
        let tick = self.advance(now);
        self.port_61 = value & P61_WRITABLE;
        self.channels[2].counter.set_gate(value & P61_GATE != 0, tick);
        self.idle_until = 0;
    }

    /// Advances to `now`; returns its tick.
    fn advance(&mut self, now: Nanos) -> u64 {
        let tick = tick_at(now).max(self.tick);
        if tick >= self.idle_until {
            self.pass(tick);
        }
        self.tick = tick;
        tick
    }

    /// Counts the edges and carries out the reloads until and including `tick`.
    #[cold]
    fn pass(&mut self, tick: u64) {
        let rises = self.channels[0].counter.rises(self.tick, tick);
        self.owe(rises);
        for channel in &mut self.channels {
            channel.counter.advance(tick);
        }
        let rise = self.channels[0].counter.next_rise(tick).unwrap_or(u64::MAX);
        let succession = self.channels.iter().filter_map(|channel| channel.counter.successor()).min();
        self.idle_until = rise.min(succession.unwrap_or(u64::MAX));
    }

    /// Adds edges to those owed. A guest counts the ticks of a periodic timer, so each is owed. A guest that reprograms
    /// its timer for every tick reads a clock to see how late it is: to it, a second interrupt would be spurious, and
    /// would make it program the timer once more.
    fn owe(&mut self, rises: u64) {
        let most = if self.channels[0].counter.is_periodic() { MAX_OWED } else { 1 };
        self.owed = u64::from(self.owed).saturating_add(rises).min(most.into()) as u32;
    }

    /// Reads one of the four ports.
    #[inline(always)]
    pub fn count(&mut self, offset: u16, now: impl Into<Nanos>) -> u8 {
        let number = usize::from(offset);
        // The control register cannot be read.
        let Some(channel) = self.channels.get_mut(number) else { return 0xff };
        if let Some(latch) = channel.latched {
            return channel.read_latched(latch);
        }
        if !channel.counter.runs() {
            // The count does not change, so the edges of other counters can be counted later.
            return channel.pass(channel.counter.value(0));
        }
        let tick = self.advance(now.into());
        self.channels.get_mut(number).map_or(0xff, |channel| channel.pass(channel.counter.value(tick)))
    }

    fn write_byte(&mut self, offset: u16, value: u8, now: Nanos) {
        let tick = self.advance(now);
        let before = self.channels[0].counter.out(tick);
        match offset {
            0..=2 => self.channels[usize::from(offset)].write(value, tick),
            3 => self.write_control(value, tick),
            _ => {}
        }
        self.idle_until = 0;
        // A write can raise OUT0 at once: a control word does if the counter had it low.
        self.owe((!before && self.channels[0].counter.out(tick)).into());
    }

    fn write_control(&mut self, value: u8, tick: u64) {
        let select = value >> 6;
        if select == READ_BACK {
            return self.read_back(value, tick);
        }
        let channel = &mut self.channels[usize::from(select)];
        if value >> 4 & 3 == 0 {
            return channel.latch_count(tick);
        }
        channel.program(value);
        if select == 0 {
            // The guest has reprogrammed the timer: ticks of the old setting are no longer owed.
            self.owed = 0;
        }
    }

    fn read_back(&mut self, value: u8, tick: u64) {
        for (i, channel) in self.channels.iter_mut().enumerate() {
            if value & 2 << i == 0 {
                continue;
            }
            if value & 1 << 5 == 0 {
                channel.latch_count(tick);
            }
            if value & 1 << 4 == 0 {
                channel.latch_status(tick);
            }
        }
    }
}

impl Device for Pit {
    fn read(&mut self, offset: u16, width: Width, now: Nanos) -> u32 {
        read_bytes(offset, width, |offset| self.count(offset, now))
    }

    fn write(&mut self, offset: u16, width: Width, value: u32, now: Nanos) {
        write_bytes(offset, width, value, |offset, value| self.write_byte(offset, value, now));
    }
}

/// The ticks that have passed at `now`.
const fn tick_at(now: Nanos) -> u64 {
    now.0 / SECOND * HZ + now.0 % SECOND * HZ / SECOND
}

/// The first nanosecond at which `tick` has passed.
const fn time_of(tick: u64) -> Nanos {
    let seconds = (tick / HZ).saturating_mul(SECOND);
    Nanos(seconds.saturating_add((tick % HZ * SECOND).div_ceil(HZ)))
}
