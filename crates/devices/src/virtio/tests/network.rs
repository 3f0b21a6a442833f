//! The network device.

use super::{
    driver::{DATA, NEXT, WRITE, record_ring},
    *,
};
use crate::virtio::network::{Dropped, Network};
use mmio::{RecordConsumer, RecordProducer, RecordRing, Window};
use proptest::prelude::*;
use std::vec;

const MAC: [u8; 6] = [0x02, 1, 2, 3, 4, 5];

/// Bits that are written again from section 5.1.3.
const GUEST_CSUM: u32 = 1 << 1;
const GUEST_TSO4: u32 = 1 << 7;
const GUEST_ECN: u32 = 1 << 9;
const MRG_RXBUF: u32 = 1 << 15;

/// Descriptor tables of the three queues.
const RX: u64 = RING;
const TX: u64 = RING + 0x2000;
const CTRL: u64 = RING + 0x4000;

/// The device, its driver, and the other ends of its rings.
struct Bench {
    driver: Driver<Network>,
    rx: Ring,
    tx: Ring,
    ctrl: Ring,
    /// From the device.
    from: RecordConsumer,
    /// To it.
    to: RecordProducer,
    windows: [Window; 2],
}

impl Drop for Bench {
    fn drop(&mut self) {
        driver::give_back(self.windows);
    }
}

fn bench(bytes: usize, make: impl FnOnce(Network) -> Driver<Network>) -> Bench {
    let ([(out, first), (into, second)], size) = ([record_ring(bytes), record_ring(bytes)], 8);
    let (from, to) = (out.consumer(), into.producer());
    let driver = make(Network::new(MAC, out.producer(), into.consumer()));
    let [rx, tx, ctrl] = [RX, TX, CTRL].map(|at| Ring::at(at, size));
    Bench { driver, rx, tx, ctrl, from, to, windows: [first, second] }
}

/// One with a modern driver.
fn modern(features: u32) -> Bench {
    let mut bench = bench(4096, |device| {
        let mut driver = Driver::new(device);
        driver.initialise(features);
        driver
    });
    let Bench { driver, rx, tx, ctrl, .. } = &mut bench;
    for (n, ring) in [rx, tx, ctrl].into_iter().enumerate() {
        driver.set_up(n as u16, ring);
    }
    driver.set_status(0x0f);
    bench
}

impl Bench {
    /// Notifies a queue.
    fn kick(&mut self, queue: u64) -> Effect {
        self.driver.function.write(4, 0x3000 + 4 * queue, Width::Word, queue, &self.driver.memory)
    }

    fn poll(&mut self) -> Effect {
        self.driver.function.poll(&self.driver.memory)
    }

    /// The next record from the device.
    fn sent(&mut self) -> Option<Vec<u8>> {
        let record = self.from.peek().unwrap()?;
        let mut bytes = vec![0; record.len() as usize];
        record.read(0, &mut bytes).unwrap();
        record.release();
        Some(bytes)
    }

    /// Gives the device a frame, with this header.
    fn give(&mut self, header: [u8; 12], frame: &[u8]) {
        let mut record = self.to.reserve(12 + frame.len() as u32).unwrap();
        record.write(&header).unwrap();
        record.write(frame).unwrap();
        record.publish();
    }

    /// Gives the driver's queue a buffer of `len` bytes at its own place, as the `n`th.
    fn buffer(&self, n: u16, len: u32) {
        let at = DATA + 0x200 * u64::from(n);
        self.rx.descriptor(&self.driver.memory, n, at, len, WRITE, 0);
        self.rx.offer(&self.driver.memory, n, n);
    }

    fn at(&self, n: u16) -> u64 {
        DATA + 0x200 * u64::from(n)
    }

    fn dropped(&mut self) -> Dropped {
        self.driver.function.device().dropped()
    }

