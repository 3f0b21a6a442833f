use super::*;
use crate::window::zeros as window;
use proptest::prelude::*;
use std::{collections::VecDeque, thread, vec, vec::Vec};

fn ring(data: u64) -> (RecordProducer, RecordConsumer, Window) {
    let window = window(DATA + data);
    let ring = RecordRing::new(window).unwrap();
    (ring.producer(), ring.consumer(), window)
}

fn send(producer: &mut RecordProducer, bytes: &[u8]) -> Result<(), NoRoom> {
    let mut record = producer.reserve(bytes.len() as u32)?;
    record.write(bytes).unwrap();
    record.publish();
    Ok(())
}

fn receive(consumer: &mut RecordConsumer) -> Result<Option<Vec<u8>>, BrokenRing> {
    let Some(record) = consumer.peek()? else { return Ok(None) };
    let mut bytes = vec![0; record.len() as usize];
    record.read(0, &mut bytes).unwrap();
    record.release();
    Ok(Some(bytes))
}

#[test]
fn records_come_out_whole_in_order_and_once() {
    let (mut p, mut c, _) = ring(64);
    for record in [&b"ab"[..], b"", b"portcullis"] {
        send(&mut p, record).unwrap();
    }
    assert_eq!(receive(&mut c), Ok(Some(b"ab".to_vec())));
    assert_eq!(receive(&mut c), Ok(Some(Vec::new())));
    assert_eq!(receive(&mut c), Ok(Some(b"portcullis".to_vec())));
    assert_eq!(receive(&mut c), Ok(None));
    assert!(p.is_drained());
}

#[test]
fn a_record_is_there_until_it_is_released() {
    let (mut p, mut c, _) = ring(64);
    send(&mut p, b"one").unwrap();
    assert_eq!(c.peek().unwrap().map(|record| record.len()), Some(3));
    assert!(!p.is_drained());
    assert_eq!(receive(&mut c), Ok(Some(b"one".to_vec())));
    assert!(c.peek().unwrap().is_none());
}

#[test]
fn room_is_what_the_layout_says() {
    let (mut p, mut c, _) = ring(64);
    assert_eq!(p.longest(), 60);
    send(&mut p, &[1; 60]).unwrap();
    assert_eq!(send(&mut p, b""), Err(NoRoom::Full));
    assert_eq!(send(&mut p, &[0; 61]), Err(NoRoom::TooLong));
    assert_eq!(p.reserve(u32::MAX).unwrap_err(), NoRoom::TooLong);
    assert_eq!(receive(&mut c), Ok(Some(vec![1; 60])));
    // 4 bytes of length and 4 of record fill 8; a byte more takes 16.
    for _ in 0..8 {
        send(&mut p, &[2; 4]).unwrap();
    }
    assert_eq!(send(&mut p, b""), Err(NoRoom::Full));
    receive(&mut c).unwrap();
    assert_eq!(send(&mut p, &[2; 5]), Err(NoRoom::Full));
    receive(&mut c).unwrap();
    assert_eq!(send(&mut p, &[2; 5]), Ok(()));
}

#[test]
fn a_reservation_takes_no_more_than_it_reserved_and_only_what_is_written_is_sent() {
    let (mut p, mut c, _) = ring(64);
    let mut record = p.reserve(8).unwrap();
    record.write(b"abcdef").unwrap();
    assert_eq!(record.write(b"ghi"), Err(OutOfRange));
    assert_eq!(record.copy_from(&window(2), 1, 2), Err(OutOfRange), "not in the window");
    assert_eq!(record.left(), 2);
    record.publish();
    let mut dropped = p.reserve(8).unwrap();
    dropped.write(b"xxxxxxxx").unwrap();
    drop(dropped);
    assert_eq!(receive(&mut c), Ok(Some(b"abcdef".to_vec())));
    assert_eq!(receive(&mut c), Ok(None));
}

#[test]
fn records_are_copied_between_windows_and_rings_around_the_end() {
    let (mut p, mut c, _) = ring(64);
    let (mut next, mut last, _) = ring(64);
    let (from, to) = (window(32), window(32));
    from.write(0, b"0123456789abcdefghijklmnopqrstuv").unwrap();
    for turn in 0..9 {
        let mut record = p.reserve(30).unwrap();
        record.write(b"head").unwrap();
        record.copy_from(&from, 3, 26).unwrap();
        record.publish();
        let record = c.peek().unwrap().unwrap();
        let mut copy = next.reserve(record.len()).unwrap();
        record.forward(0, &mut copy, 10).unwrap();
        record.forward(10, &mut copy, 20).unwrap();
        assert_eq!(record.forward(29, &mut copy, 2), Err(OutOfRange));
        copy.publish();
        record.release();
        let record = last.peek().unwrap().unwrap();
        to.fill(0, 32, b'.').unwrap();
        record.copy_to(4, &to, 5, 26).unwrap();
        assert_eq!(record.copy_to(4, &to, 7, 26), Err(OutOfRange));
        assert_eq!(record.copy_to(5, &to, 0, 26), Err(OutOfRange));
        record.release();
        let mut found = [0; 32];
        to.read(0, &mut found).unwrap();
        assert_eq!(&found, b".....3456789abcdefghijklmnopqrs.", "turn {turn}");
        // Shifts the next turn's place in the ring.
        send(&mut p, b"").unwrap();
        receive(&mut c).unwrap();
    }
}

