//! A simulated machine that records every write, every request to root-task, and every revocation. It allows accesses
//! only through capabilities that the server obtained, and panics at any other.

use layout::Bdf;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use pci_server::config_space::ConfigSpace;
use pci_server::hardware::{Authority, Clock, Devices};
use proto::irq;
use proto::irq::{MsiMessage, Route};
use proto::pci::Width;
use proto::supervisor::{Refused, Request};

/// Configuration registers: values, the bits that can be written, and those that are cleared by writing ones.
#[derive(Clone)]
pub struct Registers {
    pub values: [u32; 64],
    pub writable: [u32; 64],
    pub cleared: [u32; 64],
}

/// A write that reached the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wrote {
    Config(Bdf, u8, Width, u32),
    Port(u16, Width, u32),
    Memory(u64, Width, u32),
}

/// A function's register whose write flips bits in others of the function: register and bits.
pub type Treacherous = (Bdf, u8, Vec<(u8, u32)>);

#[derive(Default)]
pub struct Board {
    pub functions: BTreeMap<Bdf, Registers>,
    pub ports: BTreeMap<u16, u32>,
    pub memory: BTreeMap<u64, u32>,
    /// Bits of a port or address that the device clears by itself after two reads.
    pub self_clearing: BTreeMap<u64, u32>,
    pub treacherous: Option<Treacherous>,
    pub wrote: Vec<Wrote>,
    pub requests: Vec<Request>,
    /// Physical addresses that root-task refuses.
    pub not_there: Vec<u64>,
    pub revoked: Vec<u16>,
    pub routes: Vec<(u8, Route)>,
    /// Lines for messages, and the functions that send them.
    pub messages: Vec<(u8, Bdf)>,
    /// Lines with a route of their own.
    pub routed: Vec<u8>,
    /// Lines that irq-server refuses.
    pub refused: Vec<u8>,
    pub time: u64,
    /// Reads of each self-clearing register.
    pub reads: BTreeMap<u64, u32>,
}

impl Board {
    /// The writes since the last call.
    pub fn take_writes(&mut self) -> Vec<Wrote> {
        std::mem::take(&mut self.wrote)
    }

    pub fn config(&self, at: Bdf, offset: u8) -> u32 {
        self.functions[&at].values[usize::from(offset / 4)]
    }

    fn clear_by_itself(&mut self, key: u64, value: u32) -> u32 {
        let bits = self.self_clearing.get(&key).copied().unwrap_or(0);
        if value & bits == 0 {
            return value;
        }
        let reads = self.reads.entry(key).or_default();
        *reads += 1;
        if *reads > 2 { value & !bits } else { value }
    }

    fn physical(&self, at: u64) -> u64 {
        let mapped = self.requests.iter().find_map(|request| match *request {
            Request::Memory { paddr, pages, bits, map: Some(map), .. } => {
                (map..map + (u64::from(pages) << bits)).contains(&at).then(|| paddr + (at - map))
            }
            _ => None,
        });
        mapped.expect("memory that is mapped")
    }

    fn check_port(&self, slot: u16, port: u16, width: Width) {
        let covers = |request: &Request| {
            matches!(*request, Request::Ports { first, last, slot: at }
                if at == slot && first <= port && port + u16::from(width.bytes()) - 1 <= last)
        };
        assert!(self.requests.iter().any(covers), "port {port:#x} is not behind slot {slot}");
    }
}

/// The board, shared by the server and the test.
#[derive(Clone)]
pub struct Hold(pub Rc<RefCell<Board>>);

impl ConfigSpace for Hold {
    fn read(&mut self, at: Bdf, offset: u8) -> u32 {
        assert_eq!(offset % 4, 0);
        let board = self.0.borrow();
        board.functions.get(&at).map_or(u32::MAX, |f| f.values[usize::from(offset / 4)])
    }

    fn write(&mut self, at: Bdf, offset: u8, value: u32) {
        self.write_part(at, offset, Width::Dword, value);
    }

    fn write_part(&mut self, at: Bdf, offset: u8, width: Width, value: u32) {
        assert_eq!(offset % width.bytes(), 0);
        let board = &mut *self.0.borrow_mut();
        board.wrote.push(Wrote::Config(at, offset, width, value));
        let Some(f) = board.functions.get_mut(&at) else { return };
        let (n, shift) = (usize::from(offset / 4), 8 * u32::from(offset % 4));
        let (lanes, value) = (width.mask() << shift, (value & width.mask()) << shift);
        let writable = f.writable[n] & lanes;
        f.values[n] = f.values[n] & !writable & !(value & f.cleared[n]) | value & writable;
        if let Some((function, register, flips)) = &board.treacherous
            && (*function, *register) == (at, offset)
        {
            for (register, bits) in flips {
                f.values[usize::from(register / 4)] ^= bits;
            }
        }
    }
}

