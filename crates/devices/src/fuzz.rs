//! Arbitrary sequences of accesses: no device panics, hangs, answers beyond the width, or misses its own deadline.

use crate::pci::{Bar, ConfigSpace, DevFn, VirtualBus, host_bridge};
use crate::pic::Pic;
use crate::pit::{MAX_OWED, Pit};
use crate::reset_ports::{Port, ResetPorts};
use crate::rtc::Rtc;
use crate::uart::Uart;
use crate::{Device, Nanos, NoMemory, Width};
use proptest::prelude::*;

/// One access, some time after the one before.
#[derive(Clone, Copy, Debug)]
struct Access {
    write: bool,
    offset: u16,
    width: Width,
    value: u32,
    wait: u64,
}

impl Access {
    fn apply(self, device: &mut impl Device, now: Nanos) {
        if self.write {
            device.write(self.offset, self.width, self.value, now);
        } else {
            assert_eq!(device.read(self.offset, self.width, now) & !self.width.mask32(), 0);
        }
    }
}

/// Accesses mostly to the first `ports` offsets, mostly close together in time.
fn accesses(ports: u16) -> impl Strategy<Value = std::vec::Vec<Access>> {
    let width = prop_oneof![8 => Just(Width::Byte), 1 => Just(Width::Word), 1 => Just(Width::Dword)];
    let offset = prop_oneof![20 => 0..ports, 1 => any::<u16>()];
    let wait = prop_oneof![10 => 0..3_000u64, 5 => 0..2_000_000_000u64, 1 => any::<u64>()];
    let access = (any::<bool>(), offset, width, any::<u32>(), wait)
        .prop_map(|(write, offset, width, value, wait)| Access { write, offset, width, value, wait });
    prop::collection::vec(access, 0..200)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(256) })]

    #[test]
    fn pic(accesses in accesses(8), lines in prop::collection::vec((any::<u8>(), any::<bool>()), 200)) {
        let mut pic = Pic::new();
        for (access, (irq, level)) in accesses.into_iter().zip(lines) {
            match access.offset {
                0 | 1 => access.apply(&mut pic.primary(), Nanos::ZERO),
                2 | 3 => Access { offset: access.offset - 2, ..access }.apply(&mut pic.secondary(), Nanos::ZERO),
                4 | 5 => Access { offset: access.offset - 4, ..access }.apply(&mut pic.elcr(), Nanos::ZERO),
                _ => pic.set_line(irq % 18, level),
            }
            if pic.pending() && irq > 200 {
                pic.acknowledge();
            }
            pic.take_ended();
        }
        // However it was left, acknowledging ends: each level once, or again only with automatic EOI and a level line.
        for _ in 0..16 {
            pic.acknowledge();
        }
    }

    #[test]
    fn pit(accesses in accesses(5)) {
        let mut pit = Pit::new();
        let mut now = Nanos::ZERO;
        for access in accesses {
            now = now + access.wait;
            if access.offset == 4 {
                pit.write_61(access.value as u8, now);
                pit.read_61(now);
            } else {
                access.apply(&mut pit, now);
            }
            prop_assert!(pit.owed() <= MAX_OWED);
        }
    }

    /// The deadline is exact: nothing is counted before it, and one edge at it.
    #[test]
    fn pit_deadlines(accesses in accesses(4), rounds in 1..5u32) {
        let mut pit = Pit::new();
        let mut now = Nanos::ZERO;
        for access in accesses {
            now = now + access.wait % 10_000;
            access.apply(&mut pit, now);
        }
        pit.take_edges(now);
        for _ in 0..rounds {
            let Some(edge) = pit.next_edge(now) else { break };
            prop_assert!(edge > now);
            prop_assert_eq!(pit.take_edges(Nanos(edge.0 - 1)), 0);
            prop_assert_eq!(pit.take_edges(edge), 1);
            now = edge;
        }
    }

    /// The edges counted are those that the status byte shows tick by tick.
    #[test]
    fn pit_edges(accesses in accesses(4), ticks in 1..300u64) {
        let mut pit = Pit::new();
        let mut now = Nanos::ZERO;
        for access in accesses {
            now = now + access.wait % 10_000;
            // Counts below 16 make edges likely.
            let value = if access.offset == 3 { access.value } else { access.value & 0x0f };
            Access { value, ..access }.apply(&mut pit, now);
        }
        // Whatever was half written, half read or latched, the next status byte is that of now.
        for _ in 0..3 {
            pit.read(0, Width::Byte, now);
        }
        pit.take_edges(now);
        let mut out = |now| {
            pit.write(3, Width::Byte, 0b1110_0010, now);
            pit.read(0, Width::Byte, now) & 0x80 != 0
        };
        let mut seen = 0;
        let mut level = out(now);
        for _ in 0..ticks {
            // A tick is 838.1 ns; steps of half of one miss none.
            for _ in 0..2 {
                now = now + 419;
                seen += u32::from(!core::mem::replace(&mut level, out(now)) && level);
            }
        }
        prop_assert_eq!(pit.take_edges(now), seen.min(MAX_OWED));
    }

    #[test]
    fn rtc(ram in any::<u64>(), base in any::<u64>(), accesses in accesses(2)) {
        let mut rtc = Rtc::new(ram);
        rtc.set_time(base);
        let mut now = Nanos::ZERO;
        for access in accesses {
            now = now + access.wait;
            access.apply(&mut rtc, now);
            rtc.next_event(now);
        }
    }

    /// The line rises at the deadline and not before.
    #[test]
    fn rtc_deadlines(base in 0..1u64 << 33, writes in prop::collection::vec((0..0x10u8, any::<u8>(), 0..SPAN), 0..20)) {
        let mut rtc = Rtc::new(64 << 20);
        rtc.set_time(base);
        let mut now = Nanos::ZERO;
        for (index, value, wait) in writes {
            now = now + wait;
            rtc.write(0, Width::Word, u32::from(index) | u32::from(value) << 8, now);
        }
        rtc.write(0, Width::Byte, 0x0c, now);
        rtc.read(1, Width::Byte, now);
        if let Some(event) = rtc.next_event(now) {
            prop_assert!(event > now);
            rtc.poll(Nanos(event.0 - 1));
            prop_assert!(!rtc.irq());
            rtc.poll(event);
            prop_assert!(rtc.irq());
        }
    }

    #[test]
    fn uart(accesses in accesses(9), bytes in prop::collection::vec(any::<u8>(), 200)) {
        let mut uart = Uart::new();
        let mut buffer = [0; 5];
        for (access, byte) in accesses.into_iter().zip(bytes) {
            if access.offset == 8 {
                let room = uart.rx_room();
                prop_assert_eq!(uart.push_rx(byte), room > 0);
                uart.take_tx(&mut buffer[..usize::from(byte % 6)]);
            } else {
                access.apply(&mut uart, Nanos::ZERO);
            }
            uart.irq();
        }
    }

    /// A driver that asks IIR what to do and does it always comes to an end.
    #[test]
    fn uart_interrupts_can_be_served(accesses in accesses(8)) {
        let mut uart = Uart::new();
        for access in accesses {
            access.apply(&mut uart, Nanos::ZERO);
        }
        uart.write(3, Width::Byte, 0, Nanos::ZERO);
        let mut rounds = 0;
        while uart.irq() {
            let offset = match uart.read(2, Width::Byte, Nanos::ZERO) & 0x0f {
                0x06 => 5,
                0x04 | 0x0c => 0,
                0x00 => 6,
                _ => 2,
            };
            uart.read(offset, Width::Byte, Nanos::ZERO);
            rounds += 1;
            prop_assert!(rounds < 32);
        }
    }

    #[test]
    fn pci(accesses in accesses(9)) {
        let mut bus = VirtualBus::<ConfigSpace>::new();
        let function = host_bridge().with_bar(0, Bar::Memory(4096)).unwrap();
        bus.insert(DevFn { device: 0, function: 0 }, function).unwrap();
        for Access { write, offset, width, value, .. } in accesses {
            if write && value & 1 == 0 && offset == 0 {
                // Half of the addresses written select the function.
                let _ = bus.write(0, Width::Dword, 0x8000_0000 | value & 0xff, &NoMemory);
            } else if write {
                let _ = bus.write(offset, width, value, &NoMemory);
            } else {
                prop_assert_eq!(bus.read(offset, width, &NoMemory).0 & !width.mask32(), 0);
            }
        }
        let _ = bus.write(0, Width::Dword, 0x8000_0000, &NoMemory);
        prop_assert_eq!(bus.read(4, Width::Dword, &NoMemory).0, 0x1237_8086);
    }

    #[test]
    fn reset_ports(accesses in accesses(5)) {
        let mut device = ResetPorts::new();
        let ports = [0x60, 0x64, 0x80, 0x92, 0xcf9].map(|port| Port::at(port).unwrap());
        for access in accesses {
            let port = ports[usize::from(access.offset) % ports.len()];
            if access.write {
                device.write(port, access.width, access.value);
            } else {
                prop_assert_eq!(device.read(port, access.width) & !access.width.mask32(), 0);
            }
            device.keyboard_irq();
        }
    }
}

/// Three seconds.
const SPAN: u64 = 3_000_000_000;
