//! The registers of both interfaces.

use super::{
    driver::{DATA, LEN, NEXT, RAM, WRITE},
    *,
};

#[test]
fn features_come_in_halves() {
    let mut driver = Driver::new(Echo::default());
    for (half, bits) in [(0, 1 << 5 | 7 << 27), (1, 1 | 1 << 8), (2, 0), (u32::MAX, 0)] {
        let _ = driver.common(0x00, Width::Dword, half.into());
        assert_eq!(driver.read(4, 0x04, Width::Dword), bits, "{half}");
    }
    let _ = driver.common(0x08, Width::Dword, 1);
    let _ = driver.common(0x0c, Width::Dword, 0x0000_0101);
    assert_eq!(driver.read(4, 0x0c, Width::Dword), 0x0000_0101);
    let _ = driver.common(0x08, Width::Dword, 0);
    assert_eq!(driver.read(4, 0x0c, Width::Dword), 0);
}

#[test]
fn features_that_were_not_offered_are_refused() {
    for (half, bits, ok) in [(0, 1 << 5, true), (0, 1 << 6, false), (1, 3, false), (1, 0x101, true), (1, 0, false)] {
        let mut driver = Driver::new(Echo::default());
        driver.set_status(3);
        for (half, bits) in [(1, 1), (half, bits)] {
            let _ = driver.common(0x08, Width::Dword, half);
            let _ = driver.common(0x0c, Width::Dword, bits);
        }
        driver.set_status(0x0b);
        assert_eq!(driver.status(), if ok { 0x0b } else { 0x03 }, "{half}: {bits:#x}");
    }
}

#[test]
fn accepted_features_are_settled() {
    let mut driver = Driver::new(Echo::default());
    driver.initialise(1 << 5);
    let _ = driver.common(0x08, Width::Dword, 0);
    let _ = driver.common(0x0c, Width::Dword, 0);
    assert_eq!(driver.read(4, 0x0c, Width::Dword), 1 << 5);
}

#[test]
fn a_queue_shows_its_registers() {
    let mut driver = Driver::new(Echo::default());
    assert_eq!(driver.read(4, 0x10, Width::Dword), 0x0002_ffff, "two queues, no vector");
    let _ = driver.common(0x16, Width::Word, 1);
    assert_eq!(driver.read(4, 0x18, Width::Dword), 0xffff_0010);
    assert_eq!(driver.read(4, 0x1c, Width::Dword), 0x0001_0000, "its notifications are one step further");
    let _ = driver.common(0x18, Width::Word, 4);
    let _ = driver.common(0x20, Width::Qword, 0x1_2345_6780);
    let _ = driver.common(0x34, Width::Dword, 5);
    assert_eq!(driver.read(4, 0x18, Width::Word), 4);
    assert_eq!(driver.read(4, 0x20, Width::Qword), 0x1_2345_6780);
    assert_eq!(driver.read(4, 0x30, Width::Qword), 0x5_0000_0000);
    let _ = driver.common(0x16, Width::Word, 2);
    assert_eq!([0x18, 0x1c, 0x20].map(|at| driver.read(4, at, Width::Word)), [0; 3], "there is no third");
    let _ = driver.common(0x1c, Width::Word, 1);
    assert_eq!(driver.function.take_fault(), None);
    let _ = driver.common(0x16, Width::Word, 0);
    assert_eq!(driver.read(4, 0x18, Width::Word), 8);
}

#[test]
fn an_enabled_queue_keeps_its_place() {
    let ring = Ring::new(8);
    let mut driver = Driver::modern(Echo::default(), &ring, 0);
    let _ = driver.common(0x20, Width::Dword, 0);
    let _ = driver.common(0x18, Width::Word, 2);
    let _ = driver.common(0x1c, Width::Word, 0);
    assert_eq!(driver.read(4, 0x20, Width::Dword), ring.table);
    assert_eq!(driver.read(4, 0x18, Width::Word), 8);
    assert_eq!(driver.read(4, 0x1c, Width::Word), 1);
}

