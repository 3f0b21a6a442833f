//! Bytes and messages between a driver and the other end of its port.

use super::*;

#[test]
fn bytes_go_from_end_to_end_and_a_full_ring_loses_none() {
    let ([mut a, mut b], _) = connected(100);
    let sent: Vec<u8> = (0..=255).cycle().take(3 * 128).collect();
    for piece in sent.chunks(128) {
        a.send(TX1, piece);
    }
    assert!(a.used(TX1).is_empty(), "100 bytes are in the ring, and the first request has more");
    let mut got = Vec::new();
    for _ in 0..20 {
        b.buffer(RX1, 50);
        if b.serve() != 0 {
            a.serve();
        }
        got.extend(b.used(RX1).concat());
    }
    assert_eq!(got, sent);
    assert_eq!(a.used(TX1).len(), 3);
    assert_eq!(a.kick(TX1), Effect::QUIET);
}

#[test]
fn a_request_of_several_buffers_goes_on_where_it_was() {
    let ([mut a, mut b], _) = connected(4);
    let memory = &a.driver.memory;
    memory.write(DATA, b"abcdefgh").unwrap();
    for (n, (gpa, len, flags)) in [(DATA, 3, NEXT), (DATA + 3, 2, NEXT), (DATA + 5, 3, 0)].into_iter().enumerate() {
        ring(TX1).descriptor(memory, n as u16, gpa, len, flags, n as u16 + 1);
    }
    ring(TX1).offer(memory, 0, 0);
    let _ = a.kick(TX1);
    let mut got = Vec::new();
    for _ in 0..4 {
        b.buffer(RX1, 10);
        b.serve();
        got.extend(b.used(RX1).concat());
        a.serve();
    }
    assert_eq!(got, b"abcdefgh");
}

#[test]
fn the_end_comes_behind_what_was_sent_before() {
    let ([mut a, mut b], _) = connected(4);
    a.send(TX1, b"abcdefgh");
    a.order(&message(1, 6, 0));
    a.serve();
    assert!(b.answers().is_empty(), "four bytes are in the ring, and four in the queue");
    b.buffer(RX1, 10);
    b.serve();
    a.serve();
    assert!(b.answers().is_empty(), "four bytes are in the ring");
    b.buffer(RX1, 10);
    b.serve();
    assert_eq!((b.used(RX1).concat(), b.answers()), (b"abcdefgh".to_vec(), opened(1, 0)));
}

#[test]
fn an_end_that_has_closed_and_opened_again_is_told_as_such() {
    let ([mut a, mut b], _) = connected(100);
    for open in [0, 1] {
        a.order(&message(1, 6, open));
        a.serve();
    }
    assert_eq!(b.answers(), [opened(1, 0), opened(1, 1)].concat());
    b.send(TX1, b"new");
    a.buffer(RX1, 10);
    a.serve();
    assert_eq!(a.used(RX1), [b"new".to_vec()]);
}

#[test]
fn bytes_for_who_does_not_listen_are_dropped() {
    let ([mut a, mut b], _) = connected(100);
    a.send(TX1, b"not read");
    b.order(&message(1, 6, 0));
    b.serve();
    a.send(TX1, b"not heard");
    assert_eq!(a.used(TX1).len(), 2, "the driver gets its buffers back");
    assert_eq!(a.answers(), opened(1, 0));
    b.order(&message(1, 6, 1));
    b.serve();
    assert_eq!(a.answers(), opened(1, 1));
    a.send(TX1, b"heard");
    b.buffer(RX1, 20);
    b.serve();
    assert_eq!(b.used(RX1), [b"heard".to_vec()]);
}

#[test]
fn an_end_whose_guest_resets_closes_and_a_full_ring_holds_nobody_up() {
    let ([mut a, mut b], _) = connected(4);
    a.send(TX1, b"more than fits");
    b.driver.set_status(0);
    assert_ne!(b.driver.function.device().take_doorbells() & 2, 0);
    assert_eq!(a.answers(), opened(1, 0));
    assert_eq!(a.used(TX1).len(), 1);
    assert!(b.ready(1).contains(&message(1, 6, 1).to_vec()), "the one is open still");
    b.order(&message(1, 6, 1));
    b.serve();
    assert_eq!(a.answers(), opened(1, 1));
    b.send(TX1, b"back");
    a.buffer(RX1, 20);
    a.serve();
    assert_eq!(a.used(RX1), [b"back".to_vec()]);
}

/// A new process at one end finds the rings as the last one left them.
#[test]
fn an_end_that_is_made_anew_closes() {
    let ([mut a, b], windows) = connected(100);
    drop(b);
    let [to, from] = windows.map(|window| mmio::Ring::new(window).unwrap());
    let mut device = Console::default();
    assert_eq!(device.add("bytes", from.producer(), to.consumer()), Some(1));
    assert_eq!(device.take_doorbells(), 2);
    assert_eq!(a.answers(), opened(1, 0));
    let mut b = Bench::of(device);
    b.ready(1);
    b.order(&message(1, 6, 1));
    b.serve();
    assert_eq!(a.answers(), opened(1, 1));
}

#[test]
fn messages_that_are_none_change_nothing() {
    let ([mut a, mut b], _) = connected(100);
    for bytes in [&[1, 0, 0, 0, 6, 0, 0][..], &[], &[0; 128], &message(0xffff_ffff, 6, 0), &message(2, 6, 0)] {
        a.order(bytes);
    }
    for event in (0..=0xffff).filter(|event| !matches!(event, 0 | 3 | 6)) {
        a.order(&message(1, event, 0));
        a.used(ORDERS);
    }
    assert_eq!((a.answers(), b.answers(), a.fault()), (vec![], vec![], None));
    a.send(TX1, b"still there");
    b.buffer(RX1, 20);
    b.serve();
    assert_eq!(b.used(RX1), [b"still there".to_vec()]);
}

#[test]
fn buffers_of_the_wrong_direction_or_none_are_broken() {
    for (queue, len, flags) in [(RX1, 8, 0), (RX1, 0, WRITE), (TX1, 8, WRITE), (ORDERS, 8, WRITE)] {
        let ([mut a, mut b], _) = connected(100);
        b.send(TX1, b"x");
        a.offer(queue, place(queue, 0), len, flags);
        let _ = a.kick(queue);
        assert_eq!(a.fault(), Some(Fault { queue: queue as u16, broken: Broken::Request }), "{queue} {len} {flags}");
        a.ready(1);
        assert_eq!(a.fault(), None);
    }
    let ([mut a, _], _) = pair(10);
    a.begin(MULTIPORT);
    a.driver.memory.write(ring(ANSWERS).table + 8, &[7, 0, 0, 0]).unwrap();
    a.order(&message(0, 0, 1));
    a.serve();
    assert_eq!(a.fault(), Some(Fault { queue: 2, broken: Broken::Request }), "a message has 8 bytes");
}

/// Buffers for messages and bytes to come, and nothing to do: the driver need not notify, and nobody polls.
#[test]
fn an_idle_port_costs_nothing() {
    let ([mut a, mut b], _) = connected(100);
    for end in [&mut a, &mut b] {
        end.buffer(RX1, 8);
        assert_eq!(end.kick(RX1), Effect::QUIET);
        assert_eq!(end.serve(), 0);
        assert_eq!(end.driver.function.poll(&end.driver.memory), Effect::QUIET);
    }
    a.send(TX1, b"x");
    assert_eq!(a.serve(), 2, "b has parked");
    a.send(TX1, b"y");
    assert_eq!(a.serve(), 0, "one signal wakes it");
}
