//! The board against a slow model of it: the same devices behind a list of ranges, every access made by the device's own
//! register interface, and every line driven and every timer looked at after each.

use devices::{
    Device, Effect, Nanos, NoMemory, Width,
    pci::{ConfigSpace, DevFn, VirtualBus, host_bridge},
    pic::Pic,
    pit::Pit,
    reset_ports::{Port, ResetPorts},
    rtc::Rtc,
    uart::Uart,
};
use layout::guest_board;
use layout::guest_board::Chipset;
use proptest::prelude::*;
use vmm_server::board::Board;

const RAM: u64 = 1 << 20;
const UNIX: u64 = 1_700_000_000;
const MILLISECOND: u64 = 1_000_000;
const WIDTHS: [Width; 3] = [Width::Byte, Width::Word, Width::Dword];

/// First and last port of the devices of the model; those that guests use more, twice.
const RANGES: [(u16, u16); 14] = [
    (0x20, 0x21),
    (0x20, 0x21),
    (0x40, 0x43),
    (0x40, 0x43),
    (0x60, 0x61),
    (0x64, 0x64),
    (0x70, 0x71),
    (0x80, 0x80),
    (0x92, 0x92),
    (0xa0, 0xa1),
    (0x3f8, 0x3ff),
    (0x3f8, 0x3ff),
    (0x4d0, 0x4d1),
    (0xcf8, 0xcff),
];

/// One access.
#[derive(Clone, Copy, Debug)]
struct Access {
    port: u16,
    width: Width,
    /// What is written; none for a read.
    value: Option<u32>,
}

/// What a board wants of the rest of the machine.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Wants {
    interrupt: bool,
    timer: Option<Nanos>,
    output: usize,
}

struct Reference {
    pic: Pic,
    pit: Pit,
    rtc: Rtc,
    uart: Uart,
    pci: VirtualBus<ConfigSpace>,
    reset_ports: ResetPorts,
}

impl Reference {
    fn new() -> Self {
        let mut rtc = Rtc::new(RAM);
        rtc.set_time(UNIX);
        let mut pci = VirtualBus::new();
        pci.insert(DevFn { device: 0, function: 0 }, host_bridge()).unwrap();
        Self { pic: Pic::new(), pit: Pit::new(), rtc, uart: Uart::new(), pci, reset_ports: ResetPorts::new() }
    }

    /// Makes the access. Returns what it reads, and whether it resets.
    fn access(&mut self, Access { port, width, value }: Access, now: Nanos) -> (u32, bool) {
        let mut resets = false;
        let read = match port {
            0x20..=0x21 => access(&mut self.pic.primary(), port - 0x20, width, value, now),
            0x40..=0x43 => access(&mut self.pit, port - 0x40, width, value, now),
            0x61 => match value {
                Some(value) => {
                    self.pit.write_61(value as u8, now);
                    0
                }
                None => u32::from(self.pit.read_61(now)) | width.mask32() & !0xff,
            },
            0x70..=0x71 => access(&mut self.rtc, port - 0x70, width, value, now),
            0xa0..=0xa1 => access(&mut self.pic.secondary(), port - 0xa0, width, value, now),
            0x3f8..=0x3ff => access(&mut self.uart, port - 0x3f8, width, value, now),
            0x4d0..=0x4d1 => access(&mut self.pic.elcr(), port - 0x4d0, width, value, now),
            // The reset control register is one byte in the middle of the address.
            0x60 | 0x64 | 0x80 | 0x92 | 0xcf9 if port != 0xcf9 || width == Width::Byte => {
                let register = Port::at(port).unwrap();
                match value {
                    Some(value) => {
                        resets = self.reset_ports.write(register, width, value).is_some();
                        0
                    }
                    None => self.reset_ports.read(register, width),
                }
            }
            0xcf8..=0xcff => match value {
                // A host bridge alone has no effect.
                Some(value) => {
                    let _ = self.pci.write(port - 0xcf8, width, value, &NoMemory);
                    0
                }
                None => self.pci.read(port - 0xcf8, width, &NoMemory).0,
            },
            _ => width.mask32(),
        };
        self.settle();
        (read, resets)
    }

    fn settle(&mut self) {
        self.pic.set_line(1, self.reset_ports.keyboard_irq());
        self.pic.set_line(4, self.uart.irq());
        self.pic.set_line(8, self.rtc.irq());
    }

