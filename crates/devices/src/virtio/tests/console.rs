//! The console device, and two of them with a pair of rings between them.

mod bytes;
mod properties;
mod what_it_is;

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
