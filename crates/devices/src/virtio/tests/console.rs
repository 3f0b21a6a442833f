//! The console device, and two of them with a pair of rings between them.

use super::{
    driver::{DATA, NEXT, WRITE},
    *,
};
use crate::virtio::console::{Console, MAX_PORTS, QUEUES};
use mmio::{Consumer, Producer, Window};
use proptest::prelude::*;
use std::{vec, vec::Vec};

/// Entries of each queue, as the driver has them.
const SIZE: u16 = 8;
/// Numbers of queues: of port 0, of messages, and of port 1.
const RX: usize = 0;
const TX: usize = 1;
const ANSWERS: usize = 2;
const ORDERS: usize = 3;
const RX1: usize = 4;
const TX1: usize = 5;
/// VIRTIO_CONSOLE_F_SIZE, MULTIPORT, EMERG_WRITE.
const MULTIPORT: u32 = 1 << 1;

/// A queue's ring: each has a page for the driver's parts, and one for the used ring.
fn ring(queue: usize) -> Ring {
    Ring::at(RAM + 0x2000 * queue as u64, SIZE)
}

/// Where a queue's buffer lies.
fn place(queue: usize, n: u16) -> u64 {
    RAM + 0x2000 * queue as u64 + 0x400 + 0x80 * u64::from(n % SIZE)
}

const RAM: u64 = driver::RAM + 0x1000;
const BYTES: u32 = 0x80;

/// A device, its driver, and how many requests the driver has made of each queue, and has seen the end of.
struct Bench {
    driver: Driver<Console>,
    made: [u16; QUEUES],
    seen: [u16; QUEUES],
}

/// A ring of this capacity.
fn pipe(capacity: usize) -> (mmio::Ring, Window) {
    let window = Window::leak(vec![0; 65 + capacity].leak());
    (mmio::Ring::new(window).unwrap(), window)
}

/// A device with a terminal and the other ends of its rings.
fn terminal() -> (Bench, Consumer, Producer) {
    let [(out, _), (into, _)] = [pipe(100), pipe(100)];
    let mut device = Console::default();
    device.add_terminal(out.producer(), into.consumer());
    (Bench::of(device), out.consumer(), into.producer())
}

/// Two devices, each with a port that leads to the other, and the rings from the first and to it.
fn pair(capacity: usize) -> ([Bench; 2], [Window; 2]) {
    let [(there, first), (back, second)] = [pipe(capacity), pipe(capacity)];
    let ends = [(there, back), (back, there)].map(|(output, input)| {
        let mut device = Console::default();
        assert_eq!(device.add("bytes", output.producer(), input.consumer()), Some(1));
        Bench::of(device)
    });
    (ends, [first, second])
}

fn message(id: u32, event: u16, value: u16) -> [u8; 8] {
    let mut bytes = [0; 8];
    bytes[..4].copy_from_slice(&id.to_le_bytes());
    bytes[4..6].copy_from_slice(&event.to_le_bytes());
    bytes[6..].copy_from_slice(&value.to_le_bytes());
    bytes
}

impl Bench {
    fn of(device: Console) -> Self {
        Self { driver: Driver::new(device), made: [0; QUEUES], seen: [0; QUEUES] }
    }

    /// Sets the driver up with its queues up to port 1's, and empty buffers for messages.
    fn begin(&mut self, features: u32) {
        self.driver.set_status(0);
        self.driver.memory = Fake::new(driver::RAM, driver::LEN);
        let _ = self.driver.function.write_config(0x04, Width::Word, 0x0007, &self.driver.memory);
        (self.made, self.seen) = ([0; QUEUES], [0; QUEUES]);
        self.driver.initialise(features);
        for queue in 0..=TX1 {
            self.driver.set_up(queue as u16, &ring(queue));
        }
        self.driver.set_status(0x0f);
        for _ in 0..SIZE {
            self.buffer(ANSWERS, BYTES);
        }
    }

    /// As Linux does: tells that it is ready, and takes port `n`. The messages that this earns.
    fn ready(&mut self, n: u32) -> Vec<Vec<u8>> {
        self.begin(MULTIPORT);
        self.order(&message(0xffff_ffff, 0, 1));
        let mut all = self.answers();
        self.order(&message(n, 3, 1));
        all.extend(self.answers());
        all
    }

