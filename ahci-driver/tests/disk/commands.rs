//! Transfers, and how they fail.

use super::*;

#[test]
fn sectors_arrive() {
    let (mut disk, machine, memory) = found();
    for (sector, sectors) in [(0u64, 1u32), (7, 128), (872, 128), (999, 1), (3, 248)] {
        disk.transfer(Transfer::Read, sector, sectors).unwrap();
        let mut bytes = vec![0; sectors as usize * 512];
        memory.read(BUFFER, &mut bytes).unwrap();
        let model = machine.0.borrow();
        assert!(bytes == model.medium[sector as usize * 512..][..bytes.len()], "{sector}+{sectors}");
        assert_eq!(model.log.last(), Some(&(0x25, sector, sectors)));
    }
    let written: Vec<u8> = (0..128 * 512).map(|at| (at / 3) as u8).collect();
    memory.write(BUFFER, &written).unwrap();
    let before = machine.0.borrow().medium.clone();
    disk.transfer(Transfer::Write, 100, 128).unwrap();
    disk.flush().unwrap();
    let model = machine.0.borrow();
    assert_eq!(model.log[model.log.len() - 2..], [(0x35, 100, 128), (0xea, 0, 0)]);
    assert!(model.medium[100 * 512..228 * 512] == written);
    assert!(model.medium[..100 * 512] == before[..100 * 512] && model.medium[228 * 512..] == before[228 * 512..]);
    assert_eq!(model.acknowledged as usize, model.log.len() + 1, "an interrupt for each, and for IDENTIFY");
}

#[test]
fn nothing_outside_the_disk_is_asked_for() {
    const OUTSIDE: [(u64, u32); 9] = [
        (1000, 1),
        (999, 2),
        (873, 128),
        (0, 0),
        (1 << 28, 1),
        (1 << 32, 1),
        (1 << 48, 1),
        (1 << 63, 1),
        (u64::MAX, 1),
    ];
    let (mut disk, machine, _) = found();
    for (sector, sectors) in OUTSIDE {
        for way in [Transfer::Read, Transfer::Write] {
            assert_eq!(disk.transfer(way, sector, sectors), Err(Fault::Disk), "{sector:#x}+{sectors}");
        }
    }
    // Inside, but more than the memory has room for, or than a region.
    assert_eq!(disk.transfer(Transfer::Read, 0, 249), Err(Fault::Memory));
    assert_eq!(machine.0.borrow().log, []);
    let (machine, memory) = self::machine();
    machine.0.borrow_mut().ports[PORT].identity = Some(identity(1 << 48, b'1'));
    let mut disk = Disk::find(machine.clone(), memory, BUS, None).expect("a disk");
    for sectors in [8193, 0xffff, 0x1_0000, u32::MAX] {
        assert_eq!(disk.transfer(Transfer::Read, 0, sectors), Err(Fault::Memory), "{sectors}");
    }
}

#[test]
fn all_48_bits_of_a_sector_s_number_arrive() {
    let (machine, memory) = machine();
    machine.0.borrow_mut().ports[PORT].identity = Some(identity(1 << 48, b'1'));
    let mut disk = Disk::find(machine.clone(), memory, BUS, None).expect("a disk");
    for sector in [0x1234_5678_9abc, 1 << 32, (1 << 24) - 1, 1 << 24, (1 << 48) - 2] {
        disk.transfer(Transfer::Read, sector, 2).unwrap();
        assert_eq!(machine.0.borrow().log.last(), Some(&(0x25, sector, 2)));
    }
    assert_eq!(disk.transfer(Transfer::Read, (1 << 48) - 1, 2), Err(Fault::Disk));
}

#[test]
fn what_the_disk_reports_is_that_command_s() {
    let (mut disk, machine, _) = found();
    for bits in [0x01, 0x20, 0x21] {
        machine.0.borrow_mut().ending = Ending::Status(bits);
        assert_eq!(disk.transfer(Transfer::Write, 1, 1), Err(Fault::Disk));
        assert_eq!(disk.transfer(Transfer::Read, 1, 1), Ok(()));
        machine.0.borrow_mut().ending = Ending::Status(bits);
        assert_eq!(disk.flush(), Err(Fault::Disk));
        assert_eq!(disk.flush(), Ok(()));
    }
    assert_eq!(machine.0.borrow().ports[PORT].link_resets, 0, "the link is as it was");
    // Busy, or with data to transfer, it takes more than a restart of the port.
    for bits in [0x81, 0x09] {
        machine.0.borrow_mut().ending = Ending::Status(bits);
        assert_eq!(disk.transfer(Transfer::Read, 1, 1), Err(Fault::Disk));
        assert_eq!(disk.transfer(Transfer::Read, 1, 1), Ok(()));
    }
    assert_eq!(machine.0.borrow().ports[PORT].link_resets, 2);
}

#[test]
fn errors_of_the_controller_reset_the_link() {
    let (mut disk, machine, _) = found();
    for (n, bit) in (1..).zip([24, 27, 28, 29]) {
        machine.0.borrow_mut().ending = Ending::Interrupt(1 << bit);
        assert_eq!(disk.transfer(Transfer::Read, 1, 1), Err(Fault::Dma), "bit {bit}");
        assert_eq!(machine.0.borrow().ports[PORT].link_resets, n);
        assert_eq!(disk.transfer(Transfer::Read, 1, 1), Ok(()));
    }
    machine.0.borrow_mut().ending = Ending::Short;
    assert_eq!(disk.transfer(Transfer::Read, 1, 1), Err(Fault::Dma), "not all bytes have come");
}

#[test]
fn a_disk_that_does_not_answer_is_reset() {
    let (mut disk, machine, _) = found();
    machine.0.borrow_mut().ending = Ending::Interrupt(0);
    assert_eq!(disk.transfer(Transfer::Read, 1, 1), Err(Fault::Silent));
    assert_eq!(machine.0.borrow().ports[PORT].link_resets, 1);
    assert_eq!(disk.transfer(Transfer::Read, 1, 1), Ok(()));
    // A port that does not stop takes a reset of the controller.
    for resets in [2, 3] {
        machine.0.borrow_mut().ending = Ending::Never;
        assert_eq!(disk.transfer(Transfer::Read, 1, 1), Err(Fault::Silent));
        assert_eq!(machine.0.borrow().resets, resets);
        assert_eq!(disk.flush(), Ok(()));
    }
}

#[test]
fn interrupts_from_elsewhere_end_no_command_and_not_for_ever() {
    let (mut disk, machine, memory) = found();
    // Another device on the line: nothing of the port's has changed when the driver looks.
    machine.0.borrow_mut().strays = 5;
    machine.0.borrow_mut().ending = Ending::Interrupt(0);
    assert_eq!(disk.transfer(Transfer::Read, 5, 1), Err(Fault::Silent), "and then nothing comes");
    machine.0.borrow_mut().strays = u32::MAX;
    machine.0.borrow_mut().ending = Ending::Interrupt(0);
    assert_eq!(disk.transfer(Transfer::Read, 5, 1), Err(Fault::Silent));
    machine.0.borrow_mut().strays = 0;
    disk.transfer(Transfer::Read, 5, 1).unwrap();
    let mut bytes = [0; 512];
    memory.read(BUFFER, &mut bytes).unwrap();
    assert_eq!(bytes[..], machine.0.borrow().medium[5 * 512..6 * 512]);
}
