//! The driver between a switch's port and a controller, of which the test plays both: the honest ones, and others.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use e1000_driver::{Card, Counts, Fault, Link, Model, Registers, Uplink};
use ethernet::LONGEST;
use mmio::{RecordConsumer, RecordProducer, RecordRing, Window};
use proptest::prelude::*;
use proto::net::{HEADER, Mac};

const CTRL: u32 = 0x0000;
const STATUS: u32 = 0x0008;
const EERD: u32 = 0x0014;
const ICR: u32 = 0x00c0;
const IMS: u32 = 0x00d0;
const IMC: u32 = 0x00d8;
const RCTL: u32 = 0x0100;
const TCTL: u32 = 0x0400;
const RDBAL: u32 = 0x2800;
const TDBAL: u32 = 0x3800;
const TXDCTL: u32 = 0x3828;
const BYTES: u32 = 0x08;
const HEAD: u32 = 0x10;
const TAIL: u32 = 0x18;
const RESET: u32 = 1 << 26;

const BUS: u64 = 0x0400_0000;
/// Sixteen frames each way.
const SLOTS: u64 = 16;
const MEMORY: u64 = SLOTS * 2 * (16 + 2048);

/// What the controller is.
#[derive(Default)]
struct State {
    registers: HashMap<u32, u32>,
    writes: Vec<(u32, u32)>,
    eeprom: [u16; 3],
}

#[derive(Clone)]
struct Controller {
    state: Rc<RefCell<State>>,
    memory: Window,
}

impl Registers for Controller {
    fn read(&mut self, at: u32) -> u32 {
        let mut state = self.state.borrow_mut();
        match at {
            EERD => {
                let word = state.registers.get(&EERD).map_or(0, |command| command >> 8);
                state.eeprom.get(word as usize).map_or(0, |word| u32::from(*word) << 16 | 1 << 4)
            }
            ICR => state.registers.insert(ICR, 0).unwrap_or_default(),
            _ => state.registers.get(&at).copied().unwrap_or_default(),
        }
    }

    fn write(&mut self, at: u32, value: u32) {
        let mut state = self.state.borrow_mut();
        state.writes.push((at, value));
        match at {
            IMS => *state.registers.entry(IMS).or_default() |= value,
            IMC => *state.registers.entry(IMS).or_default() &= !value,
            CTRL => drop(state.registers.insert(CTRL, value & !RESET)),
            _ => drop(state.registers.insert(at, value)),
        }
    }
}

impl Controller {
    fn get(&self, at: u32) -> u32 {
        self.state.borrow().registers.get(&at).copied().unwrap_or_default()
    }

    fn set(&self, at: u32, value: u32) {
        self.state.borrow_mut().registers.insert(at, value);
    }

    /// Where a ring's descriptor is in the memory.
    fn descriptor(&self, ring: u32, number: u32) -> u64 {
        let base = u64::from(self.get(ring)) | u64::from(self.get(ring + 4)) << 32;
        base - BUS + u64::from(number) * 16
    }

    fn after(&self, ring: u32, number: u32) -> u32 {
        (number + 1) % (self.get(ring + BYTES) / 16)
    }

    /// Writes a frame to the next buffer; false if there is none.
    fn receive(&self, frame: &[u8]) -> bool {
        let head = self.get(RDBAL + HEAD);
        if head == self.get(RDBAL + TAIL) {
            return false;
        }
        let at = self.descriptor(RDBAL, head);
        assert_eq!(self.memory.read_u64(at + 8), Ok(0), "the last outcome is still there");
        let buffer = self.memory.read_u64(at).unwrap() - BUS;
        self.memory.write(buffer, frame).unwrap();
        self.memory.write_u64(at + 8, frame.len() as u64 | 3 << 32).unwrap();
        self.set(RDBAL + HEAD, self.after(RDBAL, head));
        true
    }