#[test]
fn registers_take_writes_of_their_own_width() {
    let mut driver = Driver::new(Echo::default());
    for (at, width) in [(0x14, Width::Word), (0x14, Width::Dword), (0x10, Width::Qword), (0x15, Width::Byte)] {
        let _ = driver.common(at, width, u64::MAX);
        assert_eq!(driver.read(4, 0x14, Width::Dword), 0, "{at:#x} {width:?}");
    }
    let _ = driver.common(0x22, Width::Dword, u64::MAX);
    let _ = driver.common(0x24, Width::Qword, u64::MAX);
    assert_eq!(driver.read(4, 0x20, Width::Qword), 0);
    assert_eq!(driver.read(4, 0x28, Width::Qword), 0);
    for at in [0x38, 0x100, 0xff8, 0x1001, 0x3000] {
        assert_eq!(driver.read(4, at, Width::Qword), 0, "{at:#x}");
    }
    for (at, width) in [(0xffe, Width::Dword), (0x4000, Width::Byte), (u64::MAX, Width::Byte)] {
        assert_eq!(driver.read(4, at, width), width.mask(), "no part has all of it");
    }
}

#[test]
fn reads_of_any_width_see_the_same_bytes() {
    let mut driver = Driver::new(Echo::default());
    driver.set_status(3);
    let _ = driver.common(0x16, Width::Word, 1);
    let bytes: Vec<u8> = (0x10..0x20).map(|at| driver.read(4, at, Width::Byte) as u8).collect();
    assert_eq!(bytes, [0xff, 0xff, 2, 0, 3, 0, 1, 0, 16, 0, 0xff, 0xff, 0, 0, 1, 0]);
    for at in 0x10..0x19u64 {
        let whole = u64::from_le_bytes(bytes[at as usize - 0x10..][..8].try_into().unwrap());
        assert_eq!(driver.read(4, at, Width::Qword), whole);
        assert_eq!(driver.read(4, at, Width::Word), whole & 0xffff);
    }
}

#[test]
fn a_reset_forgets_all_but_the_place_on_the_bus() {
    let ring = Ring::new(8);
    let mut driver = Driver::modern(Echo::default(), &ring, 1 << 5);
    assert_eq!(driver.function.config_changed(), Effect::LINES);
    assert_eq!(driver.common(0x14, Width::Byte, 0), Effect::LINES, "the interrupt is gone");
    assert_eq!(driver.read(4, 0x14, Width::Dword), 0x0100, "the generation counts on");
    assert_eq!((driver.read(4, 0x1c, Width::Word), driver.isr()), (0, 0));
    let _ = driver.common(0x08, Width::Dword, 0);
    assert_eq!(driver.read(4, 0x0c, Width::Dword), 0);
    assert_eq!(driver.function.device().resets, 2);
    assert_eq!(driver.config().read(0x04, Width::Word), 7);
    assert_eq!(driver.function.config_changed(), Effect::QUIET, "no driver is ready");
    driver.function.reset();
    assert_eq!(driver.config().read(0x04, Width::Word), 0);
}

#[test]
fn the_devices_own_configuration_is_bytes() {
    let mut driver = Driver::new(Echo::default());
    driver.function.device().config = [1, 2, 3, 4, 5, 6];
    assert_eq!(driver.read(4, 0x2000, Width::Qword), 0x0000_0605_0403_0201);
    assert_eq!(driver.read(4, 0x2001, Width::Dword), 0x0504_0302);
    assert_eq!(driver.read(0, 20, Width::Dword), 0x0403_0201, "legacy");
    assert_eq!(driver.read(0, 24, Width::Dword), 0x0605);
    let _ = driver.common(0x2004, Width::Dword, 0xdddd_ccbb);
    let _ = driver.outp(20, Width::Word, 0x2211);
    assert_eq!(driver.function.device().config, [0x11, 0x22, 3, 4, 0xbb, 0xcc]);
}

