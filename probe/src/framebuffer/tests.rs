use core::cell::RefCell;
use std::string::String;
use std::vec::Vec;

use super::*;
use crate::screen::{Screen, Surface};

/// A loader's tag: address, pitch, size, bits, type, and the fields of red, green and blue.
fn tag(address: u64, pitch: u32, size: (u32, u32), bits: u8, kind: u8, fields: [(u8, u8); 3]) -> Vec<u8> {
    let words = [8u32, 38].map(u32::to_le_bytes).concat();
    let numbers = [pitch, size.0, size.1].map(u32::to_le_bytes).concat();
    let fields = fields.map(|(low, size)| [low, size]).concat();
    [words, address.to_le_bytes().to_vec(), numbers, std::vec![bits, kind, 0, 0], fields].concat()
}

const RGB: [(u8, u8); 3] = [(16, 8), (8, 8), (0, 8)];

#[test]
fn a_framebuffer_is_taken_if_its_format_is_known() {
    let plain = |address, pitch, size, bits| Framebuffer::parse(&tag(address, pitch, size, bits, DIRECT, RGB));
    let small = (16, 8);
    let found = plain(0xc000_0000, 64, small, 32).unwrap();
    assert_eq!((found.size(), found.address(), found.bytes()), (small, 0xc000_0000, 512));
    assert_eq!(found.at(0x1000).address(), 0x1000);
    // Where a Tiger Lake's firmware has it. Padding behind the last pixel does not count.
    assert_eq!(plain(0x40_0000_0000, 80, small, 32).unwrap().bytes(), 7 * 80 + 64);
    assert_eq!(plain(0xc000_0001, 50, small, 24).unwrap().bytes(), 7 * 50 + 48);
    for (address, pitch, size, bits) in [
        (0xc000_0000, 32, small, 16),
        (0xc000_0000, 63, small, 32),
        (0xc000_0000, 60, small, 32),
        (0xc000_0002, 64, small, 32),
        (0xc000_0000, 64, (0, 8), 32),
        (0xc000_0000, 64, (16, 0), 32),
        (0xc000_0000, 1 << 16, (16, 1 << 14), 32),
        (0xc000_0000, !3, (1, u32::MAX), 32),
        (0xc000_0000, !3, (u32::MAX, u32::MAX), 32),
        (0, 64, small, 32),
        (1 << 52, 64, small, 32),
        (u64::MAX - 3, 64, small, 32),
    ] {
        assert_eq!(plain(address, pitch, size, bits), None, "{address:#x} {pitch} {size:?} {bits}");
    }
    // A palette; fields that are empty, or not in the pixel.
    let fields = [(0, RGB), (DIRECT, [(16, 8), (8, 0), (0, 8)]), (DIRECT, [(25, 8), (8, 8), (0, 8)])];
    for (kind, fields) in fields {
        let found = Framebuffer::parse(&tag(0xc000_0000, 64, small, 32, kind, fields));
        assert_eq!(found, None, "{kind} {fields:?}");
    }
    let whole = tag(0xc000_0000, 64, small, 32, DIRECT, RGB);
    assert_eq!(Framebuffer::parse(&whole[..37]), None);
}

/// Memory from `BASE` on that refuses what is not the screen's, and counts writes.
struct Memory {
    bytes: RefCell<Vec<u8>>,
    pitch: usize,
    row: usize,
    writes: RefCell<usize>,
}

const BASE: u64 = 0xe000_0000;

impl Memory {
    fn new(pitch: u32, (width, height): (u32, u32), bits: u8) -> Self {
        let (pitch, row) = (pitch as usize, width as usize * usize::from(bits) / 8);
        let length = pitch * (height as usize - 1) + row;
        Self { bytes: RefCell::new(std::vec![0x55; length]), pitch, row, writes: RefCell::new(0) }
    }

    fn write(&self, address: u64, bytes: &[u8]) {
        let at = address.checked_sub(BASE).expect("an address of the screen") as usize;
        assert!(at % self.pitch + bytes.len() <= self.row, "{address:#x} is behind the end of a row");
        self.bytes.borrow_mut()[at..][..bytes.len()].copy_from_slice(bytes);
        *self.writes.borrow_mut() += 1;
    }

    fn pixel(&self, x: usize, y: usize, bytes: usize) -> u32 {
        let all = self.bytes.borrow();
        let pixel = &all[y * self.pitch + x * bytes..][..bytes];
        pixel.iter().rev().fold(0, |pixel, byte| pixel << 8 | u32::from(*byte))
    }
}