#[test]
fn a_consumer_is_signalled_for_the_first_record_after_it_parked() {
    let (mut p, mut c, _) = ring(64);
    // The ends have just begun: neither knows what its predecessor owes.
    assert!(p.must_signal() && c.must_signal());
    assert!(!p.must_signal() && !c.must_signal());
    send(&mut p, b"a").unwrap();
    assert!(c.park(), "there is a record, so it does not wait");
    receive(&mut c).unwrap();
    assert!(!c.park());
    assert!(!p.must_signal(), "it has seen that record already");
    send(&mut p, b"b").unwrap();
    send(&mut p, b"c").unwrap();
    assert!(p.must_signal());
    assert!(!p.must_signal());
    send(&mut p, b"d").unwrap();
    assert!(!p.must_signal(), "it is awake, as far as the producer knows");
    while receive(&mut c).unwrap().is_some() {}
    assert!(!c.park());
    send(&mut p, b"e").unwrap();
    assert!(p.must_signal());
}

#[test]
fn a_producer_is_signalled_when_there_is_the_room_that_it_asked_for() {
    let (mut p, mut c, _) = ring(64);
    c.must_signal();
    for _ in 0..4 {
        send(&mut p, &[0; 12]).unwrap();
    }
    assert!(!p.park(28));
    receive(&mut c).unwrap();
    assert!(!c.must_signal(), "16 bytes are not the 32 that it needs");
    receive(&mut c).unwrap();
    assert!(c.must_signal());
    receive(&mut c).unwrap();
    assert!(!c.must_signal());
    assert!(p.park(28), "there is room");
    assert_eq!(p.reserve(28).map(|record| record.left()), Ok(28));
}

#[test]
fn ends_that_begin_again_continue_and_owe_no_signal() {
    let (mut p, mut c, window) = ring(64);
    p.must_signal();
    send(&mut p, b"a").unwrap();
    receive(&mut c).unwrap();
    assert!(!c.park());
    send(&mut p, b"b").unwrap();
    // The producer dies before it has signalled.
    let again = RecordRing::new(window).unwrap();
    let mut p = again.producer();
    assert!(p.must_signal());
    send(&mut p, b"c").unwrap();
    let mut c = again.consumer();
    assert_eq!(receive(&mut c), Ok(Some(b"b".to_vec())));
    assert_eq!(receive(&mut c), Ok(Some(b"c".to_vec())));
    again.clear();
    assert!(again.producer().is_drained());
    assert_eq!(receive(&mut again.consumer()), Ok(None));
}

#[test]
fn numbers_that_cannot_be_break_the_ring_also_when_they_are_mended() {
    for index in [80, 8 + 64, 4, 0x8000_0000, !7] {
        let (mut p, mut c, window) = ring(64);
        window.write_u32(PRODUCER, index).unwrap();
        assert!(c.peek().is_err(), "{index:#x}");
        assert!(c.park(), "a broken ring is not waited for");
        window.write_u32(PRODUCER, 0).unwrap();
        assert!(c.peek().is_err(), "{index:#x}: it stays broken");
        window.write_u32(CONSUMER, index.wrapping_neg()).unwrap();
        assert_eq!(p.reserve(0).unwrap_err(), NoRoom::Broken, "{index:#x}");
        assert!(p.park(0) && !p.is_drained());
    }
    for len in [5, 61, 0x7fff_ffff, u32::MAX - 3, u32::MAX] {
        let (mut p, mut c, window) = ring(64);
        send(&mut p, b"four").unwrap();
        window.write_u32(DATA, len).unwrap();
        assert!(c.peek().is_err(), "{len:#x}: more than what is published");
    }
    let (_, _, window) = ring(64);
    window.write_u32(PRODUCER, 3).unwrap();
    let mut began = RecordRing::new(window).unwrap().producer();
    assert_eq!(began.reserve(0).unwrap_err(), NoRoom::Broken);
}

/// What a process that is gone may have left in its own index, and in the one that is not its.
const LEFT: [(u32, Option<u32>); 7] = [
    (3, None),
    (8, Some(4)),
    (!7, None),
    (0x8000_0000, Some(64)),
    (80, Some(!3)),
    (16, Some(0x1000)),
    (0x1000, Some(0x1000)),
];