    /// Sends a command of these bytes; returns the answer.
    fn command(&mut self, n: u16, bytes: &[u8]) -> u8 {
        let memory = &self.driver.memory;
        memory.write(DATA, bytes).unwrap();
        self.ctrl.descriptor(memory, 0, DATA, bytes.len() as u32, NEXT, 1);
        self.ctrl.descriptor(memory, 1, DATA + 0x100, 1, WRITE, 0);
        self.ctrl.offer(memory, n, 0);
        let _ = self.kick(2);
        assert_eq!(self.ctrl.used(&self.driver.memory), (n + 1, 0, 1));
        self.driver.memory.bytes::<1>(DATA + 0x100)[0]
    }
}

fn frame(len: usize) -> Vec<u8> {
    (0..len).map(|n| n as u8).collect()
}

#[test]
fn it_is_found_by_either_kind_of_driver() {
    let mut bench = modern(0);
    let config = bench.driver.config();
    // A transitional network device: 1af4:1000, revision 0, an Ethernet controller, subsystem 1 (4.1.2).
    assert_eq!(config.read(0x00, Width::Dword), 0x1000_1af4);
    assert_eq!(config.read(0x08, Width::Dword), 0x0200_0000);
    assert_eq!(config.read(0x2c, Width::Dword), 0x0001_1af4);
    let bytes: Vec<u8> = (0..8).map(|at| bench.driver.read(4, 0x2000 + at, Width::Byte) as u8).collect();
    assert_eq!(bytes, [0x02, 1, 2, 3, 4, 5, 1, 0], "the address, and that the link is up");
    assert_eq!(bench.driver.read(0, 20, Width::Dword), 0x0302_0102, "by the legacy interface likewise");
}

#[test]
fn it_offers_what_frames_can_carry_between_guests() {
    let mut bench = modern(0);
    let _ = bench.driver.common(0, Width::Dword, 0);
    // CSUM, GUEST_CSUM, MAC, GUEST_TSO4/6/ECN/UFO, HOST_TSO4/6/ECN/UFO, MRG_RXBUF, STATUS, CTRL_VQ, CTRL_RX,
    // CTRL_MAC_ADDR, and of the transport ANY_LAYOUT, INDIRECT_DESC, EVENT_IDX.
    assert_eq!(bench.driver.read(4, 4, Width::Dword), 0x3887_ffa3);
}

#[test]
fn a_frame_is_a_record_behind_its_header() {
    let mut bench = modern(0);
    let memory = &bench.driver.memory;
    memory.write(DATA, &[1, 1, 54, 0, 180, 5, 34, 0, 16, 0, 9, 9]).unwrap();
    memory.write(DATA + 0x100, &frame(60)).unwrap();
    bench.tx.descriptor(memory, 0, DATA, 5, NEXT, 1);
    bench.tx.descriptor(memory, 1, DATA + 5, 7, NEXT, 2);
    bench.tx.descriptor(memory, 2, DATA + 0x100, 20, NEXT, 3);
    bench.tx.descriptor(memory, 3, DATA + 0x114, 40, 0, 0);
    bench.tx.offer(memory, 0, 0);
    assert_eq!(bench.kick(1), Effect::LINES | Effect::OUTPUT);
    assert!(bench.driver.function.device().take_doorbell());
    assert_eq!(bench.tx.used(&bench.driver.memory), (1, 0, 0));
    let sent = bench.sent().unwrap();
    assert_eq!(sent[..12], [1, 1, 54, 0, 180, 5, 34, 0, 16, 0, 0, 0]);
    assert_eq!(sent[12..], frame(60));
    // The consumer did not ask for another signal.
    let _ = bench.poll();
    assert!(!bench.driver.function.device().take_doorbell());
}