    fn offer(&mut self, queue: usize, gpa: u64, len: u32, flags: u16) {
        let n = self.made[queue];
        ring(queue).descriptor(&self.driver.memory, n % SIZE, gpa, len, flags, 0);
        ring(queue).offer(&self.driver.memory, n, n % SIZE);
        self.made[queue] = n.wrapping_add(1);
    }

    /// Gives a queue a buffer of so many bytes.
    fn buffer(&mut self, queue: usize, len: u32) {
        self.offer(queue, place(queue, self.made[queue]), len, WRITE);
    }

    /// Sends these bytes as one buffer.
    fn send(&mut self, queue: usize, bytes: &[u8]) {
        let at = place(queue, self.made[queue]);
        self.driver.memory.write(at, bytes).unwrap();
        self.offer(queue, at, bytes.len() as u32, 0);
        let _ = self.kick(queue);
    }

    fn order(&mut self, bytes: &[u8]) {
        self.send(ORDERS, bytes);
    }

    fn kick(&mut self, queue: usize) -> Effect {
        let queue = queue as u64;
        self.driver.function.write(4, 0x3000 + 4 * queue, Width::Word, queue, &self.driver.memory)
    }

    /// What the board does when the device has output, or is signalled; returns the ports whose other ends it signals.
    fn serve(&mut self) -> u32 {
        let mut rung = 0;
        for _ in 0..8 {
            self.driver.function.device().take_again();
            let _ = self.driver.function.poll(&self.driver.memory);
            rung |= self.driver.function.device().take_doorbells();
            if !self.driver.function.device().take_again() {
                return rung;
            }
        }
        panic!("it wants to be polled again and again");
    }

    /// The requests of a queue that were used since the last call: what was written.
    fn used(&mut self, queue: usize) -> Vec<Vec<u8>> {
        let index = ring(queue).used(&self.driver.memory).0;
        let mut all = Vec::new();
        while self.seen[queue] != index {
            let at = ring(queue).used + 4 + 8 * u64::from(self.seen[queue] % SIZE);
            let [head, len] = [at, at + 4].map(|at| self.driver.memory.read_u32(at).unwrap());
            let mut bytes = vec![0; len as usize];
            self.driver.memory.read(place(queue, head as u16), &mut bytes).unwrap();
            all.push(bytes);
            self.seen[queue] = self.seen[queue].wrapping_add(1);
        }
        all
    }

    /// The messages that have come; their buffers are given again.
    fn answers(&mut self) -> Vec<Vec<u8>> {
        let mut all = Vec::new();
        loop {
            self.serve();
            let some = self.used(ANSWERS);
            if some.is_empty() {
                return all;
            }
            for _ in &some {
                self.buffer(ANSWERS, BYTES);
            }
            all.extend(some);
        }
    }

    fn fault(&mut self) -> Option<Fault> {
        self.driver.function.take_fault()
    }

    fn config(&mut self) -> [u64; 4] {
        [(0, Width::Word), (2, Width::Word), (4, Width::Dword), (8, Width::Dword)]
            .map(|(at, width)| self.driver.read(4, 0x2000 + at, width))
    }
}

fn opened(n: u32, open: u16) -> Vec<Vec<u8>> {
    vec![message(n, 6, open).to_vec()]
}

/// Both drivers have taken their ports and opened them.
fn connected(capacity: usize) -> ([Bench; 2], [Window; 2]) {
    let (mut ends, windows) = pair(capacity);
    for end in &mut ends {
        end.ready(1);
    }
    for n in 0..2 {
        ends[n].order(&message(1, 6, 1));
        assert_eq!(ends[n].serve(), 1 << 1, "the other end is signalled");
        assert_eq!(ends[1 - n].answers(), opened(1, 1));
    }
    (ends, windows)
}

#[test]
fn it_is_what_section_5_3_says() {
    let (mut bench, _, mut input) = terminal();
    let config = bench.driver.config();
    let identity = [0x00, 0x08, 0x2c].map(|register| config.read(register, Width::Dword));
    assert_eq!(identity, [0x1003_1af4, 0x0780_0000, 0x0003_1af4]);
    assert_eq!(bench.driver.read(4, 0x04, Width::Dword) & 7, 7, "SIZE, MULTIPORT and EMERG_WRITE");
    assert_eq!(bench.driver.read(4, 0x12, Width::Word), 12, "queues");
    input.set_word(50 << 16 | 132);
    assert_eq!(bench.config(), [132, 50, 1, 0]);
    let ([mut pair, _], _) = pair(10);
    assert_eq!(pair.driver.read(4, 0x04, Width::Dword) & 7, 2, "without a terminal, MULTIPORT");
    assert_eq!(pair.config(), [0, 0, 2, 0]);
}