fn flows(p: &mut RecordProducer, c: &mut RecordConsumer) {
    while receive(c).unwrap().is_some() {}
    for n in 0..100u8 {
        send(p, &[n; 5]).unwrap();
        assert_eq!(receive(c), Ok(Some(vec![n; 5])));
    }
    assert!(p.is_drained());
}

/// Both look, until neither finds anything new.
fn mend(p: &mut RecordProducer, c: &mut RecordConsumer) {
    for _ in 0..3 {
        p.mend();
        c.mend();
    }
    assert_eq!((p.mend(), c.mend()), (Mended::Same, Mended::Same));
}

#[test]
fn a_ring_is_whole_again_with_the_successor_of_who_has_broken_it() {
    for (own, peers) in LEFT {
        for found in [false, true] {
            let (mut p, mut c, window) = ring(64);
            mend(&mut p, &mut c);
            send(&mut p, b"lost").unwrap();
            window.write_u32(PRODUCER, own).unwrap();
            if let Some(peers) = peers {
                window.write_u32(CONSUMER, peers).unwrap();
            }
            // The other side may find out before its peer's end, or after.
            if found && c.peek().is_err() {
                assert_eq!(c.mend(), Mended::Broken, "{own:#x}: the same producer");
            }
            let mut p = RecordRing::new(window).unwrap().producer();
            mend(&mut p, &mut c);
            flows(&mut p, &mut c);

            let (mut p, mut c, window) = ring(64);
            mend(&mut p, &mut c);
            send(&mut p, b"lost").unwrap();
            window.write_u32(CONSUMER, own).unwrap();
            if let Some(peers) = peers {
                window.write_u32(PRODUCER, peers).unwrap();
            }
            if found && p.reserve(0).is_err() {
                assert_eq!(p.mend(), Mended::Broken, "{own:#x}: the same consumer");
            }
            let mut c = RecordRing::new(window).unwrap().consumer();
            mend(&mut p, &mut c);
            flows(&mut p, &mut c);
        }
    }
}

#[test]
fn a_successor_is_noticed_once_and_loses_nothing() {
    let (mut p, mut c, window) = ring(64);
    mend(&mut p, &mut c);
    send(&mut p, b"a").unwrap();
    let mut p = RecordRing::new(window).unwrap().producer();
    send(&mut p, b"b").unwrap();
    assert_eq!((c.mend(), c.mend()), (Mended::Continued, Mended::Same));
    let mut c = RecordRing::new(window).unwrap().consumer();
    assert_eq!((p.mend(), p.mend()), (Mended::Continued, Mended::Same));
    assert_eq!(receive(&mut c), Ok(Some(b"a".to_vec())));
    assert_eq!(receive(&mut c), Ok(Some(b"b".to_vec())));
}

#[test]
fn a_window_without_room_or_alignment_is_no_ring() {
    assert!(RecordRing::new(window(DATA)).is_err());
    assert!(RecordRing::new(window(DATA + 15)).is_err());
    assert!(RecordRing::new(window(10)).is_err());
    assert!(RecordRing::new(window(DATA + 64).part(4, DATA + 32).unwrap()).is_err());
    assert_eq!(RecordRing::new(window(DATA + 16)).map(|ring| ring.longest()), Ok(12));
    assert_eq!(RecordRing::new(window(DATA + 127)).map(|ring| ring.longest()), Ok(60), "a power of two");
}

/// Two threads, whose tokens (`park`, `unpark`) are what a notification is: a lost signal would never end.
#[test]
fn two_threads_lose_no_record_and_no_signal() {
    const RECORDS: u32 = 50_000;
    let (mut p, mut c, _) = ring(1024);
    let producer = thread::current();
    let consumer = thread::spawn(move || {
        let mut signals = 0;
        for n in 0..RECORDS {
            let record = loop {
                match c.peek().unwrap() {
                    Some(record) => break record,
                    None => {
                        if c.must_signal() {
                            producer.unpark();
                            signals += 1;
                        }
                        if !c.park() {
                            thread::park();
                        }
                    }
                }
            };
            let mut bytes = vec![0; record.len() as usize];
            record.read(0, &mut bytes).unwrap();
            record.release();
            assert_eq!(bytes.len() as u32, 4 + n % 301, "record {n}");
            assert_eq!(bytes[..4], n.to_le_bytes());
            assert!(bytes[4..].iter().all(|&byte| byte == n as u8), "record {n}");
            if n % 7 == 0 && c.must_signal() {
                producer.unpark();
                signals += 1;
            }
        }
        signals
    });
    let mut signals = 0;
    for n in 0..RECORDS {
        let len = 4 + n % 301;
        let mut record = loop {
            match p.reserve(len) {
                Ok(_) => break p.reserve(len).unwrap(),
                Err(error) => assert_eq!(error, NoRoom::Full),
            }
            if p.must_signal() {
                consumer.thread().unpark();
                signals += 1;
            }
            if !p.park(len) {
                thread::park();
            }
        };
        record.write(&n.to_le_bytes()).unwrap();
        record.write(&vec![n as u8; len as usize - 4]).unwrap();
        record.publish();
        if n % 5 == 0 && p.must_signal() {
            consumer.thread().unpark();
            signals += 1;
        }
    }
    if p.must_signal() {
        consumer.thread().unpark();
    }
    let back = consumer.join().unwrap();
    assert!(signals < RECORDS && back < RECORDS, "{signals} and {back} signals");
    assert!(p.is_drained());
}