#[test]
fn a_legacy_driver_has_headers_of_10_bytes() {
    let mut bench = bench(4096, |device| Driver::legacy(device, (RX >> 12) as u32, GUEST_CSUM));
    let driver = &mut bench.driver;
    let _ = driver.outp(14, Width::Word, 1);
    let _ = driver.outp(8, Width::Dword, ((RING + 0x4000) >> 12) as u32);
    let (rx, tx) = (Ring::at(RX, 256), Ring::at(RING + 0x4000, 256));
    driver.memory.write(DATA + 0x2000, &frame(70)).unwrap();
    tx.descriptor(&driver.memory, 0, DATA + 0x2000, 70, 0, 0);
    tx.offer(&driver.memory, 0, 0);
    let _ = driver.outp(16, Width::Word, 1);
    let sent = bench.sent().unwrap();
    assert_eq!((&sent[..10], &sent[10..12], &sent[12..]), (&frame(10)[..], &[0, 0][..], &frame(70)[10..]));
    bench.give([1, 0, 0, 0, 0, 0, 34, 0, 16, 0, 0, 0], &frame(60));
    let driver = &mut bench.driver;
    rx.descriptor(&driver.memory, 0, DATA + 0x3000, 100, WRITE, 0);
    rx.offer(&driver.memory, 0, 0);
    let _ = driver.function.poll(&driver.memory);
    assert_eq!(rx.used(&driver.memory), (1, 0, 70));
    assert_eq!(driver.memory.bytes(DATA + 0x3000), [1, 0, 0, 0, 0, 0, 34, 0, 16, 0, 0, 1, 2]);
}

#[test]
fn a_frame_fills_one_buffer_where_the_driver_does_not_merge() {
    let mut bench = modern(0);
    bench.buffer(0, 71);
    bench.buffer(1, 72);
    assert_eq!(bench.kick(0), Effect::OUTPUT, "the ring's peer gets a first signal");
    assert_eq!(bench.rx.used(&bench.driver.memory).0, 0);
    bench.give([0; 12], &frame(60));
    bench.give([0; 12], &frame(59));
    assert_eq!(bench.poll(), Effect::LINES);
    assert_eq!(bench.rx.used(&bench.driver.memory), (1, 0, 71));
    assert_eq!(bench.driver.memory.bytes(bench.at(0)), [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 1, 2], "one buffer");
    assert_eq!(bench.dropped(), Dropped { sent: 0, received: 1 }, "the first is too long for the first buffer");
    bench.give([0; 12], &frame(60));
    let _ = bench.poll();
    assert_eq!(bench.rx.used(&bench.driver.memory), (2, 1, 72));
    assert!(bench.to.is_drained());
}

#[test]
fn a_frame_is_seen_when_all_its_buffers_are_there() {
    let mut bench = modern(MRG_RXBUF);
    for n in 0..2 {
        bench.buffer(n, 32);
    }
    bench.give([0; 12], &frame(90));
    let _ = bench.poll();
    assert_eq!(bench.rx.used(&bench.driver.memory).0, 0, "102 bytes do not fit 64");
    bench.buffer(2, 32);
    let _ = bench.kick(0);
    assert_eq!(bench.rx.used(&bench.driver.memory).0, 0);
    bench.buffer(3, 32);
    assert!(bench.kick(0).contains(Effect::LINES));
    let memory = &bench.driver.memory;
    assert_eq!(bench.rx.used(memory), (4, 3, 6));
    let entries: Vec<u64> = (0..4).map(|n| memory.read_u64(bench.rx.used + 4 + 8 * n).unwrap()).collect();
    assert_eq!(entries, [32 << 32, 32 << 32 | 1, 32 << 32 | 2, 6 << 32 | 3]);
    let mut found = Vec::new();
    for (n, len) in [(0, 32), (1, 32), (2, 32), (3, 6)] {
        found.extend(&memory.bytes::<32>(bench.at(n))[..len]);
    }
    assert_eq!((found[10], found[11]), (4, 0), "four buffers");
    assert_eq!(found[12..], frame(90));
    assert!(bench.to.is_drained());
}

