//! Files as disks: read-only, and with a layer for what is written.

use proptest::prelude::*;
use proto::block::{Geometry, Operation, Status};

use crate::bench::Bench;

/// Sectors of the file: the last block has five.
const SECTORS: u64 = 45;
/// The table, and room for three blocks.
const LAYER: usize = 4096 * 4;

fn file() -> Vec<u8> {
    (0..SECTORS * 512).map(|at| (at / 512 + at % 11) as u8).collect()
}

#[test]
fn a_file_without_a_layer_is_read_only() {
    let file = file();
    let mut bench = Bench::with_files(&file, &[("disk", None)]);
    let (status, shape) = bench.ask(0, Operation::Hello, &[]);
    let shape = Geometry::of(shape.as_slice().try_into().unwrap());
    assert_eq!((status, shape), (Status::Done, Geometry { sectors: SECTORS, read_only: true }));
    // More than fileserver's buffer has room for.
    for (sector, sectors) in [(0, 45), (0, 1), (7, 2), (44, 1), (3, 40)] {
        let expected = &file[sector as usize * 512..(sector + u64::from(sectors)) as usize * 512];
        assert!(bench.read(0, sector, sectors) == (Status::Done, expected.to_vec()), "{sector}+{sectors}");
    }
    for (sector, sectors) in [(45, 1), (44, 2), (1 << 55, 1), (u64::MAX, 1)] {
        assert_eq!(bench.read(0, sector, sectors), (Status::Refused, vec![]), "{sector}");
    }
    assert_eq!(bench.write(0, 0, 1, 1), Status::Refused);
    assert_eq!(bench.ask(0, Operation::Flush, &[]).0, Status::Done);
}

#[test]
fn what_one_client_writes_no_other_sees() {
    let file = file();
    let mut bench = Bench::with_files(&file, &[("disk", Some(LAYER)), ("disk", Some(LAYER)), ("disk", None)]);
    let (_, shape) = bench.ask(0, Operation::Hello, &[]);
    assert_eq!(Geometry::of(shape.as_slice().try_into().unwrap()), Geometry { sectors: SECTORS, read_only: false });
    // Across blocks, in the middle of one, and the last one.
    let mut expected = file.clone();
    for (sector, sectors) in [(7, 2), (10, 1), (44, 1)] {
        assert_eq!(bench.write(0, sector, 0xa5, sectors), Status::Done);
        expected[sector as usize * 512..][..sectors as usize * 512].fill(0xa5);
    }
    assert!(bench.read(0, 0, 45).1 == expected);
    assert!(bench.read(1, 0, 45).1 == file && bench.read(2, 0, 45).1 == file);
}

#[test]
fn a_full_layer_fails_what_needs_more_and_nothing_else() {
    let file = file();
    let mut bench =
        Bench::with_files(&file, &[("disk", Some(LAYER)), ("disk", Some(LAYER + 4096)), ("disk", Some(4096))]);
    // Sectors 0 to 23, as whole blocks.
    assert_eq!(bench.write(0, 0, 1, 24), Status::Done);
    for (sector, sectors) in [(24, 1), (20, 8), (0, 45)] {
        assert_eq!(bench.write(0, sector, 2, sectors), Status::Failed, "{sector}+{sectors}");
    }
    assert_eq!(bench.write(0, 5, 3, 19), Status::Done);
    let (status, data) = bench.read(0, 0, 45);
    assert_eq!(status, Status::Done);
    assert!(data[5 * 512..24 * 512].iter().all(|&byte| byte == 3) && data[24 * 512..] == file[24 * 512..]);
    // A block of one client's is none of another's.
    assert_eq!((bench.write(1, 0, 1, 32), bench.write(1, 32, 1, 1)), (Status::Done, Status::Failed));
    // A layer that has room for its table only.
    assert_eq!((bench.write(2, 0, 1, 1), bench.read(2, 0, 1).1), (Status::Failed, file[..512].to_vec()));
}

#[test]
fn a_file_that_is_not_there_or_has_no_sector_is_no_disk() {
    let mut bench = Bench::with_files(&file(), &[("other", None), ("disk", None)]);
    assert_eq!(bench.ask(0, Operation::Hello, &[]), (Status::Failed, vec![]));
    assert_eq!(bench.read(0, 0, 1).0, Status::Refused);
    assert_eq!(bench.read(1, 0, 1).0, Status::Done);
    let mut bench = Bench::with_files(&[7; 511], &[("disk", Some(LAYER))]);
    assert_eq!(bench.ask(0, Operation::Hello, &[]), (Status::Failed, vec![]));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(64) })]

    /// With room for every block, a file and its layer are plain bytes.
    #[test]
    fn a_file_with_a_layer_is_a_disk(work in prop::collection::vec((0..SECTORS, 1..45u32, any::<u8>(), any::<bool>()), 1..20)) {
        let mut disk = file();
        let mut bench = Bench::with_files(&disk, &[("disk", Some(4096 * 7)), ("disk", None)]);
        for (sector, sectors, byte, write) in work {
            let sectors = sectors.min((SECTORS - sector) as u32);
            let place = sector as usize * 512..(sector as usize + sectors as usize) * 512;
            match write {
                true => {
                    disk[place].fill(byte);
                    prop_assert_eq!(bench.write(0, sector, byte, sectors), Status::Done);
                }
                false => prop_assert!(bench.read(0, sector, sectors) == (Status::Done, disk[place].to_vec())),
            }
        }
        prop_assert!(bench.read(0, 0, 45).1 == disk && bench.read(1, 0, 45).1 == file());
    }
}