#[test]
fn there_is_room_for_so_many_ports() {
    let mut device = Console::default();
    let mut add = || {
        let [(out, _), (into, _)] = [pipe(10), pipe(10)];
        device.add("one more", out.producer(), into.consumer())
    };
    for number in 1..MAX_PORTS {
        assert_eq!(add(), Some(number));
    }
    assert_eq!(add(), None);
}

/// A driver of the first days: port 0, and no messages.
#[test]
fn without_multiport_port_0_works_alone() {
    let (mut bench, mut output, mut input) = terminal();
    bench.begin(0);
    bench.send(TX, b"login: ");
    let mut bytes = [0; 10];
    assert_eq!((output.pop(&mut bytes), &bytes[..7]), (7, &b"login: "[..]));
    input.push(b"root");
    bench.buffer(RX, 3);
    let _ = bench.kick(RX);
    bench.buffer(RX, 3);
    bench.serve();
    assert_eq!(bench.used(RX), [b"roo".to_vec(), b"t".to_vec()]);
    bench.order(&message(0, 0, 1));
    assert!(bench.used(ORDERS).is_empty() && bench.answers().is_empty());
    let ([mut bench, _], _) = pair(10);
    bench.begin(0);
    bench.send(TX, b"nobody");
    bench.send(TX1, b"nobody");
    assert!(bench.used(TX).is_empty() && bench.used(TX1).is_empty());
}

#[test]
fn a_terminal_is_announced_as_a_console() {
    let (mut bench, _, mut input) = terminal();
    let all = bench.ready(0);
    assert_eq!(all, [message(0, 1, 1), message(0, 4, 1), message(0, 6, 1)].map(Vec::from));
    input.set_word(24 << 16 | 80);
    assert_eq!(bench.answers(), [[message(0, 5, 0).as_slice(), &[80, 0, 24, 0]].concat()], "RESIZE");
    assert!(bench.driver.function.device().take_resized() && !bench.driver.function.device().take_resized());
    assert!(bench.answers().is_empty(), "once");
    bench.order(&message(0, 6, 0));
    input.push(b"x");
    bench.buffer(RX, 1);
    bench.serve();
    assert_eq!(bench.used(RX), [b"x".to_vec()], "a console takes input whether it is open or not (5.3.6)");
}

#[test]
fn a_named_port_is_announced_with_its_name() {
    let ([mut bench, _], _) = pair(10);
    let name = [message(1, 7, 1).as_slice(), b"bytes"].concat();
    assert_eq!(bench.ready(1), [message(1, 1, 1).to_vec(), name]);
    assert_eq!(bench.ready(1).len(), 2, "a new driver gets the same");
}

#[test]
fn a_byte_of_an_emergency_is_printed_at_once() {
    let (mut bench, mut output, _) = terminal();
    assert!(!output.park());
    let effect = bench.driver.function.write(4, 0x2008, Width::Dword, 0x21, &bench.driver.memory);
    assert_eq!(effect, Effect::OUTPUT, "a doorbell");
    assert_eq!((output.pop_byte(), output.pop_byte()), (Some(b'!'), None));
    assert_eq!(bench.serve(), 1);
}

#[test]
fn bytes_go_from_end_to_end_and_a_full_ring_loses_none() {
    let ([mut a, mut b], _) = connected(100);
    let sent: Vec<u8> = (0..=255).cycle().take(3 * 128).collect();
    for piece in sent.chunks(128) {
        a.send(TX1, piece);
    }
    assert!(a.used(TX1).is_empty(), "100 bytes are in the ring, and the first request has more");
    let mut got = Vec::new();
    for _ in 0..20 {
        b.buffer(RX1, 50);
        if b.serve() != 0 {
            a.serve();
        }
        got.extend(b.used(RX1).concat());
    }
    assert_eq!(got, sent);
    assert_eq!(a.used(TX1).len(), 3);
    assert_eq!(a.kick(TX1), Effect::QUIET);
}

