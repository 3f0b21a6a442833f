//! What the device is, and what becomes of each kind of request.

use super::*;

#[test]
fn it_is_found_by_either_kind_of_driver() {
    let mut bench = Bench::new();
    let config = bench.driver.config();
    assert_eq!(config.read(0x00, Width::Dword), 0x1001_1af4);
    assert_eq!(config.read(0x08, Width::Dword), 0x0100_0000, "mass storage, SCSI");
    assert_eq!(config.read(0x2c, Width::Dword), 0x0002_1af4);
    // SIZE_MAX, SEG_MAX, BLK_SIZE, FLUSH, and the transport's.
    let _ = bench.driver.common(0x00, Width::Dword, 0);
    assert_eq!(bench.driver.read(4, 0x04, Width::Dword), 1 << 1 | 1 << 2 | 1 << 6 | 1 << 9 | 7 << 27);
    assert_eq!(bench.driver.read(0, 0x00, Width::Dword), 1 << 1 | 1 << 2 | 1 << 6 | 1 << 9 | 7 << 27);
    // Capacity, size_max, seg_max, geometry, blk_size; behind 20 bytes of the legacy interface, and by themselves.
    for (bar, at) in [(0, 20), (4, 0x2000)] {
        assert_eq!(bench.driver.read(bar, at, Width::Qword), SECTORS);
        assert_eq!(bench.driver.read(bar, at + 8, Width::Dword), 0x1_0000);
        assert_eq!(bench.driver.read(bar, at + 12, Width::Dword), 32);
        assert_eq!(bench.driver.read(bar, at + 16, Width::Dword), 0);
        assert_eq!(bench.driver.read(bar, at + 20, Width::Dword), 512);
        assert_eq!(bench.driver.read(bar, at + 24, Width::Dword), 0);
    }
}

#[test]
fn sectors_are_read_and_written() {
    let mut bench = Bench::new();
    assert_eq!(bench.serve(0, 0, 3, 512), (OK, 513));
    assert_eq!(&bench.driver.memory.bytes::<512>(Bench::data(0))[..], Platter::new().sector(3));
    bench.driver.memory.write(Bench::data(1), &[0x5a; 1024]).unwrap();
    assert_eq!(bench.serve(1, 1, 62, 1024), (OK, 1));
    assert_eq!(bench.platter().bytes[61 * 512..], [Platter::new().sector(61), &[0x5a; 1024]].concat());
    assert_eq!(bench.serve(2, 4, 0, 0), (OK, 1));
    assert_eq!(
        bench.platter().log,
        [Operation::Read { sector: 3, sectors: 1 }, Operation::Write { sector: 62, sectors: 2 }, Operation::Flush,]
    );
}

#[test]
fn a_long_request_goes_in_pieces_across_its_buffers() {
    let mut bench = Bench::new();
    let memory = &bench.driver.memory;
    let at = DATA + 0x3000;
    // A header in two buffers, 4,608 bytes in three of odd lengths, and the status behind data in the last one.
    memory.write_u64(DATA, 0).unwrap();
    memory.write_u64(DATA + 0x100, 7).unwrap();
    let buffers =
        [(DATA, 8, 0), (DATA + 0x100, 8, 0), (at, 1001, WRITE), (at + 0x1000, 0, WRITE), (at + 0x2000, 3608, WRITE)];
    for (n, (gpa, len, way)) in (0..).zip(buffers) {
        let next = if n < 4 { NEXT } else { 0 };
        bench.ring.descriptor(memory, n, gpa, len, way | next, n + 1);
    }
    bench.ring.offer(memory, 0, 0);
    bench.offered = 1;
    let _ = bench.kick();
    for (sector, sectors) in [(7, 4), (11, 4), (15, 1)] {
        assert_eq!(bench.platter().log.last(), Some(&Operation::Read { sector, sectors }));
        assert_eq!(bench.ring.used(&bench.driver.memory).0, 0, "not before the last one");
        bench.platter().end_all();
        let _ = bench.poll();
    }
    assert_eq!(bench.ring.used(&bench.driver.memory), (1, 0, 4609));
    let found = [&bench.driver.memory.bytes::<1001>(at)[..], &bench.driver.memory.bytes::<3608>(at + 0x2000)].concat();
    assert_eq!(found[..4608], Platter::new().bytes[7 * 512..16 * 512]);
    assert_eq!(found[4608], OK);
}