impl Devices for Hold {
    fn port_in(&mut self, slot: u16, port: u16, width: Width) -> u32 {
        let board = &mut *self.0.borrow_mut();
        board.check_port(slot, port, width);
        let value = board.ports.get(&port).copied().unwrap_or(0) & width.mask();
        board.clear_by_itself(port.into(), value)
    }

    fn port_out(&mut self, slot: u16, port: u16, width: Width, value: u32) {
        let board = &mut *self.0.borrow_mut();
        board.check_port(slot, port, width);
        board.wrote.push(Wrote::Port(port, width, value));
        board.reads.remove(&port.into());
        board.ports.insert(port, value);
    }

    fn load(&mut self, at: u64, width: Width) -> u32 {
        let board = &mut *self.0.borrow_mut();
        let at = board.physical(at);
        let value = board.memory.get(&at).copied().unwrap_or(0) & width.mask();
        board.clear_by_itself(at, value)
    }

    fn store(&mut self, at: u64, width: Width, value: u32) {
        let board = &mut *self.0.borrow_mut();
        let at = board.physical(at);
        board.wrote.push(Wrote::Memory(at, width, value));
        board.reads.remove(&at);
        board.memory.insert(at, value);
    }
}

impl Clock for Hold {
    fn ticks(&mut self) -> u64 {
        let board = &mut *self.0.borrow_mut();
        board.time += 10_000;
        board.time
    }

    /// A processor of 4 GHz.
    fn ticks_per_millisecond(&self) -> u64 {
        4_000_000
    }
}

impl Authority for Hold {
    fn obtain(&mut self, request: Request) -> Result<(), Refused> {
        let board = &mut *self.0.borrow_mut();
        if let Request::Memory { paddr, .. } = request
            && board.not_there.contains(&paddr)
        {
            return Err(Refused::NotThere);
        }
        board.requests.push(request);
        Ok(())
    }

    fn revoke(&mut self, slot: u16) {
        self.0.borrow_mut().revoked.push(slot);
    }

    fn capability(&self, slot: u16) -> u64 {
        0x1_0000 + u64::from(slot)
    }

    fn message(&mut self, line: u8, from: Bdf) -> Result<MsiMessage, irq::Error> {
        let board = &mut *self.0.borrow_mut();
        if board.routed.contains(&line) {
            return Err(irq::Error::RouteTaken);
        }
        if board.refused.contains(&line) {
            return Err(irq::Error::Kernel);
        }
        board.messages.push((line, from));
        Ok(MsiMessage { address: 0xfee0_1000, data: 0x30 + u16::from(line) })
    }

    fn route(&mut self, line: u8, route: Route) -> Result<(), irq::Error> {
        let board = &mut *self.0.borrow_mut();
        if board.routed.contains(&line) {
            return Err(irq::Error::RouteTaken);
        }
        if board.refused.contains(&line) {
            return Err(irq::Error::Kernel);
        }
        board.routes.push((line, route));
        Ok(())
    }
}

pub fn at(device: u8, function: u8) -> Bdf {
    Bdf { bus: 0, device, function }
}

pub const HOST: Bdf = Bdf { bus: 0, device: 0, function: 0 };
pub const IDE: Bdf = Bdf { bus: 0, device: 1, function: 1 };
pub const UHCI: Bdf = Bdf { bus: 0, device: 1, function: 2 };
pub const E1000: Bdf = Bdf { bus: 0, device: 2, function: 0 };
pub const NE2000: Bdf = Bdf { bus: 0, device: 3, function: 0 };
pub const DISPLAY: Bdf = Bdf { bus: 0, device: 4, function: 0 };
pub const SMALL_A: Bdf = Bdf { bus: 0, device: 5, function: 0 };
pub const SMALL_B: Bdf = Bdf { bus: 0, device: 6, function: 0 };
pub const EXPRESS: Bdf = Bdf { bus: 0, device: 7, function: 0 };
pub const AHCI: Bdf = Bdf { bus: 0, device: 31, function: 0 };

