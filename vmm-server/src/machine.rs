//! The board that the guest sees: which device answers for a port, and how the devices' interrupt outputs reach the
//! processor. A fixed machine, so a table: two devices on one port fail to compile.
//!
//! Behind the table, and on the PCI bus, are passed-through devices whose accesses pci-server makes. What nobody has
//! reads all ones and swallows writes, as on an ISA bus.

use devices::{
    Device, Nanos, Width,
    board::{Board, Port, Reset},
    lapic::Lapic,
    pic::Pic,
    pit::Pit,
    rtc::Rtc,
    uart::Uart,
};
use layout::guest_board::{self, input};

use crate::{functions::Functions, passthrough::Passthrough};

mod at_once;
mod functions;
mod interrupts;
mod memory;

/// Whether a device of the board has one of the ports `first` to `last`.
pub fn models_port(first: u16, last: u16) -> bool {
    guest_board::owner_of_ports(first, last).is_some()
}

/// The devices, as the port table names them.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Owner {
    Nobody,
    PicPrimary,
    Imcr,
    PicSecondary,
    Elcr,
    Pit,
    Port61,
    Rtc,
    Uart,
    Pci,
    KeyboardData,
    KeyboardCommand,
    Delay,
    ControlA,
}

/// The reset control register: inside mechanism 1's address port, so only accesses of one byte are meant for it.
const RESET_CONTROL: u16 = 0xcf9;

/// First port, last port, owner.
const PORTS: [(u16, u16, Owner); guest_board::PORTS.len()] = [
    (0x020, 0x021, Owner::PicPrimary),
    (0x022, 0x023, Owner::Imcr),
    (0x040, 0x043, Owner::Pit),
    (0x060, 0x060, Owner::KeyboardData),
    (0x061, 0x061, Owner::Port61),
    (0x064, 0x064, Owner::KeyboardCommand),
    (0x070, 0x071, Owner::Rtc),
    (0x080, 0x080, Owner::Delay),
    (0x092, 0x092, Owner::ControlA),
    (0x0a0, 0x0a1, Owner::PicSecondary),
    (0x3f8, 0x3ff, Owner::Uart),
    (0x4d0, 0x4d1, Owner::Elcr),
    (0xcf8, 0xcff, Owner::Pci),
];

/// Ports below this one are looked up in `OWNERS`; no device is above.
const TABLE_LEN: usize = 0xd00;

/// Owner and first port of its range, for every port of the table.
static OWNERS: [(Owner, u16); TABLE_LEN] = {
    let mut table = [(Owner::Nobody, 0); TABLE_LEN];
    let mut row = 0;
    while row < PORTS.len() {
        let (first, last, owner) = PORTS[row];
        let known = guest_board::PORTS[row];
        assert!(first == known.0 && last == known.1, "descriptions are checked against other ports");
        let mut port = first;
        while port <= last {
            assert!(matches!(table[port as usize].0, Owner::Nobody), "two devices share a port");
            table[port as usize] = (owner, first);
            port += 1;
        }
        row += 1;
    }
    table
};

/// Who owns a port, and the first port of the range. Passed-through devices may own what is nobody's.
fn owner(port: u16) -> (Owner, u16) {
    OWNERS.get(usize::from(port)).copied().unwrap_or((Owner::Nobody, 0))
}

/// For devices whose registers do not depend on the time.
const TIMELESS: Nanos = Nanos::ZERO;

/// The board.
pub struct Machine {
    /// The processor's own interrupt controller, and timer.
    pub lapic: Lapic,
    /// Interrupt controllers.
    pub pic: Pic,
    /// Interval timer, and port 0x61.
    pub pit: Pit,
    /// Real-time clock and CMOS.
    pub rtc: Rtc,
    /// COM1.
    pub uart: Uart,
    /// The PCI bus, and the modelled functions on it.
    pub functions: Functions,
    /// Passed-through devices.
    pub passthrough: Passthrough,
    /// Reset and delay ports.
    pub board: Board,
    /// A reset that the guest asked for by a port.
    reset: Option<Reset>,
    /// What the guest does to its PIC matters to a device: its interrupt is being served.
    pic_watched: bool,
    /// When the real-time clock wants to interrupt. Few guests have it do so.
    rtc_due: Option<Nanos>,
    /// A timer's programming changed, or a deadline passed: `next_event` may be another one.
    timers_changed: bool,
    /// An access may have changed an interrupt request, a timer or the console.
    disturbed: bool,
    /// The last access that did so was one to the UART.
    at_uart: bool,
}

