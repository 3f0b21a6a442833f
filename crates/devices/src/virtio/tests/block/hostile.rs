//! Requests that are none, and any sequence of requests, ends and resets.

use super::*;
use crate::virtio::Fault;

#[test]
fn a_request_without_header_or_status_breaks_the_queue() {
    let cases: [&[(u32, u16)]; 4] =
        [&[(15, 0), (513, WRITE)], &[(16, 0), (512, 0)], &[(513, WRITE)], &[(16, 0), (0, WRITE)]];
    for buffers in cases {
        let mut bench = Bench::new();
        for (n, &(len, way)) in (0..).zip(buffers) {
            let next = if usize::from(n) + 1 < buffers.len() { NEXT } else { 0 };
            bench.ring.descriptor(&bench.driver.memory, n, DATA, len, way | next, n + 1);
        }
        bench.ring.offer(&bench.driver.memory, 0, 0);
        let _ = bench.kick();
        let fault = bench.driver.function.take_fault();
        assert_eq!(fault, Some(Fault { queue: 0, broken: Broken::Request }), "{buffers:?}");
        bench.restart();
        assert_eq!(bench.serve(0, 0, 0, 512), (OK, 513));
    }
}

#[test]
fn more_segments_than_agreed_break_the_queue() {
    for (segments, fault) in [(32, None), (33, Some(Fault { queue: 0, broken: Broken::Request }))] {
        let mut bench = Bench::new();
        let memory = &bench.driver.memory;
        bench.ring.descriptor(memory, 0, DATA, 16, NEXT, 1);
        for n in 1..=segments {
            bench.ring.descriptor(memory, n, DATA + 512 * u64::from(n), 512, NEXT | WRITE, n + 1);
        }
        bench.ring.descriptor(memory, segments + 1, DATA + 32, 1, WRITE, 0);
        bench.ring.offer(memory, 0, 0);
        let _ = bench.kick();
        assert_eq!(bench.driver.function.take_fault(), fault);
        assert_eq!(bench.platter().log.len(), usize::from(fault.is_none()));
    }
}

#[test]
fn what_the_driver_changes_in_flight_is_not_looked_at_again() {
    let mut bench = Bench::new();
    bench.offer(0, 0, 3, 512);
    let _ = bench.kick();
    let (memory, ring) = (&bench.driver.memory, &bench.ring);
    for n in 0..3 {
        ring.descriptor(memory, n, RAM - 0x1000, u32::MAX, NEXT, n);
    }
    memory.write_u32(Bench::data(0) - 32, 1).unwrap();
    bench.platter().end(0, true);
    let _ = bench.poll();
    assert_eq!(bench.ring.used(&bench.driver.memory), (1, 0, 513));
    assert_eq!(bench.driver.memory.bytes::<512>(Bench::data(0))[..], *Platter::new().sector(3));
    assert_eq!((bench.driver.function.take_fault(), bench.platter().log.len()), (None, 1));
}

#[derive(Clone, Debug)]
enum Act {
    /// Makes a request available: of descriptors that could be, mostly.
    Request {
        n: u16,
        kind: u32,
        sector: u64,
        buffers: Vec<(u64, u32, u16)>,
        header: u32,
        status: u32,
    },
    Kick,
    End(usize, bool),
    /// Ends an operation with another tag or length.
    Lie(u32, u32),
    Reset,
    Room(usize),
}

fn act() -> impl Strategy<Value = Act> {
    let kind = prop_oneof![4 => 0..2u32, 1 => Just(4u32), 1 => Just(8u32), 1 => any::<u32>()];
    let sector = prop_oneof![
        6 => 0..SECTORS,
        1 => prop::sample::select(vec![SECTORS, 1 << 32, 1 << 63, u64::MAX]),
        1 => any::<u64>()
    ];
    let len = prop_oneof![6 => (0..9u32).prop_map(|n| 512 * n), 1 => 0..2000u32];
    let gpa = prop_oneof![9 => DATA + 0x1000..DATA + 0x6000, 1 => RAM..RAM + LEN as u64];
    let buffers = prop::collection::vec((gpa, len, prop_oneof![9 => Just(WRITE), 3 => Just(0)]), 0..3);
    let header = prop_oneof![9 => Just(16u32), 1 => 0..40u32];
    let status = prop_oneof![9 => Just(1u32), 1 => 0..4u32];
    prop_oneof![
        6 => (0..20u16, kind, sector, buffers, header, status).prop_map(|(n, kind, sector, buffers, header, status)|
            Act::Request { n, kind, sector, buffers, header, status }),
        4 => Just(Act::Kick),
        6 => (0..16usize, prop::bool::weighted(0.8)).prop_map(|(n, ok)| Act::End(n, ok)),
        1 => (0..64u32, any::<u32>()).prop_map(|(tag, len)| Act::Lie(tag, len)),
        1 => Just(Act::Reset),
        1 => (1..6usize).prop_map(Act::Room),
    ]
}

proptest! {
    #![proptest_config(driver::cases(1_000))]

    /// The platter checks each operation. Afterwards the device works, and every request ended at most once.
    #[test]
    fn no_sequence_leaves_the_disk_or_breaks_more_than_the_device(acts in prop::collection::vec(act(), 1..80)) {
        let mut bench = Bench::new();
        // Data may lie over the rings. What the driver finds there then is its own making.
        let mut scribbled = false;
        for act in &acts {
            let memory = &bench.driver.memory;
            match act {
                Act::Request { n, kind, sector, buffers, header, status } => {
                    let at = DATA + 64 * u64::from(*n);
                    memory.write_u64(at, u64::from(*kind)).unwrap();
                    memory.write_u64(at + 8, *sector).unwrap();
                    let whole = [(at, *header, 0)].into_iter().chain(buffers.iter().copied()).chain([(at + 48, *status, WRITE)]);
                    let last = buffers.len() as u16 + 1;
                    scribbled |= buffers.iter().any(|&(gpa, ..)| gpa < DATA);
                    for (k, (gpa, len, way)) in (0..).zip(whole) {
                        let next = if k == last { 0 } else { NEXT };
                        bench.ring.descriptor(memory, 5 * n + k, gpa, len, way | next, 5 * n + k + 1);
                    }
                    bench.ring.offer(memory, bench.offered, 5 * n);
                    bench.offered = bench.offered.wrapping_add(1);
                }
                Act::Kick => { let _ = bench.kick(); }
                Act::End(n, ok) => {
                    let pending = bench.platter().pending.len();
                    if pending > 0 {
                        bench.platter().end(n % pending, *ok);
                    }
                    let _ = bench.poll();
                }
                Act::Lie(tag, len) => {
                    let data = vec![0; 4 * 512];
                    let len = if *len % 2 == 0 { 512 } else { *len };
                    bench.platter().ended.push_back((Finished { tag: *tag, ok: true, len }, data));
                    let _ = bench.poll();
                }
                Act::Reset => bench.restart(),
                Act::Room(room) => bench.platter().room = *room,
            }
            let used = bench.ring.used(&bench.driver.memory).0;
            prop_assert!(scribbled || used <= bench.offered, "{} of {}", used, bench.offered);
        }
        bench.platter().end_all();
        bench.platter().room = 99;
        bench.restart();
        // Ends that were made up must not be taken for the next request's, and the device looks at a few at a time.
        while !bench.platter().ended.is_empty() {
            let _ = bench.poll();
        }
        prop_assert_eq!(bench.serve(0, 0, 5, 512), (OK, 513));
    }
}
