//! Disks that are unplugged, and come back or not.

use super::*;

#[test]
fn a_disk_that_is_unplugged_is_an_error_at_once_and_comes_back() {
    let (mut disk, machine, _) = found();
    machine.0.borrow_mut().ending = Ending::Unplugged;
    machine.0.borrow_mut().slept = 0;
    for _ in 0..10 {
        assert_eq!(disk.transfer(Transfer::Read, 1, 1), Err(Fault::Absent));
        assert_eq!(disk.flush(), Err(Fault::Absent));
    }
    assert!(machine.0.borrow().slept < 1000, "it waits {} ms", machine.0.borrow().slept);
    assert_eq!(machine.0.borrow().log.len(), 1, "a command goes to no disk");
    // Another disk is none of ours, and stays untouched.
    machine.0.borrow_mut().ports[PORT].identity = Some(identity(SECTORS, b'2'));
    for _ in 0..2 {
        assert_eq!(disk.transfer(Transfer::Write, 1, 1), Err(Fault::Foreign));
    }
    assert_eq!(machine.0.borrow().log[1..], [(0xec, 0, 0)]);
    machine.0.borrow_mut().ports[PORT].identity = None;
    assert_eq!(disk.transfer(Transfer::Write, 1, 1), Err(Fault::Absent));
    machine.0.borrow_mut().ports[PORT].identity = Some(identity(SECTORS, b'1'));
    assert_eq!(disk.transfer(Transfer::Write, 1, 1), Ok(()));
}

#[test]
fn a_disk_that_is_unplugged_between_commands_interrupts_once() {
    let (mut disk, machine, _) = found();
    disk.transfer(Transfer::Write, 1, 1).unwrap();
    let identity = machine.0.borrow_mut().ports[PORT].identity.take();
    machine.0.borrow_mut().ports[PORT].is = 1 << 22;
    machine.0.borrow_mut().ports[PORT].serr = 1 << 16;
    disk.stray();
    assert_eq!((machine.0.borrow().ports[PORT].is, machine.0.borrow().ports[PORT].serr), (0, 0));
    assert_eq!(disk.transfer(Transfer::Read, 1, 1), Err(Fault::Absent));
    machine.0.borrow_mut().ports[PORT].identity = identity;
    assert_eq!(disk.transfer(Transfer::Read, 1, 1), Ok(()));
    assert_eq!(disk.flush(), Err(Fault::Absent), "what was in its cache only may be lost");
}

#[test]
fn what_was_only_in_the_cache_of_a_disk_that_was_away_fails_the_next_flush() {
    let (mut disk, machine, _) = found();
    let away = |disk: &mut Disk<Machine>| {
        let identity = machine.0.borrow().ports[PORT].identity.clone();
        machine.0.borrow_mut().ending = Ending::Unplugged;
        assert_eq!(disk.transfer(Transfer::Read, 1, 1), Err(Fault::Absent));
        machine.0.borrow_mut().ports[PORT].identity = identity;
        assert_eq!(disk.transfer(Transfer::Read, 1, 1), Ok(()));
    };
    disk.transfer(Transfer::Write, 1, 1).unwrap();
    away(&mut disk);
    assert_eq!(disk.flush(), Err(Fault::Absent));
    assert_eq!(disk.flush(), Ok(()), "once");
    away(&mut disk);
    assert_eq!(disk.flush(), Ok(()), "nothing was in it");
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(64) })]

    /// However commands end: those that end well have done what they say, and the disk comes back after all others.
    #[test]
    fn commands_end_as_the_disk_ends_them(work in prop::collection::vec((0..1100u64, 0..140u32, 0..3u8, 0..9u8), 1..30)) {
        let (mut disk, machine, memory) = found();
        let mut expected = machine.0.borrow().medium.clone();
        for (sector, sectors, what, ending) in work {
            machine.0.borrow_mut().slept = 0;
            machine.0.borrow_mut().ending = match ending {
                0 => Ending::Status(1),
                1 => Ending::Status(0x89),
                2 => Ending::Interrupt(1 << 29),
                3 => Ending::Never,
                _ => Ending::Well,
            };
            let inside = what == 2 || sector + u64::from(sectors) <= SECTORS && sectors > 0;
            let bytes = sector as usize * 512..(sector + u64::from(sectors)) as usize * 512;
            memory.fill(BUFFER, MEMORY - BUFFER, sector as u8).unwrap();
            let ended = match what {
                0 => disk.transfer(Transfer::Read, sector, sectors),
                1 => disk.transfer(Transfer::Write, sector, sectors),
                _ => disk.flush(),
            };
            prop_assert_eq!(ended.is_ok(), inside && ending > 3);
            if ended.is_ok() && what == 0 {
                let mut read = vec![0; bytes.len()];
                memory.read(BUFFER, &mut read).unwrap();
                prop_assert!(read == expected[bytes.clone()]);
            }
            if ended.is_ok() && what == 1 {
                expected[bytes].fill(sector as u8);
            }
            machine.0.borrow_mut().ending = Ending::Well;
        }
        prop_assert!(machine.0.borrow().medium == expected);
    }
}
