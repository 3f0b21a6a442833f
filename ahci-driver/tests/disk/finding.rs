//! From the firmware to a disk that says what it is.

use super::*;

#[test]
fn a_disk_says_what_it_is() {
    let (disk, machine, _) = found();
    assert_eq!((disk.port(), disk.sectors()), (2, SECTORS));
    assert_eq!(std::str::from_utf8(&disk.model()).map(str::trim_end), Ok("PORTCULLIS MODEL"));
    assert_eq!(machine.0.borrow().resets, 1);
    let (machine, memory) = self::machine();
    machine.0.borrow_mut().ports[PORT].identity = Some(identity(0x0123_4567_89ab, b'1'));
    assert_eq!(finds(&machine, memory, None), Ok((2, 0x0123_4567_89ab)));
    // More than commands reach.
    machine.0.borrow_mut().ports[PORT].identity = Some(identity(u64::MAX, b'1'));
    assert_eq!(finds(&machine, memory, None), Ok((2, 1 << 48)));
}

#[test]
fn the_first_disk_is_taken_or_the_one_that_is_asked_for() {
    let (machine, memory) = machine();
    machine.0.borrow_mut().ports[4] = fresh(Some(identity(77, b'4')), 0x101);
    // A CD-ROM drive is passed over.
    machine.0.borrow_mut().ports[1] = fresh(Some(identity(5, b'c')), 0xeb14_0101);
    assert_eq!(finds(&machine, memory, None), Ok((2, SECTORS)));
    assert_eq!(finds(&machine, memory, Some(4)), Ok((4, 77)));
    for port in [0, 1, 6, 31] {
        assert_eq!(finds(&machine, memory, Some(port)), Err(Fault::Absent), "port {port}");
    }
}

#[test]
fn a_disk_that_fails_is_not_passed_over() {
    let (machine, memory) = machine();
    machine.0.borrow_mut().ports[4] = fresh(Some(identity(77, b'4')), 0x101);
    for (ending, fault) in [(Ending::Status(1), Fault::Disk), (Ending::Never, Fault::Silent)] {
        machine.0.borrow_mut().ending = ending;
        assert_eq!(finds(&machine, memory, None), Err(fault));
    }
}

#[test]
fn disks_with_long_sectors_or_short_commands_are_refused() {
    for (word, value) in [(83, 0x4000), (83, 0x0400), (83, 0xc400), (106, 0x5000)] {
        let (machine, memory) = machine();
        machine.0.borrow_mut().ports[PORT].identity.as_mut().unwrap()[word] = value;
        assert_eq!(finds(&machine, memory, None), Err(Fault::Absent), "word {word}: {value:#x}");
    }
    // What the word says counts only if it is valid.
    let (machine, memory) = machine();
    machine.0.borrow_mut().ports[PORT].identity.as_mut().unwrap()[106] = 0x9000;
    assert_eq!(finds(&machine, memory, None), Ok((2, SECTORS)));
}

#[test]
fn the_firmware_hands_over_or_is_left() {
    for lets_go in [true, false] {
        let (machine, memory) = machine();
        machine.0.borrow_mut().handover = Some((1, lets_go));
        assert_eq!(finds(&machine, memory, None), Ok((2, SECTORS)));
        assert_eq!(machine.0.borrow().handover.unwrap().0 & 2, 2, "it was asked");
    }
}

#[test]
fn a_controller_that_stays_in_reset_is_given_up() {
    let (machine, memory) = machine();
    machine.0.borrow_mut().dead = true;
    assert_eq!(finds(&machine, memory, None), Err(Fault::Silent));
}

#[test]
fn memory_that_the_controller_does_not_reach_is_refused() {
    let (machine, memory) = machine();
    for bus in [512, u64::MAX - 4095, u64::MAX] {
        assert_eq!(Disk::find(machine.clone(), memory, bus, None).err(), Some(Fault::Memory), "{bus:#x}");
    }
    let small = memory.part(0, BUFFER + 511).unwrap();
    assert_eq!(Disk::find(machine.clone(), small, BUS, None).err(), Some(Fault::Memory));
    machine.0.borrow_mut().wide = false;
    for bus in [BUS, (1 << 32) - 4096] {
        assert_eq!(Disk::find(machine.clone(), memory, bus, None).err(), Some(Fault::Memory), "{bus:#x}");
    }
    assert_eq!(machine.0.borrow().resets, 0);
}
