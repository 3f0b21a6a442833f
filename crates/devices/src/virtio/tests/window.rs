//! The capabilities, and the one of them that is a window to the BARs.

use super::*;

/// Where the capability with this `cfg_type` is.
fn capability(config: &ConfigSpace, kind: u8) -> u8 {
    let mut at = config.read(0x34, Width::Byte) as u8;
    while at != 0 {
        if config.read(at, Width::Byte) == 9 && config.read(at + 3, Width::Byte) == u32::from(kind) {
            return at;
        }
        at = config.read(at + 1, Width::Byte) as u8;
    }
    panic!("no capability of type {kind}");
}

#[test]
fn a_driver_finds_the_parts_of_the_modern_bar() {
    let driver = Driver::new(Echo::default());
    let config = driver.config();
    for (kind, offset, len) in [(1, 0, 16), (2, 0x3000, 20), (3, 0x1000, 16), (4, 0x2000, 16)] {
        let at = capability(config, kind);
        assert_eq!(config.read(at + 2, Width::Byte), len, "{kind}");
        assert_eq!(config.read(at + 4, Width::Byte), 4, "BAR 4");
        assert_eq!(config.read(at + 8, Width::Dword), offset);
        assert_eq!(config.read(at + 12, Width::Dword), 0x1000);
    }
    assert_eq!(config.read(capability(config, 2) + 16, Width::Dword), 4, "notify_off_multiplier");
    assert_eq!(config.read(capability(config, 5) + 2, Width::Byte), 20);
}

struct Window {
    driver: Driver<Echo>,
    at: u8,
}

impl Window {
    fn new() -> Self {
        let driver = Driver::new(Echo::default());
        let at = capability(driver.config(), 5);
        Self { driver, at }
    }

    fn choose(&mut self, bar: u32, offset: u32, len: u32) {
        for (at, width, value) in [(4, Width::Byte, bar), (8, Width::Dword, offset), (12, Width::Dword, len)] {
            let _ = self.driver.function.write_config(self.at + at, width, value, &self.driver.memory);
        }
    }

    fn read(&mut self) -> u32 {
        self.driver.function.read_config(self.at + 16, Width::Dword, &self.driver.memory).0
    }

    fn write(&mut self, value: u32) {
        let _ = self.driver.function.write_config(self.at + 16, Width::Dword, value, &self.driver.memory);
    }
}

#[test]
fn the_window_reaches_registers_of_either_bar() {
    let mut window = Window::new();
    window.choose(4, 0x14, 1);
    window.write(3);
    assert_eq!(window.driver.status(), 3);
    assert_eq!(window.read(), 3);
    window.choose(0, 18, 1);
    assert_eq!(window.read(), 3, "the legacy interface's status");
    window.choose(4, 0x12, 2);
    assert_eq!(window.read(), 2, "queues");
    assert_eq!(window.driver.config().quiet(window.at + 16), None, "no read of it is a plain one");
}

#[test]
fn reading_the_interrupt_status_by_it_clears_that() {
    let mut window = Window::new();
    window.driver.set_status(7);
    assert_eq!(window.driver.function.config_changed(), Effect::LINES);
    window.choose(4, 0x1000, 1);
    let read = window.driver.function.read_config(window.at + 16, Width::Byte, &window.driver.memory);
    assert_eq!(read, (2, Effect::LINES));
    assert_eq!(window.read(), 0);
}

#[test]
fn what_the_window_cannot_reach_does_nothing() {
    let mut window = Window::new();
    for (bar, offset, len) in [
        (4, 0x14, 0),
        (4, 0x14, 3),
        (4, 0x14, 8),
        (4, 0x4000, 1),
        (4, 0xffff_fffc, 4),
        (4, 0x15, 2),
        (0, 32, 1),
        (1, 0x1000, 1),
        (2, 0, 1),
        (5, 0, 1),
        (255, 0, 4),
    ] {
        window.choose(bar, offset, len);
        window.write(0x0101_0101);
        assert_eq!(window.read(), 0x0101_0101, "what was written is there");
        assert_eq!(window.driver.status(), 0, "{bar} {offset:#x} {len}");
    }
}