impl Machine {
    /// A board after power-on.
    pub fn new(ram: u64, unix_seconds: u64) -> Self {
        let mut rtc = Rtc::new(ram);
        rtc.set_time(unix_seconds);
        Self {
            lapic: Lapic::new(),
            pic: Pic::new(),
            pit: Pit::new(),
            rtc,
            uart: Uart::new(),
            functions: Functions::new(0),
            passthrough: Passthrough::default(),
            board: Board::new(),
            reset: None,
            pic_watched: false,
            rtc_due: None,
            timers_changed: true,
            disturbed: true,
            at_uart: false,
        }
    }

    /// Plugs passed-through devices in: one function each, from device 1 of the PCI bus on. Those that are modelled come later.
    pub fn plug(&mut self, devices: Passthrough) {
        self.functions = Functions::new(devices.functions);
        self.passthrough = devices;
    }

    /// The board after a reset: only the clock runs on, and what the guest has printed is still to be sent.
    pub fn reset(&mut self) {
        self.lapic = Lapic::new();
        self.pic = Pic::new();
        self.pit = Pit::new();
        self.rtc.reset();
        self.rtc_due = None;
        self.pic_watched = false;
        self.uart = Uart::new();
        self.functions.reset(&mut self.pic);
        self.passthrough.reset();
        self.board = Board::new();
        self.reset = None;
        self.timers_changed = true;
        self.disturbed = true;
    }

    /// What an IN of `width` from `port` reads.
    #[inline(always)]
    pub fn read(&mut self, port: u16, width: Width, now: impl Into<Nanos>) -> u32 {
        let (owner, first) = owner(port);
        let offset = port.wrapping_sub(first);
        match owner {
            Owner::Nobody => match self.functions.port(port, width) {
                Some(hit) => self.read_function(hit, width),
                None => self.passthrough.read_port(port, width),
            },
            Owner::PicPrimary => self.pic.primary().read(offset, width, TIMELESS),
            Owner::Imcr => width.mask32(),
            Owner::PicSecondary => self.pic.secondary().read(offset, width, TIMELESS),
            Owner::Elcr => self.pic.elcr().read(offset, width, TIMELESS),
            Owner::Pit => self.pit.read(offset, width, now.into()),
            Owner::Port61 => u32::from(self.pit.read_61(now.into())) | width.mask32() & !0xff,
            Owner::Rtc => {
                let before = self.rtc.irq();
                let value = self.rtc.read(offset, width, now.into());
                // Reading register C takes the interrupt away.
                if self.rtc.irq() != before {
                    self.rtc_changed();
                }
                value
            }
            Owner::Uart => {
                let value = self.uart.read(offset, width, TIMELESS);
                if self.uart.take_changed() {
                    self.uart_changed();
                }
                value
            }
            Owner::Pci if port == RESET_CONTROL && width == Width::Byte => self.board.read(Port::ResetControl, width),
            Owner::Pci => match self.functions.elsewhere(offset) {
                Some(at) => self.passthrough.read_config(at.number, at.register, width),
                None => {
                    let (value, effect) = self.functions.read_config(offset, width, &mut self.pic);
                    self.note(effect);
                    value
                }
            },
            Owner::KeyboardData => self.read_board(Port::KeyboardData, width),
            Owner::KeyboardCommand => self.read_board(Port::KeyboardCommand, width),
            Owner::Delay => self.read_board(Port::Delay, width),
            Owner::ControlA => self.read_board(Port::ControlA, width),
        }
    }

    /// Takes what an OUT of `width` to `port` writes.
    #[inline(always)]
    pub fn write(&mut self, port: u16, width: Width, value: u32, now: impl Into<Nanos>) {
        let (owner, first) = owner(port);
        let offset = port.wrapping_sub(first);
        match owner {
            Owner::Nobody => match self.functions.port(port, width) {
                Some(hit) => self.write_function(hit, width, value),
                None => self.passthrough.write_port(port, width, value),
            },
            Owner::PicPrimary => {
                self.disturbed |= !self.keeps_pic_quiet(offset, width, value);
                self.pic.primary().write(offset, width, value, TIMELESS);
            }
            Owner::Imcr => {
                self.disturbed = true;
                devices::write_bytes(offset, width, value, |at, value| {
                    if at < 2 {
                        self.lapic.write_imcr(at == 1, value);
                    }
                });
            }
            Owner::PicSecondary => {
                self.disturbed = true;
                self.pic.secondary().write(offset, width, value, TIMELESS);
            }
            Owner::Elcr => {
                self.disturbed = true;
                self.pic.elcr().write(offset, width, value, TIMELESS);
            }
            Owner::Pit => {
                let now = now.into();
                self.timers_changed = true;
                if width == Width::Byte && self.pit.write_low_byte(offset, value as u8, now) {
                    return;
                }
                self.disturbed = true;
                self.pit.write(offset, width, value, now);
                self.pay_tick();
            }
            Owner::Port61 => self.pit.write_61(value as u8, now.into()),
            Owner::Rtc => {
                self.rtc.write(offset, width, value, now.into());
                self.rtc_changed();
            }
            Owner::Uart => {
                self.uart.write(offset, width, value, TIMELESS);
                self.at_uart = true;
                self.uart_changed();
            }
            Owner::Pci if port == RESET_CONTROL && width == Width::Byte => {
                self.reset = self.board.write(Port::ResetControl, width, value).or(self.reset);
            }
            Owner::Pci => match self.functions.elsewhere(offset) {
                Some(at) => {
                    self.passthrough.write_config(at.number, at.register, width, value);
                    self.disturbed |= self.passthrough.has_moved();
                }
                None => {
                    let effect = self.functions.write_config(offset, width, value, &mut self.pic);
                    self.note(effect);
                }
            },
            Owner::KeyboardData => self.write_board(Port::KeyboardData, width, value),
            Owner::KeyboardCommand => self.write_board(Port::KeyboardCommand, width, value),
            Owner::Delay => self.write_board(Port::Delay, width, value),
            Owner::ControlA => self.write_board(Port::ControlA, width, value),
        }
    }