#[test]
fn a_frame_that_the_whole_queue_has_no_room_for_is_cut() {
    let mut bench = modern(MRG_RXBUF);
    for n in 0..8 {
        bench.buffer(n, 16);
    }
    bench.give([0; 12], &frame(200));
    bench.give([0; 12], &frame(14));
    let _ = bench.poll();
    assert_eq!(bench.rx.used(&bench.driver.memory), (8, 7, 16));
    assert_eq!(bench.driver.memory.bytes::<12>(bench.at(0))[10], 8);
    bench.buffer(8 % 8, 64);
    bench.rx.offer(&bench.driver.memory, 8, 0);
    let _ = bench.kick(0);
    assert_eq!(bench.rx.used(&bench.driver.memory), (9, 0, 26), "the next one comes");
}

#[test]
fn a_driver_gets_only_what_it_takes() {
    const CSUM: [u8; 12] = [1, 0, 0, 0, 0, 0, 34, 0, 16, 0, 0, 0];
    const TSO4: [u8; 12] = [1, 1, 54, 0, 180, 5, 34, 0, 16, 0, 0, 0];
    let ecn = {
        let mut header = TSO4;
        header[1] |= 0x80;
        header
    };
    let unknown = {
        let mut header = TSO4;
        header[1] = 2;
        header
    };
    for (features, takes) in [
        (0, [false; 4]),
        (GUEST_CSUM, [true, false, false, false]),
        (GUEST_CSUM | GUEST_TSO4, [true, true, false, false]),
        (GUEST_CSUM | GUEST_TSO4 | GUEST_ECN, [true, true, true, false]),
    ] {
        for (header, takes) in [CSUM, TSO4, ecn, unknown].into_iter().zip(takes) {
            let mut bench = modern(features);
            bench.buffer(0, 200);
            bench.give(header, &frame(100));
            let _ = bench.poll();
            assert_eq!(bench.rx.used(&bench.driver.memory).0, takes.into(), "{features:#x} {header:?}");
            assert_eq!(bench.dropped().received, u64::from(!takes));
            assert!(bench.to.is_drained());
        }
    }
    let mut bench = modern(0);
    bench.buffer(0, 200);
    let mut record = bench.to.reserve(11).unwrap();
    record.write(&[0; 11]).unwrap();
    record.publish();
    let _ = bench.poll();
    assert_eq!(bench.dropped().received, 1, "that is no header");
}

#[test]
fn frames_of_a_wrong_length_are_dropped() {
    let mut bench = modern(0);
    let memory = &bench.driver.memory;
    for (n, len) in [(0, 12 + 13), (1, 12 + 65_551), (2, 12 + 14)] {
        // The long one reads the same bytes again and again.
        let pieces = u32::div_ceil(len, 0x4000).max(1);
        let table = DATA + 0x1000;
        for piece in 0..pieces as u16 {
            let rest = len - 0x4000 * u32::from(piece);
            let next = if u32::from(piece) + 1 < pieces { NEXT } else { 0 };
            driver::write_descriptor(memory, table, piece, DATA + 0x2000, rest.min(0x4000), next, piece + 1);
        }
        for piece in 0..pieces as u16 {
            let bytes = memory.bytes::<16>(table + 16 * u64::from(piece));
            memory.write(bench.tx.table + 16 * u64::from(piece), &bytes).unwrap();
        }
        bench.tx.offer(memory, n, 0);
        let _ = bench.driver.function.write(4, 0x3004, Width::Word, 1, memory);
        assert_eq!(bench.tx.used(memory).0, n + 1);
    }
    assert_eq!(bench.sent().map(|record| record.len()), Some(26));
    assert_eq!(bench.sent(), None);
    assert_eq!(bench.dropped(), Dropped { sent: 2, received: 0 });
}

#[test]
fn a_request_that_is_no_frame_breaks_the_queue() {
    for (len, flags) in [(11, 0), (100, WRITE)] {
        let mut bench = modern(0);
        bench.tx.descriptor(&bench.driver.memory, 0, DATA, len, flags, 0);
        bench.tx.offer(&bench.driver.memory, 0, 0);
        let _ = bench.kick(1);
        assert_eq!(bench.driver.function.take_fault(), Some(Fault { queue: 1, broken: Broken::Request }));
    }
}