    /// Timers interrupt.
    fn advance(&mut self, now: Nanos) {
        self.pit.poll(now);
        if self.rtc.next_event(Nanos::ZERO).is_some_and(|due| due <= now) {
            self.rtc.poll(now);
        }
        self.settle();
        self.pay();
    }

    /// An owed tick is an edge, when the one before was taken.
    fn pay(&mut self) {
        if !self.pic.requested(0) && self.pit.pay() {
            self.pic.set_line(0, false);
            self.pic.set_line(0, true);
        }
    }

    fn wants(&self, now: Nanos) -> Wants {
        let timer = [self.pit.next_edge(now), self.rtc.next_event(Nanos::ZERO)].into_iter().flatten().min();
        Wants { interrupt: self.pic.pending(), timer, output: self.uart.tx_pending() }
    }
}

fn access(device: &mut impl Device, offset: u16, width: Width, value: Option<u32>, now: Nanos) -> u32 {
    match value {
        Some(value) => {
            device.write(offset, width, value, now);
            0
        }
        None => device.read(offset, width, now),
    }
}

fn wants(board: &Board, now: Nanos) -> Wants {
    Wants { interrupt: board.controllers.pic.pending(), timer: board.next_event(now), output: board.uart.tx_pending() }
}

/// Whether the model answers at this port as the board does: nobody does, or a device that it has too.
fn has_model(port: &u16) -> bool {
    RANGES.iter().any(|(first, last)| (first..=last).contains(&port))
        || guest_board::owner_of_ports(*port, *port).is_none()
}

/// Ports, mostly modelled ones, and mostly accesses of a byte.
fn accesses() -> impl Strategy<Value = Vec<(Access, u32)>> {
    let owned = prop::sample::select(&RANGES[..]).prop_flat_map(|(first, last)| first..=last);
    let port = prop_oneof![9 => owned, 1 => any::<u16>()].prop_filter("a port without a model here", has_model);
    let width = prop_oneof![4 => Just(Width::Byte), 1 => prop::sample::select(&WIDTHS[..])];
    let value = prop_oneof![3 => 0..0x80u32, 1 => any::<u32>()];
    let access = (port, width, prop::option::weighted(0.6, value)).prop_map(|(port, width, value)| Access {
        port,
        width,
        value,
    });
    prop::collection::vec((access, any::<u32>()), 1..120)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2000) })]

    #[test]
    fn the_board_is_its_devices_and_tells_all_that_an_access_asks_for(accesses in accesses()) {
        let (mut board, mut reference) = (Board::new(Chipset::Pc1995, RAM, UNIX), Reference::new());
        for (n, (access, chance)) in (0..).zip(accesses) {
            let now = Nanos(n * MILLISECOND / 3);
            reference.advance(now);
            let _ = board.advance(now);
            let before = wants(&board, now);
            prop_assert_eq!(before, reference.wants(now));
            let (value, resets) = reference.access(access, now);
            if access.port / 4 == 0x10 && access.value.is_some() {
                reference.pay();
            }
            let Access { port, width, .. } = access;
            let effect = match access.value {
                Some(value) => board.write(port, width, value & width.mask32(), now).unwrap(),
                None => {
                    let (found, effect) = board.read(port, width, now).unwrap();
                    prop_assert_eq!(found, value, "{:x?}", access);
                    effect
                }
            };
            let after = wants(&board, now);
            prop_assert_eq!(after, reference.wants(now), "{:x?}", access);
            // Whatever wants something that it did not want before says so. What is wanted no longer may wait.
            prop_assert!(!after.interrupt || before.interrupt || effect.contains(Effect::LINES), "{:x?}: {:?}", access, effect);
            let due = after.timer.is_some() && after.timer != before.timer;
            prop_assert!(!due || effect.contains(Effect::TIMERS), "{:x?}: {:?}", access, effect);
            prop_assert!(after.output <= before.output || effect.contains(Effect::OUTPUT), "{:x?}: {:?}", access, effect);
            prop_assert_eq!(effect.contains(Effect::RESET), resets, "{:x?}", access);
            if after.interrupt && chance % 4 == 0 {
                let vector = reference.pic.acknowledge();
                reference.pay();
                prop_assert_eq!(board.acknowledge(), vector);
            }
        }
    }
}
