//! The guest's board: which device owns a port, and which side effects an access has. The machine is fixed, so the
//! ports are a table: two devices on one port fail to compile.
//!
//! pci-server makes the accesses to passed-through devices, by a call that overwrites the kernel's message of the exit.
//! So the board does not call it, but returns [`Remote`] before anything has changed. Unowned ports read all ones and
//! ignore writes, as on an ISA bus.

use devices::{
    Controllers, Device, Effect, Nanos, Width,
    ioapic::IoApic,
    lapic::Lapic,
    pci,
    pit::Pit,
    power::{Button, Power},
    reset_ports::{Port, ResetPorts},
    rtc::Rtc,
    uart::Uart,
};
use layout::guest_board::{self, Chipset, input};

use crate::{
    functions::Functions,
    passthrough::{
        Passthrough,
        lines::{Lines, Signalling},
    },
};
use imcr::Imcr;

mod accesses;
mod imcr;
mod interrupts;

/// Whether a device of the board has one of the ports `first` to `last`.
pub fn models_port(first: u16, last: u16) -> bool {
    guest_board::owner_of_ports(first, last).is_some()
}

/// The devices, as the port table names them.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Owner {
    PicPrimary,
    Imcr,
    PicSecondary,
    Elcr,
    Power,
    Pit,
    Port61,
    Rtc,
    Uart,
    Pci,
    KeyboardData,
    KeyboardCommand,
    Delay,
    ControlA,
    Unowned,
}

/// The reset control register: inside mechanism 1's address port, so only accesses of one byte are meant for it.
const RESET_CONTROL: u16 = 0xcf9;

/// First port, last port, owner. A device's registers begin at a multiple of their number.
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
    (guest_board::POWER, guest_board::POWER + (devices::power::PORTS - 1), Owner::Power),
    (0xcf8, 0xcff, Owner::Pci),
];

/// Ports below this one are looked up in `OWNERS`; no device is above.
const TABLE_LEN: usize = 0xd00;

/// The owner of every port of the table.
static OWNERS: [Owner; TABLE_LEN] = {
    let mut table = [Owner::Unowned; TABLE_LEN];
    let mut row = 0;
    while row < PORTS.len() {
        let (first, last, owner) = PORTS[row];
        let known = guest_board::PORTS[row];
        assert!(first == known.0 && last == known.1, "descriptions are checked against other ports");
        assert!(first.is_multiple_of((last - first + 1).next_power_of_two()), "offsets are the port's low bits");
        let mut port = first;
        while port <= last {
            assert!(matches!(table[port as usize], Owner::Unowned), "two devices share a port");
            table[port as usize] = owner;
            port += 1;
        }
        row += 1;
    }
    table
};

/// The owner of a port. Functions of the PCI bus, modelled or passed through, may own ports that the board leaves
/// unowned.
#[inline(always)]
fn owner(port: u16) -> Owner {
    OWNERS.get(usize::from(port)).copied().unwrap_or(Owner::Unowned)
}

/// For devices whose registers do not depend on the time.
const TIMELESS: Nanos = Nanos::ZERO;

/// pci-server has to make the access; nothing has changed yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Remote;

/// The board.
pub struct Board {
    /// Which board it is.
    chipset: Chipset,
    /// Interrupt controllers.
    pub controllers: Controllers,
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
    /// Their interrupt lines.
    pub lines: Lines,
    /// Power management.
    power: Power,
    /// Reset and delay ports.
    reset_ports: ResetPorts,
    /// Where the 8259's interrupts go.
    imcr: Imcr,
    /// The next interrupt of the real-time clock, cached at each change: few guests use it.
    rtc_due: Option<Nanos>,
}

impl Board {
    /// A board after power-on.
    pub fn new(chipset: Chipset, ram: u64, unix_seconds: u64) -> Self {
        let mut rtc = Rtc::new(ram);
        rtc.set_time(unix_seconds);
        let mut board = Self {
            chipset,
            controllers: Controllers::new(),
            pit: Pit::new(),
            rtc,
            uart: Uart::new(),
            functions: Functions::new(0),
            passthrough: Passthrough::default(),
            lines: Lines::default(),
            power: Power::new(),
            reset_ports: ResetPorts::new(),
            imcr: Imcr::new(),
            rtc_due: None,
        };
        board.set_up();
        board
    }

    /// What firmware does on a board with ACPI: the system control interrupt is a level, and the 8259s' interrupts pass
    /// through the local APIC.
    fn set_up(&mut self) {
        if self.chipset == Chipset::Pc {
            self.controllers.pic.set_level_triggered(input::SCI);
            self.imcr = Imcr::through();
        }
    }

    /// What the ACPI tables say of this board, if it has any: `memory` is the end of its RAM.
    pub fn acpi(&self, memory: u64) -> Option<acpi::Parts> {
        let parts = acpi::Parts { memory: memory as u32, inputs: self.lines.inputs() };
        (self.chipset == Chipset::Pc).then_some(parts)
    }