#[test]
fn a_full_ring_keeps_the_rest_until_there_is_room() {
    let mut bench = modern(0);
    let memory = &bench.driver.memory;
    for n in 0..8 {
        memory.write(DATA + 12, &[0; 14]).unwrap();
        bench.tx.descriptor(memory, n, DATA, 1000, 0, 0);
        bench.tx.offer(memory, n, n);
    }
    let _ = bench.kick(1);
    assert_eq!(bench.tx.used(&bench.driver.memory).0, 4, "4096 bytes have room for four times 1004");
    assert!(bench.driver.function.device().take_doorbell());
    assert_eq!(bench.poll() & Effect::OUTPUT, Effect::QUIET, "there is nothing to ask for again");
    assert!(bench.from.must_signal());
    for _ in 0..4 {
        assert!(bench.sent().is_some());
    }
    assert!(bench.from.must_signal(), "the device asked for it");
    let _ = bench.poll();
    assert_eq!(bench.tx.used(&bench.driver.memory).0, 8);
    assert_eq!(bench.dropped(), Dropped::default());
}

#[test]
fn commands_have_answers() {
    let mut bench = modern(0);
    let own = [1, 1, 0x02, 1, 2, 3, 4, 5];
    let other = [1, 1, 0x02, 1, 2, 3, 4, 6];
    for (n, (command, answer)) in [
        (&[0, 0, 1][..], 0),
        (&[0, 1, 1], 0),
        (&[0, 5, 1], 1),
        (&[0, 0], 1),
        (&[1, 0, 0, 0, 0, 0, 0, 0, 0, 0], 0),
        (&own, 0),
        (&other, 1),
        (&own[..7], 1),
        (&[4, 0, 1, 0], 1),
        (&[], 1),
    ]
    .into_iter()
    .enumerate()
    {
        assert_eq!(bench.command(n as u16, command), answer, "{command:?}");
    }
}

#[test]
fn broken_rings_take_the_link_down() {
    let mut bench = modern(0);
    bench.windows[1].write_u32(0, 4).unwrap();
    bench.buffer(0, 100);
    let _ = bench.poll();
    assert_eq!(bench.driver.function.device().take_link_change(), Some(false));
    assert_eq!(bench.driver.function.device().take_link_change(), None, "it is told once");
    assert_eq!(bench.driver.read(4, 0x2006, Width::Word), 0);
    bench.windows[0].write_u32(64, 4).unwrap();
    bench.tx.descriptor(&bench.driver.memory, 0, DATA, 100, 0, 0);
    bench.tx.offer(&bench.driver.memory, 0, 0);
    let _ = bench.kick(1);
    assert_eq!(bench.tx.used(&bench.driver.memory).0, 1, "the driver gets its buffer back");
    assert_eq!(bench.dropped().sent, 1);
    let [from, to] = bench.windows.map(|window| RecordRing::new(window).unwrap());
    (bench.from, bench.to) = (from.consumer(), to.producer());
    let _ = bench.poll();
    assert_eq!(bench.driver.function.device().take_link_change(), Some(true));
    assert_eq!(bench.driver.function.take_fault(), None, "it was not the driver");
}

#[test]
fn a_reset_drops_what_came_before() {
    let mut bench = modern(MRG_RXBUF);
    bench.buffer(0, 32);
    bench.give([0; 12], &frame(90));
    bench.give([0; 12], &frame(90));
    let _ = bench.poll();
    bench.driver.set_status(0);
    assert!(bench.to.is_drained());
    bench.driver.memory.write(RX, &[0; 0x2000]).unwrap();
    bench.driver.initialise(MRG_RXBUF);
    bench.give([0; 12], &frame(20));
    let rx = Ring::at(RX, 8);
    bench.driver.set_up(0, &rx);
    bench.buffer(0, 64);
    bench.driver.set_status(0x0f);
    assert_eq!(bench.rx.used(&bench.driver.memory), (1, 0, 32));
}