#[test]
fn a_request_of_several_buffers_goes_on_where_it_was() {
    let ([mut a, mut b], _) = connected(4);
    let memory = &a.driver.memory;
    memory.write(DATA, b"abcdefgh").unwrap();
    for (n, (gpa, len, flags)) in [(DATA, 3, NEXT), (DATA + 3, 2, NEXT), (DATA + 5, 3, 0)].into_iter().enumerate() {
        ring(TX1).descriptor(memory, n as u16, gpa, len, flags, n as u16 + 1);
    }
    ring(TX1).offer(memory, 0, 0);
    let _ = a.kick(TX1);
    let mut got = Vec::new();
    for _ in 0..4 {
        b.buffer(RX1, 10);
        b.serve();
        got.extend(b.used(RX1).concat());
        a.serve();
    }
    assert_eq!(got, b"abcdefgh");
}

#[test]
fn the_end_comes_behind_what_was_sent_before() {
    let ([mut a, mut b], _) = connected(4);
    a.send(TX1, b"abcdefgh");
    a.order(&message(1, 6, 0));
    a.serve();
    assert!(b.answers().is_empty(), "four bytes are in the ring, and four in the queue");
    b.buffer(RX1, 10);
    b.serve();
    a.serve();
    assert!(b.answers().is_empty(), "four bytes are in the ring");
    b.buffer(RX1, 10);
    b.serve();
    assert_eq!((b.used(RX1).concat(), b.answers()), (b"abcdefgh".to_vec(), opened(1, 0)));
}

#[test]
fn an_end_that_has_closed_and_opened_again_is_told_as_such() {
    let ([mut a, mut b], _) = connected(100);
    for open in [0, 1] {
        a.order(&message(1, 6, open));
        a.serve();
    }
    assert_eq!(b.answers(), [opened(1, 0), opened(1, 1)].concat());
    b.send(TX1, b"new");
    a.buffer(RX1, 10);
    a.serve();
    assert_eq!(a.used(RX1), [b"new".to_vec()]);
}

#[test]
fn bytes_for_who_does_not_listen_are_dropped() {
    let ([mut a, mut b], _) = connected(100);
    a.send(TX1, b"not read");
    b.order(&message(1, 6, 0));
    b.serve();
    a.send(TX1, b"not heard");
    assert_eq!(a.used(TX1).len(), 2, "the driver gets its buffers back");
    assert_eq!(a.answers(), opened(1, 0));
    b.order(&message(1, 6, 1));
    b.serve();
    assert_eq!(a.answers(), opened(1, 1));
    a.send(TX1, b"heard");
    b.buffer(RX1, 20);
    b.serve();
    assert_eq!(b.used(RX1), [b"heard".to_vec()]);
}

#[test]
fn an_end_whose_guest_resets_closes_and_a_full_ring_holds_nobody_up() {
    let ([mut a, mut b], _) = connected(4);
    a.send(TX1, b"more than fits");
    b.driver.set_status(0);
    assert_ne!(b.driver.function.device().take_doorbells() & 2, 0);
    assert_eq!(a.answers(), opened(1, 0));
    assert_eq!(a.used(TX1).len(), 1);
    assert!(b.ready(1).contains(&message(1, 6, 1).to_vec()), "the one is open still");
    b.order(&message(1, 6, 1));
    b.serve();
    assert_eq!(a.answers(), opened(1, 1));
    b.send(TX1, b"back");
    a.buffer(RX1, 20);
    a.serve();
    assert_eq!(a.used(RX1), [b"back".to_vec()]);
}

/// A new process at one end finds the rings as the last one left them.
#[test]
fn an_end_that_is_made_anew_closes() {
    let ([mut a, b], windows) = connected(100);
    drop(b);
    let [to, from] = windows.map(|window| mmio::Ring::new(window).unwrap());
    let mut device = Console::default();
    assert_eq!(device.add("bytes", from.producer(), to.consumer()), Some(1));
    assert_eq!(device.take_doorbells(), 2);
    assert_eq!(a.answers(), opened(1, 0));
    let mut b = Bench::of(device);
    b.ready(1);
    b.order(&message(1, 6, 1));
    b.serve();
    assert_eq!(a.answers(), opened(1, 1));
}