/// A type 0 function, decoding, bus master, with two status bits set that clear when ones are written.
fn function(id: u32, class: u32, bars: [(u32, u32); 6], pin: u32) -> Registers {
    let (mut values, mut writable, mut cleared) = ([0; 64], [0; 64], [0; 64]);
    values[0] = id;
    (values[1], writable[1], cleared[1]) = (0x2800_0007, 0x0000_07ff, 0xf900_0000);
    values[2] = class << 8;
    (values[3], writable[3]) = (0x0000_4010, 0x0000_ffff);
    for (n, (base, mask)) in bars.into_iter().enumerate() {
        (values[4 + n], writable[4 + n]) = (base, mask);
    }
    (values[12], writable[12]) = (0xfff0_0001, 0xfff0_0001);
    (values[15], writable[15]) = (pin << 8 | 0x0a, 0xff);
    writable[16..].fill(u32::MAX);
    Registers { values, writable, cleared }
}

/// A capability list, from (offset, id, upper half).
fn with_capabilities<const N: usize>(mut f: Registers, list: [(u8, u32, u32); N]) -> Registers {
    f.values[1] |= 1 << 20;
    f.values[13] = list[0].0.into();
    for (n, (at, id, upper)) in list.into_iter().enumerate() {
        let next = list.get(n + 1).map_or(0, |next| u32::from(next.0));
        f.values[usize::from(at / 4)] = upper << 16 | next << 8 | id;
    }
    f
}

const NONE: (u32, u32) = (0, 0);

/// The functions of the emulated board, and a few more.
pub fn board() -> Board {
    let ide = function(0x7010_8086, 0x01_01_80, [NONE, NONE, NONE, NONE, (0xc001, 0xffff_fff0), NONE], 0);
    let uhci = function(0x7020_8086, 0x0c_03_00, [NONE, NONE, NONE, NONE, (0xc021, 0xffff_ffe0), NONE], 4);
    let mut isa = function(0x7000_8086, 0x06_01_00, [NONE; 6], 0);
    isa.values[3] |= 0x0080_0000;
    let mem = [(0xc000_0000, 0xfffe_0000), (0xc041, 0xffff_ffc0), NONE, NONE, NONE, NONE];
    let e1000 = with_capabilities(
        function(0x100e_8086, 0x02_00_00, mem, 1),
        [(0xdc, 0x01, 0xe221), (0xe4, 0x07, 0x0002), (0xf0, 0x05, 0x0081)],
    );
    let ne2000 = function(0x8029_10ec, 0x02_00_00, [(0xc081, 0xffff_ffe0), NONE, NONE, NONE, NONE, NONE], 1);
    let wide = [(0x0000_000c, 0xff00_0000), (0x0000_0008, 0xffff_ffff), NONE, NONE, NONE, NONE];
    let display = function(0x1111_1234, 0x03_00_00, wide, 0);
    let small = |base| function(0x5678_1234, 0xff_00_00, [(base, 0xffff_ff00), NONE, NONE, NONE, NONE, NONE], 1);
    let mut express = with_capabilities(
        function(0x10d3_9999, 0x02_00_00, [(0xc008_0000, 0xfffe_0000), NONE, NONE, NONE, NONE, NONE], 1),
        [(0x40, 0x01, 0x0003), (0x50, 0x10, 0x0002), (0xa0, 0x11, 0x8004), (0xb0, 0x03, 0), (0xc0, 0x7f, 0)],
    );
    express.values[0x54 / 4] = 1 << 28;
    express.cleared[0x58 / 4] = 0x000f_0000;
    express.writable[0x58 / 4] = 0x0000_ffff;
    let ahci_bars = [NONE, NONE, NONE, NONE, (0xc0a1, 0xffff_ffe0), (0xc003_0000, 0xffff_f000)];
    let ahci = with_capabilities(
        function(0x2922_8086, 0x01_06_01, ahci_bars, 1),
        [(0x80, 0x05, 0x0080), (0xa8, 0x12, 0x0010)],
    );
    let functions = [
        (HOST, function(0x1237_8086, 0x06_00_00, [NONE; 6], 0)),
        (at(1, 0), isa),
        (IDE, ide),
        (UHCI, uhci),
        (E1000, e1000),
        (NE2000, ne2000),
        (DISPLAY, display),
        (SMALL_A, small(0xc004_0000)),
        (SMALL_B, small(0xc004_0100)),
        (EXPRESS, express),
        (AHCI, ahci),
    ];
    Board {
        functions: functions.into_iter().collect(),
        // Reset bits; UHCI's command is at port 0xc020.
        self_clearing: [(0xc000_0000, 1 << 26), (0xc003_0004, 1), (0xc020, 1 << 1)].into_iter().collect(),
        ..Board::default()
    }
}
