//! The socket device.

use super::{
    driver::{DATA, NEXT, WRITE, record_ring},
    *,
};
use crate::virtio::vsock::Vsock;
use mmio::{RecordConsumer, RecordProducer, RecordRing, Window};
use proptest::prelude::*;
use std::vec;

const CID: u32 = 0x0102_0304;
/// Descriptor tables of the three queues.
const TABLES: [u64; 3] = [RING, RING + 0x2000, RING + 0x4000];
/// Numbers of the queues.
const RX: usize = 0;
const TX: usize = 1;
const EVENT: usize = 2;

/// The device, its driver, and the other ends of its rings.
struct Bench {
    driver: Driver<Vsock>,
    queues: [Ring; 3],
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

/// One with rings of this size, without a driver.
fn bare(bytes: usize) -> Bench {
    let [(out, first), (into, second)] = [record_ring(bytes), record_ring(bytes)];
    let (from, to) = (out.consumer(), into.producer());
    let driver = Driver::new(Vsock::new(CID, out.producer(), into.consumer()));
    let queues = TABLES.map(|at| Ring::at(at, 8));
    Bench { driver, queues, from, to, windows: [first, second] }
}

/// One whose driver has just begun, and which has said so.
fn bench() -> Bench {
    let mut bench = bare(4096);
    bench.begin();
    let _ = bench.poll();
    while bench.sent().is_some() {}
    bench.driver.function.device().take_doorbell();
    bench
}

/// A packet's header of these ports, `len` and operation, and then its bytes.
fn packet(len: u32, op: u16, bytes: &[u8]) -> Vec<u8> {
    let mut packet = vec![0; 44];
    packet[..8].copy_from_slice(&u64::from(CID).to_le_bytes());
    packet[8..16].copy_from_slice(&9u64.to_le_bytes());
    packet[16..20].copy_from_slice(&1111u32.to_le_bytes());
    packet[20..24].copy_from_slice(&22u32.to_le_bytes());
    packet[24..28].copy_from_slice(&len.to_le_bytes());
    packet[28] = 1;
    packet[30..32].copy_from_slice(&op.to_le_bytes());
    packet[36..40].copy_from_slice(&0x4_0000u32.to_le_bytes());
    packet[40..44].copy_from_slice(&77u32.to_le_bytes());
    packet.extend(bytes);
    packet
}

impl Bench {
    /// Sets the driver up.
    fn begin(&mut self) {
        self.driver.initialise(0);
        for (n, ring) in self.queues.iter().enumerate() {
            self.driver.set_up(n as u16, ring);
        }
        self.driver.set_status(0x0f);
    }

    fn restart(&mut self) {
        self.driver.set_status(0);
        self.driver.memory.write(RING, &[0; 0x6000]).unwrap();
        self.begin();
    }

    fn kick(&mut self, queue: usize) -> Effect {
        let queue = queue as u64;
        self.driver.function.write(4, 0x3000 + 4 * queue, Width::Word, queue, &self.driver.memory)
    }

    fn poll(&mut self) -> Effect {
        self.driver.function.poll(&self.driver.memory)
    }

    /// Sends these bytes as one buffer, as the `n`th.
    fn send(&mut self, n: u16, bytes: &[u8]) {
        let memory = &self.driver.memory;
        memory.write(DATA, bytes).unwrap();
        self.queues[TX].descriptor(memory, n % 8, DATA, bytes.len() as u32, 0, 0);
        self.queues[TX].offer(memory, n, n % 8);
        let _ = self.kick(TX);
    }

    /// The next record from the device.
    fn sent(&mut self) -> Option<Vec<u8>> {
        let record = self.from.peek().unwrap()?;
        let mut bytes = vec![0; record.len() as usize];
        record.read(0, &mut bytes).unwrap();
        record.release();
        Some(bytes)
    }

    fn give(&mut self, bytes: &[u8]) {
        let mut record = self.to.reserve(bytes.len() as u32).unwrap();
        record.write(bytes).unwrap();
        record.publish();
    }

    /// Gives a queue a buffer of `len` bytes at its own place, as the `n`th.
    fn buffer(&self, queue: usize, n: u16, len: u32) {
        self.queues[queue].descriptor(&self.driver.memory, n, place(n), len, WRITE, 0);
        self.queues[queue].offer(&self.driver.memory, n, n);
    }