    fn read_board(&mut self, register: Port, width: Width) -> u32 {
        let value = self.board.read(register, width);
        self.disturbed = true;
        self.pic.set_line(input::KEYBOARD, self.board.keyboard_irq());
        value
    }

    fn write_board(&mut self, register: Port, width: Width, value: u32) {
        self.reset = self.board.write(register, width, value).or(self.reset);
        self.disturbed = true;
        self.pic.set_line(input::KEYBOARD, self.board.keyboard_irq());
    }

    /// Bytes for the guest's serial line have come or gone: its interrupt may have changed.
    pub fn uart_changed(&mut self) {
        self.disturbed = true;
        self.pic.set_line(input::UART, self.uart.irq());
    }

    /// Takes the passing of time into account: raises the timers' interrupts that are due.
    pub fn advance(&mut self, now: Nanos, tsc: u64) {
        self.disturbed = true;
        self.timers_changed = true;
        self.lapic.advance(tsc);
        self.pit.poll(now);
        self.pay_tick();
        if self.rtc_due.is_some_and(|due| due <= now) {
            self.rtc.poll(now);
            self.rtc_changed();
        }
    }

    /// Whether an access since the last call may have changed an interrupt request, a timer or the console. After most
    /// accesses there is nothing to see to.
    pub fn take_disturbed(&mut self) -> bool {
        core::mem::take(&mut self.disturbed)
    }

    /// Whether that was an access to the UART, after which more of them are to be expected: a driver fills the FIFO.
    pub fn take_at_uart(&mut self) -> bool {
        core::mem::take(&mut self.at_uart)
    }

    /// Whether the moment of the next timer interrupt may have changed since the last call.
    pub fn timers_changed(&mut self) -> bool {
        core::mem::take(&mut self.timers_changed)
    }

    /// The earliest moment at which a timer of the board wants to interrupt; the local APIC's has its own.
    pub fn next_event(&self, now: Nanos) -> Option<Nanos> {
        match (self.pit.next_edge(now), self.rtc_due) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }
    }

    /// Whether each access to the PIC is to be told as one that disturbs.
    pub const fn watch_pic(&mut self, watched: bool) {
        self.pic_watched = watched;
    }

    /// Whether there is one for `take_reset`.
    pub fn is_reset(&self) -> bool {
        self.reset.is_some()
    }

    /// The reset that the guest asked for since the last call.
    pub fn take_reset(&mut self) -> Option<Reset> {
        self.reset.take()
    }

    /// Whether nothing follows from an OUT to the first PIC.
    #[inline(always)]
    fn keeps_pic_quiet(&self, offset: u16, width: Width, value: u32) -> bool {
        width == Width::Byte && !self.pic_watched && self.pic.keeps_quiet(offset == 1, value as u8)
    }

    fn rtc_changed(&mut self) {
        self.rtc_due = self.rtc.next_event(Nanos::ZERO);
        self.disturbed = true;
        self.pic.set_line(input::CLOCK, self.rtc.irq());
        self.timers_changed = true;
    }

    /// Gives the guest a timer tick that it is owed, once it has taken the one before: none is lost while the guest
    /// or its VMM was busy elsewhere, which a guest that counts ticks would see as a slow clock.
    fn pay_tick(&mut self) {
        if self.pit.owed() > 0 && !self.pic.requested(input::TIMER) && self.pit.pay() {
            self.pic.set_line(input::TIMER, false);
            self.pic.set_line(input::TIMER, true);
        }
    }
}