#[test]
fn nothing_is_served_before_it_may_be() {
    let ring = Ring::new(8);
    let mut driver = Driver::new(Echo::default());
    ring.descriptor(&driver.memory, 0, DATA, 4, WRITE, 0);
    ring.offer(&driver.memory, 0, 0);
    driver.initialise(0);
    driver.set_up(0, &ring);
    assert_eq!(driver.kick(), Effect::QUIET, "not DRIVER_OK");
    let _ = driver.function.write_config(0x04, Width::Word, 0x0003, &driver.memory);
    driver.set_status(0x0f);
    assert_eq!(driver.kick(), Effect::QUIET, "no bus master");
    assert_eq!(ring.used(&driver.memory).0, 0);
    let effect = driver.function.write_config(0x04, Width::Word, 0x0007, &driver.memory);
    assert_eq!(effect, Effect::LINES, "it makes up for it");
    assert_eq!(ring.used(&driver.memory).0, 1);
    driver.set_status(0x8f);
    ring.offer(&driver.memory, 1, 0);
    assert_eq!(driver.kick(), Effect::QUIET, "the driver has given up");
}

/// Linux's kexec leaves a device as it is, but for bus mastering. The next kernel switches that on before its driver resets the
/// device, and what the old driver's buffers were is the kernel's own memory then.
#[test]
fn a_driver_that_gives_bus_mastering_up_has_no_queues_any_more() {
    let legacy = || (Driver::legacy(Echo::default(), (RING / 4096) as u32, 0), Ring::at(RING, 256));
    let modern = || (Driver::modern(Echo::default(), &Ring::new(8), 0), Ring::new(8));
    for (mut driver, ring) in [modern(), legacy()] {
        ring.descriptor(&driver.memory, 0, DATA, 4, WRITE, 0);
        let _ = driver.function.write_config(0x04, Width::Word, 0x0003, &driver.memory);
        ring.offer(&driver.memory, 0, 0);
        let before = driver.memory.bytes::<LEN>(RAM);
        for effect in [
            driver.kick(),
            driver.function.write_config(0x04, Width::Word, 0x0007, &driver.memory),
            driver.function.poll(&driver.memory),
            driver.kick(),
        ] {
            assert_eq!(effect, Effect::QUIET);
        }
        assert!(driver.memory.bytes::<LEN>(RAM) == before, "memory has changed");
        assert_eq!(driver.status() & 4, 0, "DRIVER_OK");

        let ring = Ring::new(8);
        driver.initialise(0);
        driver.set_up(0, &ring);
        driver.set_status(0x0f);
        ring.descriptor(&driver.memory, 0, DATA, 4, WRITE, 0);
        ring.offer(&driver.memory, 0, 0);
        let _ = driver.kick();
        assert_eq!(ring.used(&driver.memory).0, 1, "the next driver has");
    }
}

/// Section 4.1.4.10, as Linux's `virtio_pci_legacy.c` uses it.
#[test]
fn the_legacy_interface_by_itself() {
    let page = (RING / 4096) as u32;
    let mut driver = Driver::legacy(Echo::default(), page, 0);
    assert_eq!(driver.read(0, 0, Width::Dword), 1 << 5 | 7 << 27, "no feature above 31");
    assert_eq!(driver.read(0, 8, Width::Dword), page.into());
    assert_eq!(driver.read(0, 12, Width::Word), 8);
    assert_eq!(driver.read(0, 18, Width::Byte), 7);
    let ring = Ring::new(8);
    driver.memory.write(DATA, b"legacy").unwrap();
    ring.descriptor(&driver.memory, 2, DATA, 6, NEXT, 7);
    ring.descriptor(&driver.memory, 7, DATA + 0x100, 6, WRITE, 0);
    ring.offer(&driver.memory, 0, 2);
    assert_eq!(driver.outp(16, Width::Word, 0), Effect::LINES);
    assert_eq!(ring.used(&driver.memory), (1, 2, 6));
    assert_eq!(&driver.memory.bytes(DATA + 0x100), b"ycagel");
    assert_eq!((driver.read(0, 19, Width::Byte), driver.read(0, 19, Width::Byte)), (1, 0));
    assert!(!driver.function.irq());
    let _ = driver.outp(8, Width::Dword, 0);
    assert_eq!(driver.read(0, 8, Width::Dword), 0);
    assert_eq!(driver.outp(16, Width::Word, 0), Effect::QUIET);
    let _ = driver.outp(14, Width::Word, 2);
    assert_eq!(driver.read(0, 12, Width::Word), 0, "no such queue");
}

