//! The entropy device.

use super::{
    driver::{DATA, NEXT, WRITE},
    *,
};
use crate::virtio::entropy::{Entropy, EntropySource};

/// Bytes 1, 2, 3 …, as long as they last.
#[derive(Clone, Debug)]
struct Counter {
    last: u8,
    left: usize,
}

impl EntropySource for Counter {
    fn fill(&mut self, into: &mut [u8]) -> usize {
        let len = into.len().min(self.left);
        for byte in &mut into[..len] {
            self.last += 1;
            *byte = self.last;
        }
        self.left -= len;
        len
    }
}

fn driver(left: usize) -> (Driver<Entropy<Counter>>, Ring) {
    let ring = Ring::new(8);
    (Driver::modern(Entropy::new(Counter { last: 0, left }), &ring, 0), ring)
}

#[test]
fn it_is_found_by_either_kind_of_driver() {
    let (driver, _) = driver(0);
    let config = driver.config();
    // A transitional entropy device: 1af4:1005, revision 0, subsystem 4 (4.1.2).
    assert_eq!(config.read(0x00, Width::Dword), 0x1005_1af4);
    assert_eq!(config.read(0x08, Width::Dword), 0x00ff_0000);
    assert_eq!(config.read(0x2c, Width::Dword), 0x0004_1af4);
    assert_eq!(config.read(0x3c, Width::Word), 0x010b, "INTA#, at input 11");
}

#[test]
fn a_request_gets_at_most_64_bytes() {
    let (mut driver, ring) = driver(100);
    ring.descriptor(&driver.memory, 0, DATA, 10, WRITE | NEXT, 1);
    ring.descriptor(&driver.memory, 1, DATA + 0x100, 0x1000, WRITE, 0);
    ring.offer(&driver.memory, 0, 0);
    assert_eq!(driver.kick(), Effect::LINES);
    assert_eq!(ring.used(&driver.memory), (1, 0, 64));
    assert_eq!(driver.memory.bytes(DATA), [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 0]);
    assert_eq!(driver.memory.bytes(DATA + 0x100 + 52), [63, 64, 0]);
    ring.offer(&driver.memory, 1, 0);
    let _ = driver.kick();
    assert_eq!(ring.used(&driver.memory), (2, 0, 36), "what there is");
}

#[test]
fn without_bytes_the_request_waits_for_them() {
    let (mut driver, ring) = driver(0);
    ring.descriptor(&driver.memory, 0, DATA, 4, WRITE, 0);
    ring.offer(&driver.memory, 0, 0);
    assert_eq!(driver.kick(), Effect::OUTPUT);
    assert_eq!(ring.used(&driver.memory).0, 0);
    *driver.function.device() = Entropy::new(Counter { last: 8, left: 4 });
    assert_eq!(driver.function.poll(&driver.memory), Effect::LINES);
    assert_eq!(ring.used(&driver.memory), (1, 0, 4));
    assert_eq!(driver.memory.bytes(DATA), [9, 10, 11, 12]);
}

#[test]
fn a_request_to_read_is_none_of_this_device() {
    let (mut driver, ring) = driver(100);
    ring.descriptor(&driver.memory, 0, DATA, 4, 0, 0);
    ring.offer(&driver.memory, 0, 0);
    let _ = driver.kick();
    assert_eq!(driver.function.take_fault(), Some(Fault { queue: 0, broken: Broken::Request }));
}

#[test]
fn room_for_nothing_gets_nothing() {
    let (mut driver, ring) = driver(100);
    ring.descriptor(&driver.memory, 0, DATA, 0, WRITE, 0);
    ring.offer(&driver.memory, 0, 0);
    let _ = driver.kick();
    assert_eq!(ring.used(&driver.memory), (1, 0, 0));
}