    /// Whether the machine has buttons, which come with ACPI.
    pub fn has_buttons(&self) -> bool {
        self.chipset == Chipset::Pc
    }

    /// Presses one of them.
    pub fn press(&mut self, button: Button) -> Effect {
        if !self.has_buttons() {
            return Effect::QUIET;
        }
        self.power.press(button);
        self.power_line()
    }

    /// Plugs in the passed-through devices, one function each, from device 1 of the PCI bus on. Modelled functions come
    /// after them.
    pub fn plug(&mut self, devices: Passthrough) {
        self.functions = Functions::new(devices.functions);
        self.passthrough = devices;
    }

    /// Resets the board, apart from the real-time clock's time. The caller drains the UART first: a reset drops its
    /// output.
    pub fn reset(&mut self) -> Effect {
        self.controllers = Controllers::new();
        self.pit = Pit::new();
        self.rtc.reset();
        self.rtc_due = None;
        self.uart = Uart::new();
        self.functions.reset(&mut self.controllers.pic);
        self.passthrough.reset();
        self.power = Power::new();
        self.reset_ports = ResetPorts::new();
        self.imcr = Imcr::new();
        self.set_up();
        Effect::LINES | Effect::TIMERS | Effect::REGIONS.when(self.passthrough.has_moved())
    }

    /// What an IN of `width` from `port` reads. Width and time are computed only for devices that need them.
    #[inline(always)]
    pub fn read(
        &mut self,
        port: u16,
        width: impl Into<Width> + Copy,
        now: impl Into<Nanos> + Copy,
    ) -> Result<(u32, Effect), Remote> {
        let width = move || -> Width { width.into() };
        Ok(match owner(port) {
            Owner::Unowned if self.passthrough.has_port(port) => return Err(Remote),
            Owner::Unowned => self.function_port_read(port, width()),
            Owner::Imcr => quiet(width().mask32()),
            Owner::PicPrimary => match (port, width(), self.controllers.pic.masks()) {
                (0x21, Width::Byte, [Some(mask), _]) => quiet(mask.into()),
                _ => self.pic_read(move |pic| pic.primary().read(port % 2, width(), TIMELESS)),
            },
            Owner::PicSecondary => match (port, width(), self.controllers.pic.masks()) {
                (0xa1, Width::Byte, [_, Some(mask)]) => quiet(mask.into()),
                _ => self.pic_read(move |pic| pic.secondary().read(port % 2, width(), TIMELESS)),
            },
            Owner::Elcr => self.pic_read(move |pic| pic.elcr().read(port % 2, width(), TIMELESS)),
            Owner::Power => self.power_read(port, width(), now.into()),
            Owner::Pit if width() == Width::Byte => quiet(self.pit.count(port % 4, now).into()),
            Owner::Pit => self.pit_read_wide(port, width(), now.into()),
            Owner::Port61 => quiet(u32::from(self.pit.read_61(now.into())) | width().mask32() & !0xff),
            Owner::Rtc => self.rtc_read(port, width(), now),
            Owner::Uart => match (port, width(), self.uart.line_status()) {
                // Drivers poll the line status for each byte, so it has a fast path.
                (0x3fd, Width::Byte, Some(status)) => quiet(status.into()),
                _ => self.uart_read(port, width()),
            },
            Owner::Pci => return self.pci_read(port, width),
            Owner::KeyboardData => self.reset_port_read(Port::KeyboardData, width()),
            Owner::KeyboardCommand => self.reset_port_read(Port::KeyboardCommand, width()),
            Owner::Delay => self.reset_port_read(Port::Delay, width()),
            Owner::ControlA => self.reset_port_read(Port::ControlA, width()),
        })
    }

    /// Makes an OUT of `width` to `port`. Bits of the value outside the width are ignored.
    #[inline(always)]
    pub fn write(
        &mut self,
        port: u16,
        width: impl Into<Width> + Copy,
        value: u32,
        now: impl Into<Nanos>,
    ) -> Result<Effect, Remote> {
        let width = move || -> Width { width.into() };
        Ok(match owner(port) {
            Owner::Unowned if self.passthrough.has_port(port) => return Err(Remote),
            Owner::Unowned => self.function_port_write(port, width(), value),
            Owner::PicPrimary => self.pic_primary_write(port, width(), value),
            Owner::PicSecondary => self.pic_write(move |pic| pic.secondary().write(port % 2, width(), value, TIMELESS)),
            Owner::Elcr => self.pic_write(move |pic| pic.elcr().write(port % 2, width(), value, TIMELESS)),
            Owner::Imcr => self.imcr_write(port, width(), value),
            Owner::Power => self.power_write(port, width(), value),
            Owner::Pit => self.pit_write(port, width(), value, now.into()),
            Owner::Port61 => {
                self.pit.write_61(value as u8, now.into());
                Effect::QUIET
            }
            Owner::Rtc => self.rtc_write(port, width(), value, now.into()),
            Owner::Uart => self.uart_write(port, width(), value),
            Owner::Pci => return self.pci_write(port, width, value),
            Owner::KeyboardData => self.reset_port_write(Port::KeyboardData, width(), value),
            Owner::KeyboardCommand => self.reset_port_write(Port::KeyboardCommand, width(), value),
            Owner::Delay => self.reset_port_write(Port::Delay, width(), value),
            Owner::ControlA => self.reset_port_write(Port::ControlA, width(), value),
        })
    }