impl Machine for Memory {
    fn cpuid(&self, _: u32, _: u32) -> [u32; 4] {
        [0; 4]
    }
    fn msr(&self, _: u32) -> Option<u64> {
        None
    }
    fn tsc(&self) -> u64 {
        0
    }
    fn in8(&self, _: u16) -> u8 {
        0xff
    }
    fn out8(&self, _: u16, _: u8) {}
    fn in32(&self, _: u16) -> u32 {
        u32::MAX
    }
    fn out32(&self, _: u16, _: u32) {}
    fn read32(&self, _: u64) -> u32 {
        u32::MAX
    }
    fn write32(&self, _: u64, _: u32) {}
    fn draw8(&self, address: u64, value: u8) {
        self.write(address, &[value]);
    }
    fn draw32(&self, address: u64, value: u32) {
        self.write(address, &value.to_le_bytes());
    }
}

/// Shows the lines on a screen with this framebuffer, and then finds these in its last rows of cells.
fn shows(pitch: u32, size: (u32, u32), bits: u8, fields: [(u8, u8); 3], scale: usize, lines: &[String], last: &[&str]) {
    let memory = Memory::new(pitch, size, bits);
    let framebuffer = Framebuffer::parse(&tag(BASE, pitch, size, bits, DIRECT, fields)).expect("a good one");
    let mut screen = Screen::new(&memory, Surface::Pixels(framebuffer));
    for (index, line) in lines.iter().enumerate() {
        line.bytes().for_each(|byte| screen.put(&memory, byte));
        if index + 1 < lines.len() {
            screen.put(&memory, b'\n');
        }
    }
    let rows = size.1 as usize / (16 * scale);
    for (row, line) in (rows - last.len()..).zip(last) {
        for (column, byte) in line.bytes().enumerate() {
            let raster = raster(byte).unwrap();
            for (y, x) in (0..16 * scale).flat_map(|y| (0..7 * scale).map(move |x| (y, x))) {
                let brightness = u32::from(raster.pixel(x / scale, y / scale).unwrap());
                let field = |(low, size): (u8, u8)| (brightness * ((1 << size) - 1) / 255) << low;
                let expected = fields.map(field).iter().sum::<u32>();
                let (x, y) = (column * 7 * scale + x, row * 16 * scale + y);
                assert_eq!(memory.pixel(x, y, usize::from(bits / 8)), expected, "{:?} at {x}, {y}", char::from(byte));
            }
        }
    }
}

fn numbered(count: usize) -> Vec<String> {
    (0..count).map(|number| std::format!("line {number}")).collect()
}

#[test]
fn the_last_lines_are_shown_in_any_format_and_nothing_outside() {
    let lines = numbered(70);
    let last = ["line 67 ", "line 68 ", "line 69 "];
    shows(4096, (1024, 768), 32, RGB, 1, &lines, &last);
    // The other order of colours, of three bytes each; a pitch with padding; sizes that are no multiples of a cell's.
    shows(1027, (333, 99), 24, [(0, 8), (8, 8), (16, 8)], 1, &lines, &last);
    // Ten bits for each colour.
    shows(2600, (641, 481), 32, [(20, 10), (10, 10), (0, 10)], 1, &lines, &last);
    // A large screen: each of the font's pixels is a square of nine.
    shows(15360, (3840, 2160), 32, RGB, 3, &lines, &last);
    // Smaller than a character.
    shows(20, (5, 9), 32, RGB, 1, &lines, &[]);
}

#[test]
fn a_line_that_is_too_long_goes_on_in_the_next() {
    let long = std::format!("{}tail", "x".repeat(40));
    shows(1120, (280, 64), 32, RGB, 1, &[long], &["xxxxxxxx", "tail "]);
}

#[test]
fn only_cells_that_change_are_drawn() {
    let size = (1024, 768);
    let memory = Memory::new(4096, size, 32);
    let framebuffer = Framebuffer::parse(&tag(BASE, 4096, size, 32, DIRECT, RGB)).unwrap();
    let mut screen = Screen::new(&memory, Surface::Pixels(framebuffer));
    assert_eq!(memory.writes.replace(0), 1024 * 768);
    screen.put(&memory, b'a');
    assert_eq!(memory.writes.replace(0), 7 * 16);
    screen.put(&memory, b'\n');
    assert_eq!(memory.writes.replace(0), 2 * 7 * 16);
}
