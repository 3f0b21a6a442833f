//! Any work, and hostile ends of the rings.

use std::collections::VecDeque;

use proptest::prelude::*;
use proto::block::{Geometry, Operation, SECTOR, Status};

use crate::bench::{Bench, FIRST, PARTITIONS, SECOND, range};

fn operation() -> impl Strategy<Value = Operation> {
    let sector = prop_oneof![
        4 => 0..300u64,
        1 => prop::sample::select(vec![164u64, 1 << 32, 1 << 63, u64::MAX]),
        1 => any::<u64>()
    ];
    let sectors = prop_oneof![4 => 1..=128u32, 1 => 1..5u32];
    prop_oneof![
        3 => (sector.clone(), sectors.clone()).prop_map(|(sector, sectors)| Operation::Read { sector, sectors }),
        3 => (sector, sectors).prop_map(|(sector, sectors)| Operation::Write { sector, sectors }),
        1 => Just(Operation::Flush),
        1 => Just(Operation::Hello),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(64) })]

    /// Against disks that are plain bytes. Nothing outside the two partitions changes, and every request ends once.
    #[test]
    fn two_clients_have_two_disks(
        work in prop::collection::vec((0..2usize, operation(), any::<u8>(), prop::bool::ANY), 1..40),
    ) {
        let mut bench = Bench::ready(&[FIRST, SECOND]);
        let before = bench.driver.bytes.clone();
        let mut disks: Vec<Vec<u8>> = (0..2).map(|n| {
            let (first, sectors) = PARTITIONS[n];
            [bench.read(n, 0, 64).1, before[range(first, sectors as u32)].to_vec()].concat()
        }).collect();
        let mut expected = [VecDeque::new(), VecDeque::new()];
        for (tag, (client, operation, byte, settle)) in (100..).zip(work) {
            let disk = &mut disks[client];
            let inside = |sector: u64, sectors: u32| {
                let end = sector.checked_add(sectors.into()).filter(|&end| end <= disk.len() as u64 / 512);
                end.map(|_| range(sector, sectors))
            };
            let mut data = vec![];
            let answer = match operation {
                Operation::Hello => {
                    let sectors = disk.len() as u64 / 512;
                    (Status::Done, Geometry { sectors, read_only: false }.bytes().to_vec())
                }
                Operation::Flush => (Status::Done, vec![]),
                Operation::Read { sector, sectors } => match inside(sector, sectors) {
                    Some(range) => (Status::Done, disk[range].to_vec()),
                    None => (Status::Refused, vec![]),
                },
                Operation::Write { sector, sectors } => {
                    data = vec![byte; (sectors * SECTOR) as usize];
                    match inside(sector, sectors).filter(|_| sector >= 64) {
                        Some(range) => {
                            disk[range].copy_from_slice(&data);
                            (Status::Done, vec![])
                        }
                        None => (Status::Refused, vec![]),
                    }
                }
            };
            if !bench.clients[client].send(tag, operation, &data) {
                bench.settle();
                prop_assert!(bench.clients[client].send(tag, operation, &data));
            }
            expected[client].push_back((tag, answer.0, answer.1));
            if settle {
                bench.settle();
            }
            prop_assert!(bench.ends_are(&mut expected));
        }
        for _ in 0..20 {
            bench.settle();
            prop_assert!(bench.ends_are(&mut expected));
        }
        prop_assert!(expected.iter().all(VecDeque::is_empty));
        prop_assert_eq!(&bench.driver.bytes[range(10, 100)], &disks[0][64 * 512..]);
        prop_assert_eq!(&bench.driver.bytes[range(110, 200)], &disks[1][64 * 512..]);
        prop_assert_eq!(&bench.driver.bytes[..5120], &before[..5120]);
        prop_assert_eq!(&bench.driver.bytes[range(310, 90)], &before[range(310, 90)]);
    }

    /// Records of any bytes, and any indices: the other client's disk is there and unchanged.
    #[test]
    fn a_hostile_client_harms_itself_only(
        records in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..64), 0..20),
        indices in prop::collection::vec((2..4usize, prop::sample::select(vec![0u64, 4, 64, 68]), any::<u32>()), 0..4),
    ) {
        let mut bench = Bench::ready(&[FIRST, SECOND]);
        let before = bench.driver.bytes.clone();
        for bytes in records {
            let mut record = bench.clients[0].requests.reserve(64).unwrap();
            record.write(&bytes).unwrap();
            record.publish();
        }
        bench.settle();
        for (ring, at, index) in indices {
            bench.memory[ring].write_u32(at, index).unwrap();
            bench.settle();
        }
        prop_assert_eq!(bench.read(1, 64, 200), (Status::Done, before[range(110, 200)].to_vec()));
        prop_assert_eq!(&bench.driver.bytes[..5120], &before[..5120]);
        prop_assert_eq!(&bench.driver.bytes[range(110, 290)], &before[range(110, 290)]);
    }

    /// Any completions, and any indices: no request ends twice, and none that was not made.
    #[test]
    fn a_hostile_driver_ends_what_was_asked_at_most(
        records in prop::collection::vec((0..8u64, 0..4u64, 0..2000usize), 0..20),
        indices in prop::collection::vec((0..2usize, prop::sample::select(vec![0u64, 4, 64, 68]), any::<u32>()), 0..3),
    ) {
        let mut bench = Bench::ready(&[FIRST, SECOND]);
        for (client, tag) in [(0, 10), (0, 11), (1, 12)] {
            let read = Operation::Read { sector: 64, sectors: 2 };
            prop_assert!(bench.clients[client].send(tag, read, &[]));
        }
        bench.step();
        for (tag, status, len) in records {
            let mut record = bench.driver.completions.reserve(2016).unwrap();
            record.write(&tag.to_le_bytes()).unwrap();
            record.write(&status.to_le_bytes()).unwrap();
            record.write(&vec![0x5a; len]).unwrap();
            record.publish();
            bench.step();
        }
        for (ring, at, index) in indices {
            bench.memory[ring].write_u32(at, index).unwrap();
            bench.step();
        }
        for (client, mut tags) in [vec![10, 11], vec![12]].into_iter().enumerate() {
            while let Some((tag, status, data)) = bench.clients[client].receive() {
                let at = tags.iter().position(|known| *known == tag);
                prop_assert!(at.is_some(), "{} ends again", tag);
                tags.remove(at.unwrap());
                prop_assert_eq!(data.len(), usize::from(status == Status::Done) * 1024);
            }
        }
    }
}