#[derive(Clone, Debug)]
enum Act {
    Describe(u8, u16, u64, u32, u16, u16),
    Offer(u8, u16),
    Kick(u64),
    Poll,
    Give(Vec<u8>),
    Take,
    Lie(bool, u64, u32),
    Restart(u32),
}

fn act() -> impl Strategy<Value = Act> {
    let len = prop_oneof![6 => 0..0x100u32, 2 => Just(12u32), 1 => any::<u32>()];
    let describe = (0..3u8, 0..8u16, DATA..DATA + 0x1000, len, 0..4u16, 0..8u16);
    prop_oneof![
        8 => describe.prop_map(|(q, n, gpa, len, flags, next)| Act::Describe(q, n, gpa, len, flags, next)),
        8 => (0..3u8, 0..8u16).prop_map(|(q, head)| Act::Offer(q, head)),
        6 => (0..3u64).prop_map(Act::Kick),
        3 => Just(Act::Poll),
        4 => prop::collection::vec(prop_oneof![3 => Just(0u8), 1 => any::<u8>()], 0..200).prop_map(Act::Give),
        3 => Just(Act::Take),
        1 => (any::<bool>(), prop::sample::select(std::vec![0u64, 4, 64, 68, 128]), any::<u32>())
            .prop_map(|(ring, at, value)| Act::Lie(ring, at, value)),
        1 => prop::sample::select(std::vec![0u32, MRG_RXBUF, GUEST_CSUM, MRG_RXBUF | GUEST_CSUM | 1 << 29]).prop_map(Act::Restart),
    ]
}

proptest! {
    #![proptest_config(driver::cases(200))]

    #[test]
    fn no_driver_and_no_peer_breaks_more_than_the_device(acts in prop::collection::vec(act(), 1..80)) {
        let mut bench = modern(MRG_RXBUF);
        let mut offered = [0u16; 3];
        for act in acts {
            bench.driver.memory.forget();
            let memory = &bench.driver.memory;
            let table = |q: u8| [RX, TX, CTRL][usize::from(q)];
            match act {
                Act::Describe(q, n, gpa, len, flags, next) => {
                    driver::write_descriptor(memory, table(q), n, gpa, len, flags, next);
                }
                Act::Offer(q, head) => {
                    Ring::at(table(q), 8).offer(memory, offered[usize::from(q)], head);
                    offered[usize::from(q)] += 1;
                }
                Act::Kick(q) => { let _ = bench.kick(q); }
                Act::Poll => { let _ = bench.poll(); }
                Act::Give(bytes) => {
                    if let Ok(mut record) = bench.to.reserve(bytes.len() as u32) {
                        record.write(&bytes).unwrap();
                        record.publish();
                    }
                }
                Act::Take => {
                    if let Ok(Some(record)) = bench.from.peek() {
                        prop_assert!(record.len() >= 12 + 14);
                        record.release();
                    }
                }
                Act::Lie(ring, at, value) => bench.windows[usize::from(ring)].write_u32(at, value).unwrap(),
                Act::Restart(features) => {
                    bench.driver.set_status(0);
                    memory_zero(&bench.driver.memory);
                    offered = [0; 3];
                    bench.driver.initialise(features);
                    for (n, at) in [RX, TX, CTRL].into_iter().enumerate() {
                        bench.driver.set_up(n as u16, &Ring::at(at, 8));
                    }
                    bench.driver.set_status(0x0f);
                }
            }
            prop_assert!(bench.driver.memory.writes.borrow().len() < 20_000);
        }
    }
}

fn memory_zero(memory: &Fake) {
    memory.write(RING, &[0; 0x6000]).unwrap();
}