    /// Sends what there is to be sent, at most `most` frames.
    fn send(&self, most: usize) -> Vec<Vec<u8>> {
        let mut all = Vec::new();
        while self.get(TDBAL + HEAD) != self.get(TDBAL + TAIL) && all.len() < most {
            let head = self.get(TDBAL + HEAD);
            let at = self.descriptor(TDBAL, head);
            let command = self.memory.read_u64(at + 8).unwrap();
            assert_eq!(command >> 16, 0x0b00, "a whole frame, with FCS, and a report");
            let mut frame = vec![0; usize::from(command as u16)];
            self.memory.read(self.memory.read_u64(at).unwrap() - BUS, &mut frame).unwrap();
            self.memory.write_u8(at + 12, 1).unwrap();
            self.set(TDBAL + HEAD, self.after(TDBAL, head));
            all.push(frame);
        }
        all
    }
}

struct Bench {
    controller: Controller,
    uplink: Uplink<Controller>,
    /// The switch's ends.
    to: RecordProducer,
    from: RecordConsumer,
    /// The ring from the switch.
    ring: Window,
}

fn zeros(len: u64) -> Window {
    // Aligned to 16 bytes, as the driver's memory is.
    let words: &'static mut [u128] = vec![0; len as usize / 16].leak();
    Window::leak(zerocopy::IntoBytes::as_mut_bytes(words))
}

fn controller() -> Controller {
    let state = State { eeprom: [0x5452, 0x1200, 0x5634], ..State::default() };
    Controller { state: Rc::new(RefCell::new(state)), memory: zeros(MEMORY) }
}

fn bench() -> Bench {
    let controller = controller();
    let card = Card::start(controller.clone(), Model::I82540em, controller.memory, BUS).unwrap();
    let [output, input] = [(); 2].map(|()| zeros(128 + (1 << 18)));
    let [from, to] = [output, input].map(|window| RecordRing::new(window).unwrap());
    let uplink = Uplink::new(card, from.producer(), to.consumer());
    Bench { controller, uplink, to: to.producer(), from: from.consumer(), ring: input }
}

impl Bench {
    /// Puts a record in the ring from the switch.
    fn put(&mut self, header: [u8; HEADER], frame: &[u8]) {
        let mut record = self.to.reserve((HEADER + frame.len()) as u32).unwrap();
        record.write(&header).unwrap();
        record.write(frame).unwrap();
        record.publish();
    }

    fn run(&mut self) {
        while self.uplink.turn() {}
    }

    /// All records that the switch has got.
    fn got(&mut self) -> Vec<Vec<u8>> {
        let mut all = Vec::new();
        while let Some(record) = self.from.peek().unwrap() {
            let mut bytes = vec![0; record.len() as usize];
            record.read(0, &mut bytes).unwrap();
            record.release();
            all.push(bytes);
        }
        all
    }
}

const NONE: [u8; HEADER] = [0; HEADER];

/// A frame that no other is like.
fn frame(n: usize, len: usize) -> Vec<u8> {
    (0..len).map(|at| (at + n * 31) as u8).collect()
}

/// A segment of TCP in IPv4 with that many bytes of data.
fn segment(len: usize) -> ([u8; HEADER], Vec<u8>) {
    let mut frame = vec![0; 54 + len];
    (frame[12], frame[14], frame[23], frame[46]) = (8, 0x45, 6, 0x50);
    ([1, 1, 54, 0, 0xb4, 5, 34, 0, 16, 0, 0, 0], frame)
}

