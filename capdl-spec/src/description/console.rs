//! The key `console`: the UART of all messages and of the guests' consoles, where it is not the first one of a PC. The
//! kernel, root-task, serial-server and the emulators follow it. Ports and interrupts of COM1 to COM4 are the PC/AT's.

use core::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{Error, Visitor},
};
use toml::Spanned;

use crate::description::board::{Board, Device, IoApicInput, PortRange};

/// The UARTs that a PC may have without a card: name, first port, interrupt.
pub const COM: [(&str, u16, u8); 4] = [("COM1", 0x3f8, 4), ("COM2", 0x2f8, 3), ("COM3", 0x3e8, 4), ("COM4", 0x2e8, 3)];
static NAMES: [&str; 4] = [COM[0].0, COM[1].0, COM[2].0, COM[3].0];
/// Registers of a 16550, each a port.
pub const REGISTERS: u16 = 8;
/// Bits per second that a console may have.
pub const BAUDS: [u32; 5] = [9600, 19200, 38400, 57600, 115_200];

/// The table `console`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Console {
    /// Its first port; that of COM1 when left out.
    pub port: Option<Spanned<Port>>,
    /// The I/O APIC's input where its interrupt arrives; that of the COM port when left out.
    pub irq: Option<Spanned<u8>>,
    /// Bits per second; 115200 when left out.
    pub baud: Option<Spanned<u32>>,
}

/// The first port of a UART, written as a number or `"COM1"` to `"COM4"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Port(pub u16);

impl Console {
    /// The interrupt: as described, or as COM ports have it.
    pub fn irq(&self) -> Option<u8> {
        let port = self.port.as_ref().map_or(COM[0].1, |port| port.get_ref().0);
        let usual = COM.iter().find(|(_, com, _)| *com == port).map(|(.., irq)| *irq);
        self.irq.as_ref().map(|irq| *irq.get_ref()).or(usual)
    }

    /// The board with this console.
    pub(crate) fn on(&self, board: &Board) -> Board {
        let first = self.port.as_ref().map_or(board.uart.ports.first, |port| port.get_ref().0);
        let ports = PortRange { first, last: first.saturating_add(REGISTERS - 1) };
        // `checks` refuses a console without an interrupt.
        let line = self.irq().map_or(board.uart.line, |pin| IoApicInput { ioapic: 0, pin });
        let baud = self.baud.as_ref().map_or(board.baud, |baud| *baud.get_ref());
        Board { uart: Device { ports, line, ..board.uart }, baud, ..*board }
    }
}

/// The name of the COM port with this first port.
pub fn com(first: u16) -> Option<&'static str> {
    COM.iter().find(|(_, port, _)| *port == first).map(|(name, ..)| *name)
}

/// Its number, from 1.
pub fn com_number(first: u16) -> Option<u8> {
    (1..).zip(COM).find(|(_, (_, port, _))| *port == first).map(|(number, _)| number)
}

impl<'de> Deserialize<'de> for Port {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct NameOrNumber;
        impl Visitor<'_> for NameOrNumber {
            type Value = Port;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("COM1 to COM4, or a port")
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<Port, E> {
                let known = COM.iter().find(|(name, ..)| *name == text);
                if let Some((_, (name, ..))) = (0..).zip(COM).find(|(n, _)| text == format!("ttyS{n}")) {
                    return Err(E::custom(format!("`{text}` is what Linux calls it\nwrite \"{name}\"")));
                }
                known.map(|(_, port, _)| Port(*port)).ok_or_else(|| E::unknown_variant(text, &NAMES))
            }
            fn visit_i64<E: Error>(self, number: i64) -> Result<Port, E> {
                u16::try_from(number).map(Port).map_err(|_| {
                    E::custom(format!("{number:#x} is no port\nwrite \"COM1\" to \"COM4\", or a number up to 0xfff8"))
                })
            }
        }
        from.deserialize_any(NameOrNumber)
    }
}
