//! What of a disk a client has, and what it has not.

use proto::block::{Geometry, Operation, Part, Status};

use crate::bench::{Bench, FIRST, SECOND, SECTORS, range};

#[test]
fn a_partition_is_a_disk_of_its_own() {
    let mut bench = Bench::ready(&[FIRST, SECOND]);
    let (status, shape) = bench.ask(0, Operation::Hello, &[]);
    assert_eq!(status, Status::Done);
    let shape = Geometry::of(shape.as_slice().try_into().unwrap());
    assert_eq!(shape, Geometry { sectors: 164, read_only: false });
    let (status, table) = bench.read(0, 0, 64);
    assert_eq!((status, table.len()), (Status::Done, 64 * 512));
    assert_eq!(table[446..462], [0, 0xfe, 0xff, 0xff, 0x83, 0xfe, 0xff, 0xff, 64, 0, 0, 0, 100, 0, 0, 0]);
    assert_eq!(table[510..512], [0x55, 0xaa]);
    assert!(table[..446].iter().chain(&table[462..510]).chain(&table[512..]).all(|&byte| byte == 0));
    assert_eq!(bench.driver.log, [], "the disk has no part in it");
    assert_eq!(bench.read(0, 64, 100), (Status::Done, bench.driver.bytes[range(10, 100)].to_vec()));
    assert_eq!(bench.read(1, 263, 1), (Status::Done, bench.driver.bytes[range(309, 1)].to_vec()));
    assert_eq!(
        bench.driver.log,
        [Operation::Read { sector: 10, sectors: 100 }, Operation::Read { sector: 309, sectors: 1 }]
    );
}

#[test]
fn a_read_across_the_table_s_end_has_both() {
    let mut bench = Bench::ready(&[FIRST]);
    let (status, data) = bench.read(0, 0, 100);
    assert_eq!((status, data.len()), (Status::Done, 51_200));
    assert_eq!(data[510..512], [0x55, 0xaa]);
    assert!(data[512..64 * 512].iter().all(|&byte| byte == 0));
    assert_eq!(data[64 * 512..], bench.driver.bytes[range(10, 36)]);
    assert_eq!(bench.driver.log, [Operation::Read { sector: 10, sectors: 36 }]);
    let (status, data) = bench.read(0, 63, 2);
    assert_eq!((status, &data[512..]), (Status::Done, &bench.driver.bytes[range(10, 1)]));
}

#[test]
fn nothing_outside_is_read_or_written() {
    let mut bench = Bench::ready(&[FIRST, SECOND]);
    let before = bench.driver.bytes.clone();
    for sector in [164, 165, 1 << 32, (1 << 32) + 64, 1 << 55, 1 << 63, u64::MAX - 63, u64::MAX] {
        assert_eq!(bench.read(0, sector, 1), (Status::Refused, vec![]), "{sector:#x}");
        assert_eq!(bench.write(0, sector, 1, 1), Status::Refused, "{sector:#x}");
    }
    for (sector, sectors) in [(163, 2), (64, 101), (u64::MAX, 128), (37, 128)] {
        assert_eq!(bench.read(0, sector, sectors).0, Status::Refused);
        assert_eq!(bench.write(0, sector, 1, sectors), Status::Refused);
    }
    // Nor the table.
    for (sector, sectors) in [(0, 1), (63, 1), (63, 2), (0, 100)] {
        assert_eq!(bench.write(0, sector, 1, sectors), Status::Refused, "{sector}");
    }
    assert_eq!((bench.driver.log.len(), &bench.driver.bytes), (0, &before));
    assert_eq!(bench.write(0, 163, 1, 1), Status::Done);
    assert_eq!(bench.driver.bytes[range(109, 1)], [1; 512]);
    assert_eq!(bench.driver.bytes[range(110, 290)], before[range(110, 290)]);
}

#[test]
fn whole_disks_slices_and_read_only_ones() {
    let mut bench = Bench::ready(&[(Part::Whole, true), (Part::Slice { first: 5, sectors: 10 }, true)]);
    let (_, shape) = bench.ask(0, Operation::Hello, &[]);
    assert_eq!(Geometry::of(shape.as_slice().try_into().unwrap()), Geometry { sectors: SECTORS, read_only: true });
    assert_eq!(bench.read(0, 399, 1).1, bench.driver.bytes[range(399, 1)]);
    assert_eq!(bench.read(0, 399, 2).0, Status::Refused);
    assert_eq!(bench.write(0, 5, 1, 1), Status::Refused);
    assert_eq!(bench.read(1, 0, 10).1, bench.driver.bytes[range(5, 10)]);
    assert_eq!(bench.read(1, 10, 1).0, Status::Refused);
    assert_eq!(bench.write(1, 0, 1, 1), Status::Refused);
}

#[test]
fn who_has_no_part_is_told_so() {
    // Partition 3 ends behind the disk, 4 is empty, and the slice has a part that the first client may write.
    let parts = [
        FIRST,
        (Part::Partition(3), false),
        (Part::Partition(4), false),
        (Part::Slice { first: 109, sectors: 2 }, true),
    ];
    let mut bench = Bench::ready(&parts);
    for client in 1..4 {
        assert_eq!(bench.ask(client, Operation::Hello, &[]), (Status::Failed, vec![]), "{client}");
        assert_eq!(bench.read(client, 0, 1).0, Status::Refused);
    }
    assert_eq!(bench.ask(0, Operation::Hello, &[]).0, Status::Done);
}