#[test]
fn the_controller_is_reset_and_then_started() {
    let controller = controller();
    controller.set(RCTL, 2);
    controller.set(TXDCTL, 7);
    let mut card = Card::start(controller.clone(), Model::I82574, controller.memory, BUS).unwrap();
    let writes = controller.state.borrow().writes.clone();
    let position = |wanted: &dyn Fn(&(u32, u32)) -> bool| writes.iter().position(wanted).expect("it was written");
    let reset = position(&|(at, value)| *at == CTRL && value & RESET != 0);
    assert!(position(&|write| *write == (RCTL, 0)) < reset && position(&|write| *write == (TCTL, 0)) < reset);
    assert!(position(&|(at, value)| *at == RCTL && value & 2 != 0) > reset);
    // Everything for one and for groups, without FCS; buffers of 2048 bytes.
    assert_eq!(controller.get(RCTL), 0x0400_801a);
    assert_eq!(controller.get(TCTL) & 0x3f_fffa, 0x04_00fa);
    assert_eq!(controller.get(TXDCTL), 7 | 1 << 22);
    assert_eq!(controller.get(IMS), 1 << 7 | 1 << 6 | 1 << 4 | 1 << 2);
    let rings = [RDBAL, TDBAL].map(|ring| [BYTES, HEAD, TAIL].map(|register| controller.get(ring + register)));
    assert_eq!(rings, [[256, 0, 15], [256, 0, 0]]);
    assert_eq!(card.mac(), Some(Mac([0x52, 0x54, 0, 0x12, 0x34, 0x56])));
    controller.set(0x5400, 0x4433_2202);
    controller.set(0x5404, 0x8000_6655);
    assert_eq!(card.mac(), Some(Mac([0x02, 0x22, 0x33, 0x44, 0x55, 0x66])));
    assert_eq!(card.link(), Link::Down);
    for (status, link) in [(0x83, "up, 1000 Mb/s, full duplex"), (0x42, "up, 100 Mb/s, half duplex")] {
        controller.set(STATUS, status);
        assert_eq!(card.link().to_string(), link);
    }
    controller.set(ICR, 4);
    assert_eq!([card.take_interrupt(), card.take_interrupt()], [true, false]);
}

#[test]
fn memory_for_seven_frames_is_too_little() {
    let controller = controller();
    let small = controller.memory.part(0, 7 * 2 * (16 + 2048)).unwrap();
    assert_eq!(Card::start(controller, Model::I82540em, small, BUS).err(), Some(Fault::Memory));
}

#[test]
fn frames_come_from_the_wire_in_their_order() {
    let mut bench = bench();
    for round in 0..20 {
        let frames: Vec<_> = (0..10).map(|n| frame(round * 10 + n, 60 + n * 100)).collect();
        assert!(frames.iter().all(|frame| bench.controller.receive(frame)));
        bench.run();
        let records: Vec<_> = frames.iter().map(|frame| [&NONE[..], frame].concat()).collect();
        assert_eq!(bench.got(), records);
    }
    assert_eq!(bench.uplink.counts(), Counts { received: 200, ..Counts::default() });
    // Fifteen have buffers, and the sixteenth has none.
    assert!((0..15).all(|n| bench.controller.receive(&frame(n, 60))) && !bench.controller.receive(&frame(15, 60)));
    bench.run();
    assert_eq!(bench.got().len(), 15);
}

#[test]
fn frames_go_to_the_wire_in_their_order() {
    let mut bench = bench();
    for round in 0..20 {
        let frames: Vec<_> = (0..10).map(|n| frame(round * 10 + n, 14 + n * 150)).collect();
        frames.iter().for_each(|frame| bench.put(NONE, frame));
        bench.run();
        assert_eq!(bench.controller.send(100), frames);
    }
    assert_eq!(bench.uplink.counts(), Counts { sent: 200, ..Counts::default() });
}

#[test]
fn a_large_segment_waits_for_the_controller_in_the_middle() {
    let mut bench = bench();
    let (header, segment) = segment(60_000);
    bench.put(header, &segment);
    let mut lens = Vec::new();
    for _ in 0..100 {
        bench.run();
        // The interrupt for room is on where there is none.
        let is_full = bench.controller.get(TDBAL + TAIL) != bench.controller.get(TDBAL + HEAD);
        lens.extend(bench.controller.send(4).iter().map(Vec::len));
        assert!(!is_full || bench.controller.get(IMS) & 1 != 0 || lens.len() >= 42 - 15);
    }
    assert_eq!(lens.len(), 60_000_usize.div_ceil(1460));
    assert_eq!(lens.iter().map(|len| len - 54).sum::<usize>(), 60_000);
    assert_eq!(bench.controller.get(IMS) & 1, 0, "nobody waits for room any more");
}

