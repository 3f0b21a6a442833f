//! Requests that the back end ends later, in any order, badly, or after a reset.

use super::*;

#[test]
fn requests_end_in_any_order_each_once() {
    let mut bench = Bench::new();
    for n in 0..3 {
        bench.offer(n, 0, u64::from(n), 512);
    }
    assert_eq!(bench.kick(), Effect::OUTPUT, "the back end gets its turn");
    bench.platter().output = false;
    bench.platter().end(1, true);
    assert_eq!(bench.poll(), Effect::LINES);
    assert_eq!(bench.ring.used(&bench.driver.memory), (1, 3, 513));
    assert_eq!([0, 1, 2].map(|n| bench.status(n)), [UNTOUCHED, OK, UNTOUCHED]);
    bench.platter().end(1, true);
    bench.platter().end(0, true);
    let _ = bench.poll();
    assert_eq!(bench.ring.used(&bench.driver.memory), (3, 0, 513));
    for n in 0..3 {
        let bytes = bench.driver.memory.bytes::<512>(Bench::data(n));
        assert_eq!(bytes[..], *Platter::new().sector(n.into()), "{n}");
    }
    assert_eq!(bench.poll(), Effect::QUIET);
    assert_eq!(bench.ring.used(&bench.driver.memory).0, 3);
}

#[test]
fn four_are_in_flight_and_the_rest_wait_without_being_asked_for() {
    let mut bench = Bench::new();
    for n in 0..7 {
        bench.offer(n, 0, n.into(), 512);
    }
    let _ = bench.kick();
    assert_eq!(bench.platter().pending.len(), 4);
    bench.platter().output = false;
    assert_eq!(bench.poll(), Effect::QUIET, "no end, no work");
    for left in [3, 0] {
        bench.platter().end_all();
        let _ = bench.poll();
        assert_eq!(bench.platter().pending.len(), left);
    }
    assert_eq!(bench.ring.used(&bench.driver.memory).0, 7);
}

#[test]
fn without_room_a_request_waits_and_keeps_its_place() {
    let mut bench = Bench::new();
    bench.platter().room = 1;
    bench.driver.memory.write(Bench::data(1), &[7; 512]).unwrap();
    for (n, kind) in [(0, 0), (1, 1), (2, 0)] {
        bench.offer(n, kind, 20 + u64::from(n), 512);
    }
    let _ = bench.kick();
    for sector in [20, 21, 22] {
        let last = bench.platter().log.last().copied();
        assert!(
            matches!(last, Some(Operation::Read { sector: at, .. } | Operation::Write { sector: at, .. }) if at == sector)
        );
        bench.platter().end_all();
        let _ = bench.poll();
    }
    assert_eq!(bench.ring.used(&bench.driver.memory), (3, 6, 513));
    assert_eq!(bench.platter().sector(21), [7; 512]);
}

#[test]
fn an_error_of_the_back_end_is_the_requests_and_no_other() {
    let mut bench = Bench::new();
    for (n, kind) in [(0, 0), (1, 1), (2, 4), (3, 0)] {
        bench.offer(n, kind, 5, if kind == 4 { 0 } else { 3072 });
    }
    let _ = bench.kick();
    for _ in 0..3 {
        bench.platter().end(0, false);
    }
    while !bench.platter().pending.is_empty() {
        bench.platter().end_all();
        let _ = bench.poll();
    }
    assert_eq!([0, 1, 2, 3].map(|n| bench.status(n)), [IOERR, IOERR, IOERR, OK]);
    assert_eq!(bench.ring.used(&bench.driver.memory).0, 4);
    assert_eq!(bench.driver.status(), 0x0f, "the device goes on");
    // The pieces behind a failed one were not tried.
    assert_eq!(bench.platter().log.len(), 3 + 2);
}

#[test]
fn a_second_piece_that_fails_fails_the_request() {
    let mut bench = Bench::new();
    bench.offer(0, 0, 0, 3072);
    let _ = bench.kick();
    bench.platter().end(0, true);
    let _ = bench.poll();
    bench.platter().end(0, false);
    let _ = bench.poll();
    assert_eq!((bench.status(0), bench.ring.used(&bench.driver.memory)), (IOERR, (1, 0, 2048)));
}