#[test]
fn messages_that_are_none_change_nothing() {
    let ([mut a, mut b], _) = connected(100);
    for bytes in [&[1, 0, 0, 0, 6, 0, 0][..], &[], &[0; 128], &message(0xffff_ffff, 6, 0), &message(2, 6, 0)] {
        a.order(bytes);
    }
    for event in (0..=0xffff).filter(|event| !matches!(event, 0 | 3 | 6)) {
        a.order(&message(1, event, 0));
        a.used(ORDERS);
    }
    assert_eq!((a.answers(), b.answers(), a.fault()), (vec![], vec![], None));
    a.send(TX1, b"still there");
    b.buffer(RX1, 20);
    b.serve();
    assert_eq!(b.used(RX1), [b"still there".to_vec()]);
}

#[test]
fn buffers_of_the_wrong_direction_or_none_are_broken() {
    for (queue, len, flags) in [(RX1, 8, 0), (RX1, 0, WRITE), (TX1, 8, WRITE), (ORDERS, 8, WRITE)] {
        let ([mut a, mut b], _) = connected(100);
        b.send(TX1, b"x");
        a.offer(queue, place(queue, 0), len, flags);
        let _ = a.kick(queue);
        assert_eq!(a.fault(), Some(Fault { queue: queue as u16, broken: Broken::Request }), "{queue} {len} {flags}");
        a.ready(1);
        assert_eq!(a.fault(), None);
    }
    let ([mut a, _], _) = pair(10);
    a.begin(MULTIPORT);
    a.driver.memory.write(ring(ANSWERS).table + 8, &[7, 0, 0, 0]).unwrap();
    a.order(&message(0, 0, 1));
    a.serve();
    assert_eq!(a.fault(), Some(Fault { queue: 2, broken: Broken::Request }), "a message has 8 bytes");
}

/// Buffers for messages and bytes to come, and nothing to do: the driver need not notify, and nobody polls.
#[test]
fn an_idle_port_costs_nothing() {
    let ([mut a, mut b], _) = connected(100);
    for end in [&mut a, &mut b] {
        end.buffer(RX1, 8);
        assert_eq!(end.kick(RX1), Effect::QUIET);
        assert_eq!(end.serve(), 0);
        assert_eq!(end.driver.function.poll(&end.driver.memory), Effect::QUIET);
    }
    a.send(TX1, b"x");
    assert_eq!(a.serve(), 2, "b has parked");
    a.send(TX1, b"y");
    assert_eq!(a.serve(), 0, "one signal wakes it");
}

#[derive(Clone, Debug)]
enum Act {
    Describe(usize, u16, u64, u32, u16, u16),
    Offer(usize, u16),
    Kick(usize),
    Serve,
    Order(u32, u16, u16),
    Config(u16, u8),
    Lie(bool, u64, u32),
    Restart(u32),
}

fn act() -> impl Strategy<Value = Act> {
    let len = prop_oneof![6 => 0..0x100u32, 1 => any::<u32>()];
    let flags = prop_oneof![8 => 0..4u16, 1 => Just(4u16)];
    let describe = (0..=TX1, 0..SIZE, DATA..DATA + 0x1000, len, flags, 0..SIZE);
    let id = prop_oneof![4 => 0..3u32, 1 => any::<u32>()];
    let event = prop_oneof![8 => 0..9u16, 1 => any::<u16>()];
    prop_oneof![
        8 => describe.prop_map(|(q, n, gpa, len, flags, next)| Act::Describe(q, n, gpa, len, flags, next)),
        8 => (0..=TX1, 0..SIZE).prop_map(|(q, head)| Act::Offer(q, head)),
        6 => (0..=TX1).prop_map(Act::Kick),
        4 => Just(Act::Serve),
        6 => (id, event, 0..3u16).prop_map(|(id, event, value)| Act::Order(id, event, value)),
        1 => (0..16u16, any::<u8>()).prop_map(|(at, value)| Act::Config(at, value)),
        1 => (any::<bool>(), (0..6u64).prop_map(|word| 4 * word), prop_oneof![any::<u32>(), 0..4u32])
            .prop_map(|(ring, at, value)| Act::Lie(ring, at, value)),
        1 => prop::sample::select(std::vec![0, MULTIPORT, MULTIPORT | 1 << 28, MULTIPORT | 1 << 29]).prop_map(Act::Restart),
    ]
}

