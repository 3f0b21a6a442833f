//! The ends of requests, and what clients and drivers do to each other.

use layout::Slot;
use proto::block::{MOST, Operation, Status};

use crate::bench::{Bench, FIRST, SECOND};

#[test]
fn writes_and_flushes_end_when_the_driver_says_so() {
    let mut bench = Bench::ready(&[FIRST]);
    bench.clients[0].send(1, Operation::Write { sector: 64, sectors: 1 }, &[9; 512]);
    bench.clients[0].send(2, Operation::Flush, &[]);
    bench.step();
    assert_eq!(bench.clients[0].receive(), None);
    bench.driver.serve();
    assert_eq!(bench.driver.log, [Operation::Write { sector: 10, sectors: 1 }, Operation::Flush]);
    bench.step();
    assert_eq!(bench.clients[0].receive(), Some((1, Status::Done, vec![])));
    assert_eq!(bench.clients[0].receive(), Some((2, Status::Done, vec![])));
}

#[test]
fn a_failure_is_that_request_s() {
    let mut bench = Bench::ready(&[FIRST, SECOND]);
    bench.driver.fails = true;
    assert_eq!(bench.read(0, 64, 4), (Status::Failed, vec![]));
    assert_eq!(bench.write(0, 64, 1, 4), Status::Failed);
    assert_eq!(bench.ask(0, Operation::Flush, &[]).0, Status::Failed);
    bench.driver.fails = false;
    assert_eq!(bench.read(0, 64, 4).0, Status::Done);
    assert_eq!(bench.read(1, 64, 4).0, Status::Done);
}

#[test]
fn a_flush_that_fails_is_known_to_all_who_may_have_written() {
    let mut bench = Bench::ready(&[FIRST, SECOND]);
    let flush = |bench: &mut Bench, client| bench.ask(client, Operation::Flush, &[]).0;
    assert_eq!(bench.write(0, 64, 1, 4), Status::Done);
    bench.driver.fails = true;
    assert_eq!(flush(&mut bench, 1), Status::Failed);
    bench.driver.fails = false;
    assert_eq!(flush(&mut bench, 1), Status::Done);
    assert_eq!(flush(&mut bench, 0), Status::Failed, "it has written, and did not ask then");
    assert_eq!(flush(&mut bench, 0), Status::Done);
}

#[test]
fn a_greeting_is_answered_after_all_before_it() {
    let mut bench = Bench::ready(&[FIRST]);
    bench.clients[0].send(1, Operation::Read { sector: 64, sectors: 1 }, &[]);
    bench.clients[0].send(2, Operation::Hello, &[]);
    bench.clients[0].send(3, Operation::Read { sector: 65, sectors: 1 }, &[]);
    bench.step();
    assert_eq!(bench.clients[0].receive(), None);
    bench.settle();
    let tags: Vec<u64> = std::iter::from_fn(|| bench.clients[0].receive()).map(|(tag, ..)| tag).collect();
    assert_eq!(tags, [1, 2, 3]);
}

#[test]
fn one_client_cannot_take_all() {
    let mut bench = Bench::ready(&[FIRST, SECOND]);
    // The first sends as much as it can, and takes no completions.
    let mut sent = 0;
    for _ in 0..100 {
        while bench.clients[0].send(sent, Operation::Read { sector: 64, sectors: 100 }, &[]) {
            sent += 1;
            if sent > 5000 {
                break;
            }
        }
        bench.settle();
    }
    assert!(bench.driver.log.len() < 16, "its ring has room for {}", bench.driver.log.len());
    assert_eq!(bench.read(1, 64, 200).0, Status::Done);
    bench.driver.log.clear();
    // It takes what it has: everything ends.
    let mut ended = 0;
    while ended < sent {
        bench.settle();
        while let Some((tag, status, data)) = bench.clients[0].receive() {
            assert_eq!((tag, status, data.len()), (ended, Status::Done, 51_200));
            ended += 1;
        }
        if bench.driver.log.len() > 100 {
            break;
        }
    }
    // Turns: the second client's request is among the next of the first's.
    bench.driver.log.clear();
    bench.clients[1].send(1, Operation::Read { sector: 64, sectors: 1 }, &[]);
    bench.step();
    bench.driver.serve();
    assert!(bench.driver.log.iter().take(9).any(|done| matches!(done, Operation::Read { sector: 110, .. })));
}

#[test]
fn what_is_no_request_is_dropped_and_a_broken_ring_is_that_client_s() {
    let mut bench = Bench::ready(&[FIRST, SECOND]);
    for len in [0usize, 3, 23] {
        let mut record = bench.clients[0].requests.reserve(64).unwrap();
        record.write(&vec![1; len]).unwrap();
        record.publish();
    }
    bench.clients[0].send(5, Operation::Read { sector: 64, sectors: MOST + 1 }, &[]);
    bench.clients[0].send(6, Operation::Write { sector: 64, sectors: 2 }, &[0; 512]);
    bench.settle();
    assert_eq!((bench.clients[0].receive(), bench.driver.log.len()), (None, 0));
    assert_eq!(bench.read(0, 64, 1).0, Status::Done);
    bench.memory[2].write_u32(0, 3).unwrap();
    bench.settle();
    bench.clients[0].send(7, Operation::Flush, &[]);
    bench.settle();
    assert_eq!(bench.clients[0].receive(), None);
    assert_eq!(bench.read(1, 64, 1).0, Status::Done);
}

#[test]
fn whoever_waits_is_signalled() {
    let mut bench = Bench::ready(&[FIRST]);
    assert!(bench.signals.contains(&Slot(100)), "the driver got requests");
    bench.signals.clear();
    assert!(!bench.clients[0].completions.park());
    bench.clients[0].send(1, Operation::Flush, &[]);
    assert!(bench.clients[0].requests.must_signal(), "the server waits");
    assert!(!bench.driver.requests.park());
    bench.step();
    assert!(bench.signals.contains(&Slot(100)));
    bench.signals.clear();
    bench.driver.serve();
    bench.step();
    assert!(bench.signals.contains(&Slot(0)));
    bench.signals.clear();
    bench.step();
    assert_eq!(bench.signals, [], "nobody waits for nothing");
}