#[test]
fn a_read_with_too_few_bytes_is_an_error() {
    let mut bench = Bench::new();
    bench.offer(0, 0, 0, 1024);
    let _ = bench.kick();
    bench.platter().end(0, true);
    bench.platter().ended[0].0.len = 512;
    let _ = bench.poll();
    assert_eq!((bench.status(0), bench.ring.used(&bench.driver.memory)), (IOERR, (1, 0, 0)));
}

#[test]
fn an_end_after_a_reset_touches_nothing() {
    // A reset by the driver, and one of the machine.
    for machine in [false, true] {
        let mut bench = Bench::new();
        bench.offer(0, 0, 9, 512);
        let _ = bench.kick();
        bench.driver.set_status(0);
        if machine {
            Function::reset(&mut bench.driver.function);
        }
        bench.driver.memory.forget();
        bench.platter().end(0, true);
        assert_eq!(bench.poll(), Effect::QUIET);
        assert_eq!(bench.driver.memory.writes.borrow()[..], [], "stopped");

        // Set up anew, with a request of its own: the old end is not taken for that one's.
        let _ = bench.driver.function.write_config(0x04, Width::Word, 7, &bench.driver.memory);
        bench.restart();
        bench.offer(0, 0, 3, 512);
        let _ = bench.kick();
        assert_eq!(bench.ring.used(&bench.driver.memory).0, 0);
        assert_eq!(bench.status(0), UNTOUCHED);
        bench.platter().end(0, true);
        let _ = bench.poll();
        assert_eq!(bench.ring.used(&bench.driver.memory), (1, 0, 513));
        assert_eq!(bench.driver.memory.bytes::<512>(Bench::data(0))[..], *Platter::new().sector(3));
    }
}

#[test]
fn a_ring_that_a_legacy_driver_has_moved_gets_no_old_end() {
    let page = (RAM + 0x1000) / 4096;
    let mut driver = Driver::legacy(Block::new(Platter::new()), page as u32, FLUSH);
    let ring = Ring::new(128);
    let mut bench = Bench { offered: 0, features: 0, ring, driver: Driver::new(Block::new(Platter::new())) };
    core::mem::swap(&mut bench.driver, &mut driver);
    bench.offer(0, 0, 9, 512);
    let _ = bench.driver.outp(16, Width::Word, 0);
    assert_eq!(bench.platter().pending.len(), 1);
    // The queue goes away and comes back elsewhere, without a reset of the device.
    let _ = bench.driver.outp(8, Width::Dword, 0);
    let _ = bench.driver.outp(8, Width::Dword, page as u32 + 3);
    bench.driver.memory.forget();
    bench.platter().end(0, true);
    let _ = bench.poll();
    let other = Ring::at(RAM + 0x4000, 128);
    assert_eq!((other.used(&bench.driver.memory).0, bench.status(0)), (0, UNTOUCHED));
    let inside = |&(gpa, _): &(u64, u64)| gpa < DATA;
    assert!(bench.driver.memory.writes.borrow().iter().all(inside), "at most where the ring's events are");
    bench.ring = other;
    bench.offered = 0;
    bench.offer(1, 0, 3, 512);
    let _ = bench.driver.outp(16, Width::Word, 0);
    bench.platter().end_all();
    let _ = bench.poll();
    assert_eq!(bench.ring.used(&bench.driver.memory), (1, 3, 513));
}

#[test]
fn interrupts_follow_the_event_index() {
    const EVENT_IDX: u32 = 1 << 29;
    let mut bench = Bench::with(Platter::new(), FLUSH | EVENT_IDX);
    for n in 0..3 {
        bench.offer(n, 0, n.into(), 512);
    }
    bench.driver.memory.write_u16(bench.ring.used_event(), 1).unwrap();
    let _ = bench.kick();
    assert_eq!(bench.driver.memory.read_u16(bench.ring.available_event()), Ok(3), "all are taken");
    bench.platter().output = false;
    bench.platter().end(0, true);
    assert_eq!((bench.poll(), bench.driver.function.irq()), (Effect::QUIET, false));
    bench.platter().end(0, true);
    assert_eq!((bench.poll(), bench.driver.function.irq()), (Effect::LINES, true));
}