#[test]
fn a_long_write_goes_in_pieces_too() {
    let mut bench = Bench::new();
    let bytes: Vec<u8> = (0..3072).map(|at| (at / 5) as u8).collect();
    bench.driver.memory.write(Bench::data(0), &bytes).unwrap();
    assert_eq!(bench.serve(0, 1, 10, 3072), (OK, 1));
    assert_eq!(bench.platter().bytes[10 * 512..16 * 512], bytes);
    let log = &bench.platter().log;
    assert_eq!(log[..], [Operation::Write { sector: 10, sectors: 4 }, Operation::Write { sector: 14, sectors: 2 }]);
}

#[test]
fn no_sector_beyond_the_end_whatever_its_number() {
    let mut bench = Bench::new();
    let past = [64, 65, 1 << 32, (1 << 32) + 3, 1 << 55, (1 << 63) - 1, 1 << 63, u64::MAX - 1, u64::MAX];
    for kind in [0, 1] {
        for sector in past {
            assert_eq!(bench.serve(0, kind, sector, 512).0, IOERR, "{kind} {sector:#x}");
        }
        assert_eq!(bench.serve(0, kind, 63, 1024).0, IOERR, "one of two");
        assert_eq!(bench.serve(0, kind, u64::MAX, 1024).0, IOERR);
        assert_eq!(bench.serve(0, kind, 0, 513).0, IOERR, "not whole sectors");
        assert_eq!(bench.serve(0, kind, 0, 511).0, IOERR);
        assert_eq!(bench.serve(0, kind, 64, 0).0, OK, "nothing");
        assert_eq!(bench.serve(0, kind, 65, 0).0, IOERR, "nothing, but elsewhere");
    }
    assert_eq!(bench.platter().log, []);
    assert_eq!(bench.platter().bytes, Platter::new().bytes);
    assert_eq!(bench.serve(0, 0, 63, 512), (OK, 513));
}

#[test]
fn a_large_disk_has_its_last_sector() {
    let mut bench = Bench::with(Platter { sectors: u64::MAX, ..Platter::new() }, FLUSH);
    bench.offer(0, 0, u64::MAX - 1, 512);
    let _ = bench.kick();
    assert_eq!(bench.platter().log, [Operation::Read { sector: u64::MAX - 1, sectors: 1 }]);
    bench.platter().end(0, false);
    let _ = bench.poll();
    assert_eq!(bench.serve(1, 0, u64::MAX, 512).0, IOERR);
}

#[test]
fn a_read_only_disk_is_not_written() {
    let mut bench = Bench::with(Platter { read_only: true, ..Platter::new() }, FLUSH | RO);
    assert_eq!(bench.driver.read(0, 0x00, Width::Dword) as u32 & RO, RO);
    assert_eq!(bench.serve(0, 1, 0, 512).0, IOERR);
    assert_eq!(bench.serve(0, 0, 0, 512).0, OK);
    assert_eq!(bench.platter().bytes, Platter::new().bytes);
}

#[test]
fn other_requests_are_not_supported_and_the_name_is_known() {
    let mut bench = Bench::new();
    for kind in [2, 3, 5, 11, 13, 14, 0x8000_0000, u32::MAX] {
        bench.driver.memory.write(Bench::data(0), &[9; 512]).unwrap();
        assert_eq!(bench.serve(0, kind, 0, 512).0, UNSUPP, "{kind}");
        assert_eq!(bench.driver.memory.bytes(Bench::data(0)), [9; 512]);
    }
    assert_eq!(bench.serve(0, 8, 0, 20), (OK, 21));
    assert_eq!(&bench.driver.memory.bytes(Bench::data(0)), b"a disk of a test\0\0\0\0");
    assert_eq!(bench.serve(1, 8, 0, 4), (OK, 5));
    assert_eq!(&bench.driver.memory.bytes(Bench::data(1)), b"a di\0");
    assert_eq!(bench.serve(2, 8, 0, 64), (OK, 20));
    assert_eq!(bench.serve(2, 8, 0, 0), (OK, 1));
}

#[test]
fn without_flush_a_write_is_on_the_medium_when_it_ends() {
    let mut bench = Bench::with(Platter::new(), 0);
    bench.offer(0, 1, 0, 512);
    let _ = bench.kick();
    bench.platter().end(0, true);
    let _ = bench.poll();
    assert_eq!(bench.platter().log, [Operation::Write { sector: 0, sectors: 1 }, Operation::Flush]);
    assert_eq!(bench.status(0), UNTOUCHED);
    bench.platter().end(0, false);
    let _ = bench.poll();
    assert_eq!(bench.status(0), IOERR, "it may not be there");
    assert_eq!(bench.serve(1, 0, 0, 512).0, OK);
    assert_eq!(bench.platter().log.len(), 3, "reads are not flushed");
}
