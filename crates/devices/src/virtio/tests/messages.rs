//! Interrupts by messages.

use std::vec;

use super::{
    driver::{DATA, WRITE},
    *,
};

/// Vectors that a driver gives to the entries of the table: configuration, queues 0 and 1.
const VECTORS: [u32; 3] = [0x41, 0x51, 0x61];

/// The capability of MSI-X.
fn capability(config: &ConfigSpace) -> u8 {
    let mut at = config.read(0x34, Width::Byte) as u8;
    while config.read(at, Width::Byte) != 0x11 {
        at = config.read(at + 1, Width::Byte) as u8;
        assert_ne!(at, 0, "there is none");
    }
    at
}

impl<D: Device> Driver<D> {
    /// Fills the table in, and switches the messages on.
    fn use_messages(&mut self) {
        for (entry, vector) in (0..).zip(VECTORS) {
            for (at, value) in [(0, 0xfee0_1000), (4, 0), (8, vector), (12, 0)] {
                let _ = self.function.write(1, 16 * entry + at, Width::Dword, value.into(), &self.memory);
            }
        }
        let at = capability(self.config());
        let _ = self.function.write_config(at + 2, Width::Word, 0x8000, &self.memory);
    }

    fn messages(&mut self) -> Vec<u8> {
        core::iter::from_fn(|| self.function.take_message()).map(|message| message.vector()).collect()
    }
}

fn driver() -> (Driver<Echo>, Ring) {
    let ring = Ring::new(8);
    let mut driver = Driver::modern(Echo::default(), &ring, 0);
    driver.use_messages();
    let _ = driver.common(0x10, Width::Word, 0);
    let _ = driver.common(0x16, Width::Word, 0);
    let _ = driver.common(0x1a, Width::Word, 1);
    ring.descriptor(&driver.memory, 0, DATA, 16, WRITE, 0);
    ring.offer(&driver.memory, 0, 0);
    (driver, ring)
}

#[test]
fn a_used_buffer_sends_the_queues_message_and_leaves_the_pin() {
    let (mut driver, _) = driver();
    assert_eq!(driver.kick(), Effect::MESSAGES);
    assert_eq!((driver.messages(), driver.isr()), (vec![0x51], 0));
    assert!(!driver.function.irq());
    assert_eq!(driver.messages(), []);
}

#[test]
fn a_change_of_the_configuration_sends_its_own() {
    let (mut driver, _) = driver();
    assert_eq!(driver.function.config_changed(), Effect::MESSAGES);
    assert_eq!(driver.messages(), [0x41]);
}

#[test]
fn a_vector_that_is_not_in_the_table_is_none() {
    let (mut driver, _) = driver();
    for (register, wanted, got) in
        [(0x10, 2, 2), (0x10, 3, 0xffff), (0x1a, 2, 2), (0x1a, 0xffff, 0xffff), (0x1a, 7, 0xffff)]
    {
        let _ = driver.common(register, Width::Word, wanted);
        assert_eq!(driver.read(4, register, Width::Word), got, "{register:#x}");
    }
    assert_eq!(driver.kick(), Effect::QUIET);
    assert_eq!((driver.messages(), driver.isr()), (vec![], 0));
}

#[test]
fn a_masked_message_comes_when_it_is_unmasked() {
    let (mut driver, _) = driver();
    let _ = driver.function.write(1, 28, Width::Dword, 1, &driver.memory);
    assert_eq!((driver.kick(), driver.messages()), (Effect::QUIET, vec![]));
    assert_eq!(driver.read(1, 2048, Width::Dword), 2);
    assert_eq!(driver.function.write(1, 28, Width::Dword, 0, &driver.memory), Effect::MESSAGES);
    assert_eq!(driver.messages(), [0x51]);
}

#[test]
fn a_reset_of_the_device_takes_its_vectors_and_leaves_the_table() {
    let (mut driver, _) = driver();
    let _ = driver.kick();
    driver.set_status(0);
    assert_eq!((driver.messages(), driver.read(4, 0x10, Width::Word)), (vec![], 0xffff));
    let _ = driver.common(0x16, Width::Word, 0);
    assert_eq!((driver.read(4, 0x1a, Width::Word), driver.read(1, 24, Width::Dword)), (0xffff, 0x51));
    driver.function.reset();
    assert_eq!(driver.read(1, 24, Width::Dword), 0);
}

#[test]
fn a_legacy_driver_has_its_vectors_before_the_configuration() {
    let mut driver = Driver::legacy(Echo { config: [1, 2, 3, 4, 5, 6], ..Echo::default() }, 0x101, 0);
    assert_eq!(driver.read(0, 20, Width::Dword), 0x0403_0201);
    driver.use_messages();
    assert_eq!((driver.read(0, 20, Width::Dword), driver.read(0, 24, Width::Dword)), (0xffff_ffff, 0x0403_0201));
    let _ = driver.outp(20, Width::Word, 0);
    let _ = driver.outp(22, Width::Word, 2);
    let _ = driver.outp(24, Width::Byte, 9);
    assert_eq!((driver.read(0, 20, Width::Dword), driver.read(0, 24, Width::Byte)), (0x0002_0000, 9));
    let ring = Ring::at(0x10_1000, 8);
    ring.descriptor(&driver.memory, 0, DATA, 16, WRITE, 0);
    ring.offer(&driver.memory, 0, 0);
    assert_eq!((driver.outp(16, Width::Word, 0), driver.messages()), (Effect::MESSAGES, vec![0x61]));
}