proptest! {
    #![proptest_config(driver::cases(300))]

    /// Whatever driver and other end do: no panic, no endless loop, and a device that works after a reset.
    #[test]
    fn no_driver_and_no_other_end_breaks_more_than_the_device(acts in prop::collection::vec(act(), 1..80)) {
        let ([mut a, mut b], windows) = connected(100);
        for act in acts {
            a.driver.memory.forget();
            let memory = &a.driver.memory;
            match act {
                Act::Describe(q, n, gpa, len, flags, next) => {
                    driver::write_descriptor(memory, ring(q).table, n, gpa, len, flags, next);
                }
                Act::Offer(q, head) => {
                    ring(q).offer(memory, a.made[q], head);
                    a.made[q] = a.made[q].wrapping_add(1);
                }
                Act::Kick(q) => { let _ = a.kick(q); }
                Act::Serve => { a.serve(); }
                Act::Order(id, event, value) => a.order(&message(id, event, value)),
                Act::Config(at, value) => {
                    let _ = a.driver.function.write(4, 0x2000 + u64::from(at), Width::Byte, value.into(), memory);
                }
                Act::Lie(ring, at, value) => windows[usize::from(ring)].write_u32(at, value).unwrap(),
                Act::Restart(features) => a.begin(features),
            }
            prop_assert!(a.driver.memory.writes.borrow().len() < 20_000);
        }
        // Both ends anew, and the rings empty: all works.
        for (end, window) in [(&mut a, windows[0]), (&mut b, windows[1])] {
            end.driver.set_status(0);
            window.fill(0, 16, 0).unwrap();
        }
        let [to, from] = windows.map(|window| mmio::Ring::new(window).unwrap());
        let mut ends = [(to, from), (from, to)].map(|(output, input)| {
            let mut device = Console::default();
            device.add("bytes", output.producer(), input.consumer());
            Bench::of(device)
        });
        for end in &mut ends {
            end.ready(1);
            end.order(&message(1, 6, 1));
        }
        let [a, b] = &mut ends;
        a.serve();
        a.send(TX1, b"ok");
        b.buffer(RX1, 10);
        b.serve();
        prop_assert_eq!(b.used(RX1), [b"ok".to_vec()]);
    }

    /// Drivers that keep to the rules: nothing is lost or comes twice within a session, sessions come in their order, and who
    /// has closed gets nothing.
    #[test]
    fn sessions_are_kept_apart(steps in prop::collection::vec((0..2usize, 0..5u8, 1..30u32), 1..120)) {
        let (mut ends, _) = connected(60);
        // By end: whether it is open, the last word that it has sent, and the last that came. The upper half of a word counts
        // the sender's sessions.
        let (mut open, mut sent, mut came) = ([true; 2], [0u32; 2], [0u32; 2]);
        // Whether it has been open since that came.
        let mut stayed = [true; 2];
        for (n, what, len) in steps {
            let end = &mut ends[n];
            let has_room = |queue: usize| end.made[queue].wrapping_sub(end.seen[queue]) < SIZE;
            match what {
                0 | 1 if open[n] && has_room(TX1) => {
                    let words = sent[n] + 1..=sent[n] + len;
                    sent[n] += len;
                    end.send(TX1, &words.flat_map(u32::to_le_bytes).collect::<Vec<_>>());
                }
                2 if has_room(RX1) => end.buffer(RX1, 4 * len),
                3 if len < 8 => {
                    (open[n], stayed[n]) = (!open[n], false);
                    sent[n] = ((sent[n] >> 16) + u32::from(open[n])) << 16;
                    end.order(&message(1, 6, open[n].into()));
                }
                _ => {}
            }
            for n in [n, 1 - n] {
                ends[n].answers();
                ends[n].used(TX1);
                for word in ends[n].used(RX1).concat().chunks(4) {
                    prop_assert!(open[n], "who has closed gets nothing");
                    let next = u32::from_le_bytes(word.try_into().unwrap());
                    let begins = next >> 16 > came[n] >> 16 && next & 0xffff == 1;
                    let follows = if stayed[n] { next == came[n] + 1 || begins } else { next > came[n] };
                    prop_assert!(follows, "{:#x} after {:#x}", next, came[n]);
                    (came[n], stayed[n]) = (next, true);
                }
            }
        }
    }
}