#[test]
fn what_the_wire_does_not_take_is_dropped_and_counted() {
    let mut bench = bench();
    bench.put(NONE, &frame(0, 1515));
    bench.put([1, 1, 0, 0, 0xb4, 5, 34, 0, 16, 0, 0, 0], &frame(1, 3000));
    bench.put([9; HEADER], &frame(2, 100));
    bench.put(NONE, &frame(3, 13));
    let mut record = bench.to.reserve(4).unwrap();
    record.write(&[0; 4]).unwrap();
    record.publish();
    bench.put(NONE, &frame(4, 1514));
    bench.run();
    assert_eq!(bench.controller.send(100), [frame(4, 1514)]);
    assert_eq!(bench.uplink.counts(), Counts { sent: 1, too_long: 1, malformed: 4, ..Counts::default() });
}

#[test]
fn what_the_controller_says_of_a_frame_is_checked() {
    let mut bench = bench();
    // Longer than its buffer; shorter than a frame; damaged; two parts, the second of which is no frame; and a good one.
    for (n, outcome) in [4096 | 3 << 32, 13 | 3 << 32, 60 | 0x0103 << 32, 2048 | 1 << 32, 100 | 3 << 32, 60 | 3 << 32]
        .into_iter()
        .enumerate()
    {
        let at = bench.controller.descriptor(RDBAL, n as u32);
        bench.controller.memory.write_u64(at + 8, outcome).unwrap();
        // The address is not used again.
        bench.controller.memory.write_u64(at, u64::MAX).unwrap();
    }
    bench.run();
    assert_eq!(bench.got().len(), 1);
    assert_eq!(bench.uplink.counts(), Counts { received: 1, damaged: 5, ..Counts::default() });
    for n in 0..6 {
        let buffer = bench.controller.memory.read_u64(bench.controller.descriptor(RDBAL, n)).unwrap();
        assert_eq!(buffer, BUS + SLOTS * 32 + u64::from(n) * 2048);
    }
}

#[test]
fn a_switch_that_takes_nothing_loses_frames_and_the_wire_goes_on() {
    let mut bench = bench();
    for n in 0..300 {
        assert!(bench.controller.receive(&frame(n, 1500)));
        bench.run();
    }
    let counts = bench.uplink.counts();
    assert_eq!((counts.received + counts.dropped, counts.dropped > 100), (300, true));
    assert_eq!(bench.got().len() as u64, counts.received);
}

#[test]
fn a_switch_that_breaks_its_ring_stops_what_it_sends() {
    let mut bench = bench();
    bench.ring.write_u32(0, 4).unwrap();
    bench.run();
    assert!(bench.controller.receive(&frame(1, 60)));
    bench.run();
    assert_eq!(bench.got().len(), 1, "the other direction goes on");
    assert!(bench.controller.send(100).is_empty());
}

#[test]
fn an_idle_uplink_touches_neither_the_controller_nor_the_switch() {
    let mut bench = bench();
    bench.put(NONE, &frame(0, 60));
    bench.run();
    bench.controller.send(100);
    bench.uplink.must_signal();
    bench.controller.state.borrow_mut().writes.clear();
    for _ in 0..10 {
        assert!(!bench.uplink.turn());
        assert!(!bench.uplink.must_signal());
    }
    assert!(bench.controller.state.borrow().writes.is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(1000) })]

    #[test]
    fn a_controller_that_writes_anything_does_no_harm(
        writes in prop::collection::vec((0..SLOTS * 32, any::<u8>(), 0usize..4), 1..200),
        sent in prop::collection::vec((any::<[u8; HEADER]>(), 0usize..2000), 0..40),
    ) {
        let mut bench = bench();
        let mut sent = sent.into_iter();
        for (at, byte, frames) in writes {
            bench.controller.memory.write_u8(at, byte).unwrap();
            for (header, len) in sent.by_ref().take(frames) {
                bench.put(header, &frame(len, len));
            }
            // One turn: a controller that says that all is done always keeps the driver busy.
            bench.uplink.turn();
            for record in bench.got() {
                prop_assert!((HEADER + 14..=HEADER + 2048).contains(&record.len()));
            }
        }
        prop_assert!(bench.controller.get(TDBAL + TAIL) < SLOTS as u32 && bench.controller.get(RDBAL + TAIL) < SLOTS as u32);
        prop_assert!(LONGEST <= 2048);
    }
}