#[derive(Clone, Debug)]
enum Step {
    Send(Vec<u8>),
    Receive,
    Signals,
    Park(u32),
    /// Both ends begin again.
    Restart,
    /// Writes to the header, or to the first words of the data.
    Lie(u64, u32),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => prop::collection::vec(any::<u8>(), 0..40).prop_map(Step::Send),
        4 => Just(Step::Receive),
        1 => Just(Step::Signals),
        1 => (0u32..80).prop_map(Step::Park),
        1 => Just(Step::Restart),
    ]
}

fn hostile_step() -> impl Strategy<Value = Step> {
    let value = prop_oneof![any::<u32>(), (0u32..20).prop_map(|n| n * 8), 0u32..80];
    let at = prop_oneof![prop::sample::select(std::vec![0u64, 4, 64, 68]), (32u64..48).prop_map(|n| n * 4)];
    prop_oneof![step(), (at, value).prop_map(|(at, value)| Step::Lie(at, value))]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(500) })]

    #[test]
    fn honest_ends_lose_nothing(bits in 4u32..8, steps in prop::collection::vec(step(), 0..100)) {
        let (mut p, mut c, window) = ring(1 << bits);
        let mut sent = VecDeque::new();
        for step in steps {
            match step {
                Step::Send(bytes) => match send(&mut p, &bytes) {
                    Ok(()) => sent.push_back(bytes),
                    Err(NoRoom::TooLong) => prop_assert!(bytes.len() as u32 > p.longest()),
                    Err(error) => prop_assert!(error == NoRoom::Full && !sent.is_empty()),
                },
                Step::Receive => prop_assert_eq!(receive(&mut c).unwrap(), sent.pop_front()),
                Step::Park(len) => {
                    prop_assert_eq!(c.park(), !sent.is_empty());
                    prop_assert_eq!(p.park(len), p.reserve(len).is_ok() || p.is_drained());
                }
                Step::Restart => {
                    let ring = RecordRing::new(window).unwrap();
                    (p, c) = (ring.producer(), ring.consumer());
                }
                _ => { p.must_signal(); c.must_signal(); }
            }
            prop_assert_eq!(p.is_drained(), sent.is_empty());
        }
    }

    #[test]
    fn a_hostile_peer_breaks_neither_bounds_nor_calls(
        bits in 4u32..8,
        steps in prop::collection::vec(hostile_step(), 0..100),
    ) {
        const GUARD: u64 = 64;
        let len = DATA + (1 << bits);
        let outer = window(len + GUARD);
        outer.fill(len, GUARD, 0xa5).unwrap();
        let inner = outer.part(0, len).unwrap();
        let ring = RecordRing::new(inner).unwrap();
        let (mut p, mut c) = (ring.producer(), ring.consumer());
        let (mut sending, mut receiving) = (true, true);
        for step in steps {
            match step {
                Step::Send(bytes) => {
                    let sent = send(&mut p, &bytes);
                    prop_assert!(sending || matches!(sent, Err(NoRoom::Broken | NoRoom::TooLong)));
                    sending &= sent != Err(NoRoom::Broken);
                }
                Step::Receive => {
                    let received = receive(&mut c);
                    prop_assert!(receiving || received.is_err());
                    receiving &= received.is_ok();
                    prop_assert!(received.is_ok_and(|record| record.is_none_or(|r| r.len() <= ring.longest() as usize)) || !receiving);
                }
                Step::Park(len) => { p.park(len); c.park(); sending &= p.room().is_ok(); receiving &= c.peek().is_ok(); }
                Step::Restart => {
                    (p, c) = (ring.producer(), ring.consumer());
                    (sending, receiving) = (true, true);
                }
                Step::Signals => { p.must_signal(); c.must_signal(); }
                Step::Lie(at, value) => { let _ = inner.write_u32(at, value); }
            }
        }
        let mut after = [0; GUARD as usize];
        outer.read(len, &mut after).unwrap();
        prop_assert_eq!(after, [0xa5; GUARD as usize]);
    }
}
