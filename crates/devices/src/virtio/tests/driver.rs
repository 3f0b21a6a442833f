//! A driver in a few lines: it lays out a ring in memory and pokes at registers.

use super::*;
use mmio::{RecordRing, Window};
use proptest::test_runner::Config;
use std::{cell::RefCell, vec, vec::Vec};

/// How many cases a property is tried with: so many, or as many as `PORTCULLIS_CASES` says.
pub fn cases(usual: u32) -> Config {
    let asked = std::env::var("PORTCULLIS_CASES").ok().and_then(|asked| asked.parse().ok());
    Config { failure_persistence: None, ..Config::with_cases(asked.unwrap_or(usual)) }
}

std::thread_local! {
    static SPARE: RefCell<Vec<Window>> = const { RefCell::new(Vec::new()) };
}

/// A ring with so many bytes of data. A property makes millions of them, so their memory is used again.
pub fn record_ring(bytes: usize) -> (RecordRing, Window) {
    let len = 128 + bytes;
    let spare = SPARE.with_borrow_mut(|spare| {
        let place = spare.iter().position(|window| window.len() == len as u64);
        place.map(|place| spare.swap_remove(place))
    });
    let window = match spare {
        Some(window) => {
            window.fill(0, len as u64, 0).unwrap();
            window
        }
        None => Window::leak(vec![0; len].leak()),
    };
    (RecordRing::new(window).unwrap(), window)
}

/// Gives the memory of rings back that are used no more.
pub fn give_back(windows: [Window; 2]) {
    SPARE.with_borrow_mut(|spare| spare.extend(windows));
}

/// Where the driver's memory begins, and how long it is.
pub const RAM: u64 = 0x10_0000;
pub const LEN: usize = 0x1_0000;
/// The ring that [`Ring::new`] lays out, and the first buffer.
pub const RING: u64 = RAM + 0x1000;
pub const DATA: u64 = RAM + 0x8000;

pub const NEXT: u16 = 1;
pub const WRITE: u16 = 2;
pub const INDIRECT: u16 = 4;

/// A split ring in the legacy layout, which the modern interface takes as well.
pub struct Ring {
    pub size: u16,
    pub table: u64,
    pub available: u64,
    pub used: u64,
}

impl Ring {
    pub fn new(size: u16) -> Self {
        Self::at(RING, size)
    }

    pub fn at(table: u64, size: u16) -> Self {
        let available = table + 16 * u64::from(size);
        let end = available + 6 + 2 * u64::from(size);
        Self { size, table, available, used: end.div_ceil(4096) * 4096 }
    }

    pub fn descriptor(&self, memory: &Fake, n: u16, gpa: u64, len: u32, flags: u16, next: u16) {
        write_descriptor(memory, self.table, n, gpa, len, flags, next);
    }

    /// Makes the chain with this head available, as the `n`th since the start.
    pub fn offer(&self, memory: &Fake, n: u16, head: u16) {
        memory.write_u16(self.available + 4 + 2 * u64::from(n % self.size), head).unwrap();
        memory.write_u16(self.available + 2, n.wrapping_add(1)).unwrap();
    }

    /// The used index, and the entry before it.
    pub fn used(&self, memory: &Fake) -> (u16, u32, u32) {
        let index = memory.read_u16(self.used + 2).unwrap();
        let entry = self.used + 4 + 8 * u64::from(index.wrapping_sub(1) % self.size);
        (index, memory.read_u32(entry).unwrap(), memory.read_u32(entry + 4).unwrap())
    }

    /// Where the device says when it wants a notification, and where the driver says when it wants an interrupt.
    pub fn available_event(&self) -> u64 {
        self.used + 4 + 8 * u64::from(self.size)
    }

    pub fn used_event(&self) -> u64 {
        self.available + 4 + 2 * u64::from(self.size)
    }
}

pub fn write_descriptor(memory: &Fake, table: u64, n: u16, gpa: u64, len: u32, flags: u16, next: u16) {
    let at = table + 16 * u64::from(n);
    memory.write_u64(at, gpa).unwrap();
    memory.write_u32(at + 8, len).unwrap();
    memory.write_u16(at + 12, flags).unwrap();
    memory.write_u16(at + 14, next).unwrap();
}

/// A function and the memory that it uses.
pub struct Driver<D: Device> {
    pub function: Virtio<D>,
    pub memory: Fake,
}

impl<D: Device> Driver<D> {
    /// A function that may use memory.
    pub fn new(device: D) -> Self {
        let mut function = Virtio::new(device, 11).unwrap();
        let memory = Fake::new(RAM, LEN);
        let _ = function.write_config(0x04, Width::Word, 0x0007, &memory);
        Self { function, memory }
    }

    /// One that a modern driver has set up, with queue 0 in `ring`, features 0 to 31 as given and VERSION_1.
    pub fn modern(device: D, ring: &Ring, features: u32) -> Self {
        let mut driver = Self::new(device);
        driver.initialise(features);
        driver.set_up(0, ring);
        driver.set_status(0x0f);
        driver
    }

    /// Up to the features being accepted.
    pub fn initialise(&mut self, features: u32) {
        self.set_status(0);
        self.set_status(1);
        self.set_status(3);
        for (half, bits) in [(0, features), (1, 1)] {
            let _ = self.common(0x08, Width::Dword, half);
            let _ = self.common(0x0c, Width::Dword, bits.into());
        }
        self.set_status(0x0b);
        assert_eq!(self.status(), 0x0b, "FEATURES_OK");
    }

    /// Sets queue `n` up.
    pub fn set_up(&mut self, n: u16, ring: &Ring) {
        let _ = self.common(0x16, Width::Word, n.into());
        let _ = self.common(0x18, Width::Word, ring.size.into());
        for (at, place) in [(0x20, ring.table), (0x28, ring.available), (0x30, ring.used)] {
            let _ = self.common(at, Width::Dword, place & 0xffff_ffff);
            let _ = self.common(at + 4, Width::Dword, place >> 32);
        }
        let _ = self.common(0x1c, Width::Word, 1);
    }

    /// One that a legacy driver has set up, with queue 0 at page `page`.
    pub fn legacy(device: D, page: u32, features: u32) -> Self {
        let mut driver = Self::new(device);
        for status in [0, 1, 3] {
            let _ = driver.outp(18, Width::Byte, status);
        }
        let _ = driver.outp(4, Width::Dword, features);
        let _ = driver.outp(14, Width::Word, 0);
        let _ = driver.outp(8, Width::Dword, page);
        let _ = driver.outp(18, Width::Byte, 7);
        driver
    }

    pub fn common(&mut self, at: u64, width: Width, value: u64) -> Effect {
        self.function.write(4, at, width, value, &self.memory)
    }

    pub fn read(&mut self, bar: u8, at: u64, width: Width) -> u64 {
        self.function.read(bar, at, width, &self.memory).0
    }

    pub fn outp(&mut self, at: u64, width: Width, value: u32) -> Effect {
        self.function.write(0, at, width, value.into(), &self.memory)
    }

    pub fn set_status(&mut self, value: u8) {
        let _ = self.common(0x14, Width::Byte, value.into());
    }

    pub fn status(&mut self) -> u8 {
        self.read(4, 0x14, Width::Byte) as u8
    }

    pub fn isr(&mut self) -> u8 {
        self.read(4, 0x1000, Width::Byte) as u8
    }

    /// Notifies queue 0.
    pub fn kick(&mut self) -> Effect {
        self.function.write(4, 0x3000, Width::Word, 0, &self.memory)
    }

    pub fn config(&self) -> &ConfigSpace {
        self.function.config()
    }
}
