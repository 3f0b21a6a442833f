//! Drivers and clients that end, begin anew, or break their rings.

use layout::event;
use mmio::RecordRing;
use proto::block::{Operation, Status};

use crate::bench::{Bench, Client, FIRST, SECOND, SECTORS, range};

/// What a process that breaks its rings may leave: at the index of which end, and what.
const LEFT: [(u64, u32); 4] = [(0, 0x8000_0000), (64, 0x8000_0000), (0, 3), (64, 7)];

#[test]
fn a_driver_that_begins_anew_after_it_has_broken_a_ring_serves_again() {
    for (at, left) in LEFT {
        for ring in 0..2 {
            let mut bench = Bench::ready(&[FIRST, SECOND]);
            bench.clients[0].send(1, Operation::Write { sector: 64, sectors: 1 }, &[1; 512]);
            bench.step();
            bench.memory[ring].write_u32(at, left).unwrap();
            bench.step();
            // It dies, and begins anew. What was under way has ended, in one way or the other.
            bench.driver.begin_anew(&bench.memory);
            bench.settle();
            let end = bench.clients[0].receive().expect("an end");
            assert!(end.0 == 1 && end.2.is_empty(), "{end:?}");
            for client in 0..2 {
                assert_eq!(bench.write(client, 64, 7, 2), Status::Done, "{at} {left:#x} of ring {ring}");
                assert_eq!(bench.read(client, 64, 2), (Status::Done, vec![7; 1024]));
            }
        }
    }
}

#[test]
fn a_client_that_begins_anew_after_it_has_broken_a_ring_is_served_again() {
    for (at, left) in LEFT {
        for ring in 2..4 {
            let mut bench = Bench::ready(&[FIRST, SECOND]);
            bench.clients[0].send(1, Operation::Read { sector: 64, sectors: 1 }, &[]);
            bench.step();
            bench.memory[ring].write_u32(at, left).unwrap();
            bench.settle();
            let ring = |n: usize| RecordRing::new(bench.memory[n]).unwrap();
            bench.clients[0] = Client { requests: ring(2).producer(), completions: ring(3).consumer() };
            bench.step();
            bench.clients[0].requests.mend();
            bench.clients[0].completions.mend();
            bench.settle();
            while bench.clients[0].receive().is_some() {}
            assert_eq!(bench.ask(0, Operation::Hello, &[]).0, Status::Done, "{at} {left:#x}");
            assert_eq!(bench.read(0, 64, 4).1, bench.driver.bytes[range(10, 4)]);
            assert_eq!(bench.read(1, 64, 4).1, bench.driver.bytes[range(110, 4)]);
        }
    }
}

#[test]
fn a_driver_that_finds_its_disk_at_last_is_asked_again() {
    let mut bench = Bench::new(&[FIRST]);
    bench.driver.sectors = 0;
    assert_eq!(bench.ask(0, Operation::Hello, &[]).0, Status::Failed);
    bench.driver.sectors = SECTORS;
    bench.driver.begin_anew(&bench.memory);
    assert_eq!(bench.ask(0, Operation::Hello, &[]).0, Status::Done);
    assert_eq!(bench.read(0, 64, 1).0, Status::Done);
}

#[test]
fn when_a_driver_has_ended_every_request_ends() {
    let mut bench = Bench::ready(&[FIRST, SECOND]);
    bench.clients[0].send(1, Operation::Read { sector: 64, sectors: 1 }, &[]);
    bench.clients[1].send(2, Operation::Flush, &[]);
    bench.step();
    // Of another disk, which is not there.
    bench.server.end(event::ended(1));
    bench.step();
    assert_eq!(bench.clients[0].receive(), None);
    bench.server.end(event::ended(0));
    bench.step();
    assert_eq!(bench.clients[0].receive(), Some((1, Status::Failed, vec![])));
    assert_eq!(bench.clients[1].receive(), Some((2, Status::Failed, vec![])));
    bench.clients[1].send(3, Operation::Write { sector: 64, sectors: 1 }, &[1; 512]);
    bench.step();
    assert_eq!(bench.clients[1].receive(), Some((3, Status::Failed, vec![])));
    // A late answer of its is none.
    bench.driver.serve();
    bench.driver.begin_anew(&bench.memory);
    bench.settle();
    assert_eq!((bench.clients[0].receive(), bench.clients[1].receive()), (None, None));
}

#[test]
fn without_a_disk_every_request_ends() {
    let mut bench = Bench::new(&[FIRST]);
    bench.driver.sectors = 0;
    assert_eq!(bench.ask(0, Operation::Hello, &[]).0, Status::Failed);
    // A driver that breaks its ring.
    let mut bench = Bench::ready(&[FIRST]);
    bench.clients[0].send(1, Operation::Read { sector: 64, sectors: 1 }, &[]);
    bench.step();
    bench.memory[1].write_u32(0, 0xffff_fff0).unwrap();
    bench.step();
    assert_eq!(bench.clients[0].receive(), Some((1, Status::Failed, vec![])));
    bench.clients[0].send(2, Operation::Flush, &[]);
    bench.step();
    assert_eq!(bench.clients[0].receive(), Some((2, Status::Failed, vec![])));
}
