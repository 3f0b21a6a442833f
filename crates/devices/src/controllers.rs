//! The interrupt controllers of a board: the pair of 8259s and the I/O APIC, to whose inputs the same lines are wired. The
//! timer's line is at input 2 of the I/O APIC, and at input 0 of the pair; the others have the same number at both.

use crate::{ioapic, ioapic::IoApic, lapic::Lapic, pic::Pic};

/// The timer's line at the pair.
const TIMER: u8 = 0;

/// Both controllers.
#[derive(Clone, Debug, Default)]
pub struct Controllers {
    /// The pair of 8259s, which has the lines.
    pub pic: Pic,
    /// The I/O APIC, which samples them.
    pub ioapic: IoApic,
}

impl Controllers {
    /// After a reset.
    pub const fn new() -> Self {
        Self { pic: Pic::new(), ioapic: IoApic::new() }
    }

    /// Drives a line (0 to 15). Returns whether a controller may have an interrupt for the processor.
    pub fn drive(&mut self, line: u8, level: bool) -> bool {
        let rises = level && self.pic.levels() >> (line % 16) & 1 == 0;
        self.pic.set_line(line, level);
        self.pic.asks() || rises && !self.ioapic.masked(input(line))
    }

    /// Whether a line is masked at both.
    pub const fn masked(&self, line: u8) -> bool {
        self.pic.masked(line) && self.ioapic.masked(input(line))
    }

    /// The lines, one bit each, whose service has ended at one of them since the last call.
    pub fn take_ended(&mut self) -> u16 {
        self.pic.take_ended() | lines(self.ioapic.take_ended())
    }

    /// Whether an edge of the timer's line is still to be taken, where the guest listens to it.
    pub const fn has_tick(&self) -> bool {
        if self.ioapic.masked(ioapic::TIMER) {
            return self.pic.requested(TIMER);
        }
        self.ioapic.is_waiting(ioapic::TIMER) || self.pic.has_risen(TIMER)
    }

    /// Has the I/O APIC learn of ends of service, sample the lines, and send what is due.
    #[inline(always)]
    pub fn route(&mut self, lapic: &mut Lapic) {
        if self.ioapic.is_used() || lapic.has_ended() {
            self.route_all(lapic);
        }
    }

    #[inline(never)]
    fn route_all(&mut self, lapic: &mut Lapic) {
        self.end(lapic);
        self.sample();
        if self.ioapic.is_ready() {
            self.ioapic.send(lapic);
        }
    }

    /// Has the I/O APIC learn of ends of service.
    #[inline]
    pub fn end(&mut self, lapic: &mut Lapic) {
        if lapic.has_ended() {
            self.ioapic.end(&lapic.take_ended());
        }
    }

    /// Has the I/O APIC sample the lines: before each write to it, too, since an edge counts by what was set up then.
    pub fn sample(&mut self) {
        let (levels, risen) = (self.pic.levels(), self.pic.take_risen());
        self.ioapic.sample(inputs(levels), inputs(risen));
    }
}

/// The input of the I/O APIC to which a line is wired.
const fn input(line: u8) -> u8 {
    if line == TIMER { ioapic::TIMER } else { line }
}

/// The same for all lines. None has number 2, the cascade's.
const fn inputs(lines: u16) -> u32 {
    let lines = lines as u32;
    lines & !1 & !(1 << ioapic::TIMER) | (lines & 1) << ioapic::TIMER
}

/// The lines at these inputs.
const fn lines(inputs: u32) -> u16 {
    let lines = inputs as u16;
    lines & !1 & !(1 << ioapic::TIMER) | (lines >> ioapic::TIMER & 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Width;

    fn open(controllers: &mut Controllers, input: u32, entry: u32) {
        controllers.sample();
        controllers.ioapic.write(0, Width::Dword, 0x10 + 2 * input);
        controllers.ioapic.write(0x10, Width::Dword, entry);
    }

    #[test]
    fn the_timer_is_at_input_2_and_each_other_line_at_its_own() {
        for (line, input) in [(0, 2), (1, 1), (4, 4), (15, 15)] {
            let (mut controllers, mut lapic) = (Controllers::new(), Lapic::new());
            open(&mut controllers, input, 0x40 + input);
            assert!(controllers.drive(line, true), "it is open there");
            assert!(!controllers.drive(line, true), "it does not rise");
            controllers.route(&mut lapic);
            assert_eq!(lapic.acknowledge(), Some(0x40 + input as u8));
        }
    }

    #[test]
    fn an_edge_before_an_entry_is_set_up_is_lost() {
        let (mut controllers, mut lapic) = (Controllers::new(), Lapic::new());
        assert!(!controllers.drive(4, true));
        open(&mut controllers, 4, 0x34);
        controllers.route(&mut lapic);
        assert_eq!(lapic.acknowledge(), None);
    }

    #[test]
    fn a_service_ends_at_the_local_apic_and_reaches_the_line() {
        let (mut controllers, mut lapic) = (Controllers::new(), Lapic::new());
        open(&mut controllers, 11, 1 << 15 | 0x51);
        controllers.drive(11, true);
        controllers.route(&mut lapic);
        assert_eq!((lapic.acknowledge(), controllers.take_ended()), (Some(0x51), 0));
        controllers.drive(11, false);
        lapic.write(0xb0, Width::Dword, 0, 0);
        controllers.route(&mut lapic);
        assert_eq!((controllers.take_ended(), controllers.masked(11), controllers.masked(10)), (1 << 11, false, true));
    }

    #[test]
    fn a_tick_is_taken_where_the_guest_listens() {
        let (mut controllers, mut lapic) = (Controllers::new(), Lapic::new());
        controllers.drive(0, true);
        assert!(controllers.has_tick(), "requested at the pair");
        open(&mut controllers, 2, 0x30);
        assert!(!controllers.has_tick(), "the pair is not asked any more");
        controllers.drive(0, false);
        controllers.drive(0, true);
        assert!(controllers.has_tick());
        controllers.route(&mut lapic);
        assert!(!controllers.has_tick());
    }
}