    /// Reads an address without RAM. Local APICs are the vCPUs', not the board's.
    #[inline(always)]
    pub fn read_memory(&mut self, gpa: u64, width: Width) -> Result<(u32, Effect), Remote> {
        if self.passthrough.has_memory(gpa) {
            return Err(Remote);
        }
        Ok(match self.functions.memory(gpa, width) {
            None if self.has_io_apic(gpa) => quiet(self.controllers.ioapic.read(offset(gpa), width)),
            None => quiet(width.mask32()),
            Some(hit) => self.function_read(hit, width),
        })
    }

    /// Writes an address without RAM.
    #[inline(always)]
    pub fn write_memory(&mut self, gpa: u64, width: Width, value: u32) -> Result<Effect, Remote> {
        if self.passthrough.has_memory(gpa) {
            return Err(Remote);
        }
        Ok(match self.functions.memory(gpa, width) {
            None if self.has_io_apic(gpa) => self.io_apic_write(offset(gpa), width, value),
            None => Effect::QUIET,
            Some(hit) => self.functions.write(hit, width, value.into(), &mut self.controllers.pic),
        })
    }

    /// Whether a device, or a local APIC, has registers in the page of `gpa` to which accesses exit.
    pub fn has_memory_near(&self, gpa: u64) -> bool {
        Lapic::has(gpa)
            || self.has_io_apic(gpa)
            || self.passthrough.has_memory_near(gpa)
            || self.functions.has_memory_near(gpa)
    }

    /// Whether the registers of the I/O APIC are at `gpa`.
    #[inline(always)]
    fn has_io_apic(&self, gpa: u64) -> bool {
        IoApic::has(gpa) && self.chipset == Chipset::Pc
    }

    /// Has pci-server read a port.
    pub fn read_remote(&mut self, port: u16, width: Width) -> u32 {
        match self.configuration(port) {
            Some(at) => self.passthrough.read_config(at.number, at.register, width),
            None => self.passthrough.read_port(port, width),
        }
    }

    /// Has pci-server write a port.
    pub fn write_remote(&mut self, port: u16, width: Width, value: u32) -> Effect {
        let mut effect = Effect::QUIET;
        match self.configuration(port) {
            Some(at) => {
                self.passthrough.write_config(at.number, at.register, width, value);
                let signalling = self.passthrough.signalling(at.number, at.register);
                effect = self.signal_by(signalling);
            }
            None => self.passthrough.write_port(port, width, value),
        }
        effect | Effect::REGIONS.when(self.passthrough.has_moved())
    }

    /// Has pci-server write memory.
    pub fn write_memory_remote(&mut self, gpa: u64, width: Width, value: u32) -> Effect {
        let signalling = self.passthrough.write_memory(gpa, width, value);
        self.signal_by(signalling)
    }

    /// Has a line interrupt as the guest wants it now.
    fn signal_by(&mut self, signalling: Option<(usize, Signalling)>) -> Effect {
        let Some((line, signalling)) = signalling else { return Effect::QUIET };
        let is_new = self.lines.signal_by(line, signalling, &mut self.controllers);
        self.functions.send(self.lines.take_messages());
        // What it waits with is over its limit, so it waits for the end of the millisecond.
        let throttled = is_new && self.lines.next_event().is_some();
        Effect::LINES.when(is_new) | Effect::TIMERS.when(throttled)
    }

    /// Has the passed-through lines in `bits` interrupt the guest; returns those to acknowledge.
    pub fn raise_lines(&mut self, bits: u16, now: Nanos) -> u16 {
        let acknowledge = self.lines.raise(bits, now, &mut self.controllers);
        if self.lines.has_messages() {
            self.functions.send(self.lines.take_messages());
        }
        acknowledge
    }

    /// Lets rate-limited lines interrupt again whose millisecond is over; returns those to acknowledge.
    pub fn expire_lines(&mut self, now: Nanos) -> u16 {
        let acknowledge = self.lines.expire(now, &mut self.controllers);
        if self.lines.has_messages() {
            self.functions.send(self.lines.take_messages());
        }
        acknowledge
    }

    /// The passed-through function and register that the data port selects, if `port` belongs to it.
    fn configuration(&self, port: u16) -> Option<pci::Elsewhere> {
        if owner(port) == Owner::Pci { self.functions.elsewhere(port % 8) } else { None }
    }
}

/// The offset of an address in the I/O APIC's page.
const fn offset(gpa: u64) -> u16 {
    (gpa % devices::ioapic::SIZE) as u16
}

/// What an access without side effects reads.
#[inline(always)]
const fn quiet(value: u32) -> (u32, Effect) {
    (value, Effect::QUIET)
}