    fn used(&self, queue: usize) -> (u16, u32, u32) {
        self.queues[queue].used(&self.driver.memory)
    }

    fn fault(&mut self) -> Option<Fault> {
        self.driver.function.take_fault()
    }
}

fn place(n: u16) -> u64 {
    DATA + 0x200 * u64::from(n)
}

#[test]
fn it_is_found_by_modern_drivers() {
    let mut bench = bench();
    // Device type 19 has no legacy interface: 1af4:1053, revision 1 or above (4.1.2).
    assert_eq!(bench.driver.config().read(0x00, Width::Dword), 0x1053_1af4);
    assert!(bench.driver.config().read(0x08, Width::Byte) >= 1);
    let cid: Vec<u64> = (0..3).map(|n| bench.driver.read(4, 0x2000 + 4 * n, Width::Dword)).collect();
    assert_eq!(cid, [u64::from(CID), 0, 0], "guest_cid, 8 bytes");
    let _ = bench.driver.common(0, Width::Dword, 0);
    // STREAM, and of the transport ANY_LAYOUT, INDIRECT_DESC, EVENT_IDX.
    assert_eq!(bench.driver.read(4, 4, Width::Dword), 0x3800_0001);
}

#[test]
fn the_other_end_is_told_who_answers() {
    let mut bench = bare(4096);
    assert_eq!(bench.sent(), None);
    bench.begin();
    assert_eq!(bench.sent(), Some(vec![0]), "the driver's first reset");
    let _ = bench.poll();
    assert_eq!((bench.sent(), bench.sent()), (Some(vec![1]), None));
    bench.restart();
    let _ = bench.poll();
    assert_eq!([bench.sent(), bench.sent(), bench.sent()], [Some(vec![0]), Some(vec![1]), None]);
    bench.driver.set_status(0);
    bench.driver.set_status(0);
    assert_eq!((bench.sent(), bench.sent()), (Some(vec![0]), None));
}

#[test]
fn a_packet_is_a_record() {
    let mut bench = bench();
    let bytes = packet(5, 5, b"hello, and what the length leaves out");
    let memory = &bench.driver.memory;
    memory.write(DATA, &bytes).unwrap();
    bench.queues[TX].descriptor(memory, 0, DATA, 10, NEXT, 1);
    bench.queues[TX].descriptor(memory, 1, DATA + 10, 36, NEXT, 2);
    bench.queues[TX].descriptor(memory, 2, DATA + 46, bytes.len() as u32 - 46, 0, 0);
    bench.queues[TX].offer(memory, 0, 0);
    let _ = bench.kick(TX);
    assert_eq!(bench.used(TX), (1, 0, 0));
    assert_eq!(bench.sent(), Some(bytes[..49].to_vec()));
    assert_eq!(bench.fault(), None);
}

#[test]
fn a_packet_for_the_guest_fills_as_many_buffers_as_it_needs() {
    let mut bench = bench();
    let data: Vec<u8> = (0..100).collect();
    bench.give(&packet(100, 5, &data));
    bench.give(&packet(0, 6, &[]));
    for n in 0..3 {
        bench.buffer(RX, n, 44 + 40);
    }
    assert!(bench.poll().contains(Effect::LINES));
    assert_eq!(bench.used(RX), (3, 2, 44 + 20));
    for (n, part) in [(0, &data[..40]), (1, &data[40..80]), (2, &data[80..])] {
        let header = packet(part.len() as u32, 5, &[]);
        assert_eq!(bench.driver.memory.bytes::<44>(place(n)), header[..], "part {n}");
        let mut got = vec![0; part.len()];
        bench.driver.memory.read(place(n) + 44, &mut got).unwrap();
        assert_eq!(got, part);
    }
    assert!(!bench.to.is_drained(), "the second packet waits");
    bench.buffer(RX, 3, 44);
    let _ = bench.kick(RX);
    assert_eq!(bench.used(RX), (4, 3, 44));
    assert_eq!(bench.driver.memory.bytes::<44>(place(3)), packet(0, 6, &[])[..]);
    assert!(bench.to.is_drained());
}

#[test]
fn a_full_ring_keeps_packets_in_the_queue() {
    let mut bench = bare(128);
    bench.begin();
    let _ = bench.poll();
    while bench.sent().is_some() {}
    for n in 0..5 {
        bench.send(n, &packet(0, 6, &[]));
    }
    assert_eq!(bench.used(TX).0, 2, "128 bytes have room for two times 44 and its length");
    assert_eq!(bench.poll() & Effect::OUTPUT, Effect::QUIET, "there is nothing to ask for again");
    for got in [4, 5] {
        assert!(bench.sent().is_some() && bench.sent().is_some());
        assert!(bench.from.must_signal(), "the device asked for it");
        let _ = bench.poll();
        assert_eq!(bench.used(TX).0, got);
    }
}

#[test]
fn what_is_no_packet_breaks_the_queue() {
    let too_long = packet((64 << 10) + 1, 5, &[]);
    let more_than_there_is = packet(3, 5, b"ab");
    for bytes in [&packet(0, 1, &[])[..43], &more_than_there_is, &too_long, &packet(u32::MAX, 5, b"ab")] {
        let mut bench = bench();
        bench.send(0, bytes);
        assert_eq!(bench.fault(), Some(Fault { queue: 1, broken: Broken::Request }), "{} bytes", bytes.len());
        assert_eq!(bench.sent(), None);
    }
    // A buffer for the device to write, among what it sends.
    let mut bench = bench();
    bench.buffer(TX, 0, 100);
    let _ = bench.kick(TX);
    assert_eq!(bench.fault(), Some(Fault { queue: 1, broken: Broken::Request }));
}

#[test]
fn a_buffer_without_room_for_a_header_and_a_byte_breaks_the_queue() {
    for (len, data) in [(43, &[][..]), (44, b"a")] {
        let mut bench = bench();
        bench.give(&packet(data.len() as u32, 5, data));
        bench.buffer(RX, 0, len);
        let _ = bench.kick(RX);
        assert_eq!(bench.fault(), Some(Fault { queue: 0, broken: Broken::Request }), "{len}");
        assert!(!bench.to.is_drained(), "it is there for the next driver");
    }
}

#[test]
fn buffers_that_wait_for_something_to_come_cost_nothing() {
    let mut bench = bench();
    for queue in [RX, EVENT] {
        bench.buffer(queue, 0, 100);
        assert_eq!(bench.kick(queue), Effect::QUIET, "queue {queue}");
    }
    assert_eq!(bench.poll(), Effect::QUIET);
}

#[test]
fn a_driver_is_told_that_its_connections_are_lost() {
    let mut bench = bench();
    bench.give(&[2]);
    let _ = bench.poll();
    assert_eq!((bench.sent(), bench.sent()), (Some(vec![1]), None), "whoever answers says so again");
    bench.buffer(EVENT, 0, 4);
    bench.driver.memory.write(place(0), &[9; 4]).unwrap();
    let _ = bench.kick(EVENT);
    assert_eq!(bench.used(EVENT), (1, 0, 4));
    assert_eq!(bench.driver.memory.bytes::<4>(place(0)), [0; 4], "VIRTIO_VSOCK_EVENT_TRANSPORT_RESET");
    bench.buffer(EVENT, 1, 4);
    let _ = bench.kick(EVENT);
    assert_eq!(bench.used(EVENT).0, 1, "once");
}

#[test]
fn broken_rings_are_reported_to_both_sides() {
    let mut bench = bench();
    bench.windows[0].write_u32(64, 4).unwrap();
    bench.buffer(EVENT, 0, 4);
    bench.send(0, &packet(0, 1, &[]));
    assert_eq!(bench.used(TX).0, 1, "the driver gets its buffer back");
    let _ = bench.poll();
    assert_eq!(bench.used(EVENT).0, 1);
    assert!(bench.driver.function.device().take_broken());
    assert!(!bench.driver.function.device().take_broken(), "once");
    assert_eq!(bench.fault(), None, "it was not the driver");
    // Their other ends are made anew.
    let [from, to] = bench.windows.map(|window| RecordRing::new(window).unwrap());
    (bench.from, bench.to) = (from.consumer(), to.producer());
    assert!(bench.driver.function.device().announce());
    bench.from.mend();
    assert_eq!(bench.sent(), Some(vec![1]), "they are told that a driver answers");
}

#[test]
fn a_reset_drops_what_came_before() {
    let mut bench = bench();
    bench.give(&packet(8, 5, &[7; 8]));
    bench.give(&packet(0, 6, &[]));
    bench.buffer(RX, 0, 46);
    let _ = bench.kick(RX);
    assert_eq!(bench.used(RX).0, 1);
    bench.restart();
    assert!(bench.to.is_drained());
    let _ = bench.poll();
    bench.give(&packet(3, 5, b"new"));
    bench.buffer(RX, 0, 100);
    let _ = bench.poll();
    assert_eq!(bench.used(RX), (1, 0, 47));
    assert_eq!(bench.driver.memory.bytes::<3>(place(0) + 44), *b"new");
}

#[derive(Clone, Debug)]
enum Act {
    Describe(usize, u16, u64, u32, u16, u16),
    Offer(usize, u16),
    Kick(usize),
    Poll,
    Give(u32, Vec<u8>),
    Notice,
    Take,
    Lie(bool, u64, u32),
    Restart,
}

fn act() -> impl Strategy<Value = Act> {
    let len = prop_oneof![6 => 0..0x100u32, 2 => Just(44u32), 1 => any::<u32>()];
    let describe = (0..3usize, 0..8u16, DATA..DATA + 0x1000, len, 0..4u16, 0..8u16);
    let bytes = || prop::collection::vec(prop_oneof![3 => Just(0u8), 1 => any::<u8>()], 0..100);
    prop_oneof![
        8 => describe.prop_map(|(q, n, gpa, len, flags, next)| Act::Describe(q, n, gpa, len, flags, next)),
        8 => (0..3usize, 0..8u16).prop_map(|(q, head)| Act::Offer(q, head)),
        6 => (0..3usize).prop_map(Act::Kick),
        3 => Just(Act::Poll),
        4 => (any::<u32>(), bytes()).prop_map(|(len, bytes)| Act::Give(len, bytes)),
        1 => Just(Act::Notice),
        3 => Just(Act::Take),
        1 => (any::<bool>(), prop::sample::select(std::vec![0u64, 4, 64, 68, 128]), any::<u32>())
            .prop_map(|(ring, at, value)| Act::Lie(ring, at, value)),
        1 => Just(Act::Restart),
    ]
}

proptest! {
    #![proptest_config(driver::cases(300))]

    #[test]
    fn no_driver_and_no_peer_breaks_more_than_the_device(acts in prop::collection::vec(act(), 1..80)) {
        let mut bench = bench();
        let mut offered = [0u16; 3];
        let mut up = 1;
        for act in acts {
            bench.driver.memory.forget();
            let memory = &bench.driver.memory;
            match act {
                Act::Describe(q, n, gpa, len, flags, next) => {
                    driver::write_descriptor(memory, TABLES[q], n, gpa, len, flags, next);
                }
                Act::Offer(q, head) => {
                    bench.queues[q].offer(memory, offered[q], head);
                    offered[q] += 1;
                }
                Act::Kick(q) => { let _ = bench.kick(q); }
                Act::Poll => { let _ = bench.poll(); }
                Act::Give(len, bytes) => {
                    if let Ok(mut record) = bench.to.reserve(44 + bytes.len() as u32) {
                        record.write(&packet(len, 5, &bytes)).unwrap();
                        record.publish();
                    }
                }
                Act::Notice => {
                    if let Ok(mut record) = bench.to.reserve(1) {
                        record.write(&[2]).unwrap();
                        record.publish();
                    }
                }
                Act::Take => {
                    if let Ok(Some(record)) = bench.from.peek() {
                        let mut head = [0; 44];
                        match record.len() {
                            1 => {
                                record.read(0, &mut head[..1]).unwrap();
                                up = head[0];
                                prop_assert!(up < 2);
                            }
                            len => {
                                record.read(0, &mut head).unwrap();
                                prop_assert_eq!(u32::from_le_bytes(head[24..28].try_into().unwrap()) + 44, len);
                                prop_assert_eq!(up, 1, "packets come from drivers that answer");
                            }
                        }
                        record.release();
                    }
                }
                Act::Lie(ring, at, value) => {
                    bench.windows[usize::from(ring)].write_u32(at, value).unwrap();
                    if !ring {
                        // What this end makes of it is no matter.
                        return Ok(());
                    }
                }
                Act::Restart => {
                    bench.restart();
                    offered = [0; 3];
                }
            }
            prop_assert!(bench.driver.memory.writes.borrow().len() < 20_000);
        }
    }
}