/// Drivers before Linux 3.18 use the device in their probe functions, and before 2.6.34 they never ask for bus mastering.
#[test]
fn an_old_driver_may_begin_before_it_is_ready() {
    let mut driver = Driver::new(Echo::default());
    let _ = driver.function.write_config(0x04, Width::Word, 0x0001, &driver.memory);
    for status in [0, 1, 3] {
        let _ = driver.outp(18, Width::Byte, status);
    }
    let _ = driver.outp(8, Width::Dword, (RING / 4096) as u32);
    let ring = Ring::new(8);
    ring.descriptor(&driver.memory, 0, DATA, 1, 0, 0);
    ring.offer(&driver.memory, 0, 0);
    assert_eq!(driver.outp(16, Width::Word, 0), Effect::LINES);
    assert_eq!(ring.used(&driver.memory).0, 1);
}

#[test]
fn a_legacy_ring_that_is_not_there_breaks_the_device() {
    for page in [1, 0xffff_ffff, (RAM / 4096) as u32 - 1, (RAM / 4096) as u32 + 0xf] {
        let mut driver = Driver::legacy(Echo::default(), page, 0);
        assert_eq!(driver.function.take_fault(), Some(Fault { queue: 0, broken: Broken::Ring }), "{page:#x}");
        assert_eq!(driver.read(0, 18, Width::Byte), 0x47);
    }
}

#[test]
fn a_driver_that_mixes_the_interfaces_finds_one_device() {
    let mut driver = Driver::new(Echo::default());
    driver.initialise(0);
    assert_eq!(driver.read(0, 18, Width::Byte), 0x0b);
    let _ = driver.outp(14, Width::Word, 1);
    assert_eq!(driver.read(4, 0x16, Width::Word), 1);
    let _ = driver.outp(8, Width::Dword, (RING / 4096) as u32);
    assert_eq!(driver.read(4, 0x1c, Width::Word), 1, "enabled");
    assert_eq!(driver.read(4, 0x20, Width::Qword), RING);
    assert_eq!(driver.read(4, 0x28, Width::Qword), RING + 16 * 16);
    assert_eq!(driver.read(4, 0x30, Width::Qword), RING + 4096);
    let _ = driver.outp(18, Width::Byte, 0);
    assert_eq!(driver.status(), 0);
}

/// A type that came after the legacy interface.
#[derive(Clone, Debug)]
struct Modern;

impl Device for Modern {
    const KIND: Kind = Kind { id: 19, transitional: None, class: 0x0280 };
    const QUEUES: &'static [u16] = &[4];

    fn serve(&mut self, _queue: usize, _requests: &mut Requests<'_, impl GuestMemory>) -> Result<Served, Broken> {
        Ok(Served::All)
    }
}

#[test]
fn a_type_without_a_legacy_number_has_no_legacy_interface() {
    let mut driver = Driver::new(Modern);
    assert_eq!(driver.config().read(0x00, Width::Dword), 0x1053_1af4);
    assert_eq!(driver.config().read(0x08, Width::Byte), 1, "revision");
    assert_eq!(driver.config().bar(0), None);
    assert_eq!(driver.read(0, 18, Width::Byte), 0xff);
    let _ = driver.outp(18, Width::Byte, 3);
    assert_eq!(driver.status(), 0);
}

#[test]
fn a_device_that_takes_nothing_is_not_asked_for_ever() {
    let ring = Ring::new(4);
    let mut driver = Driver::modern(Modern, &ring, 0);
    ring.descriptor(&driver.memory, 0, DATA, 4, WRITE, 0);
    ring.offer(&driver.memory, 0, 0);
    assert_eq!(driver.kick(), Effect::OUTPUT);
}
