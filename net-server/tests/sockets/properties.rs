//! What holds whatever clients do.

use super::*;

#[derive(Clone, Debug)]
enum Act {
    Send(usize, u32, usize, u32, u16, u32, Vec<u8>),
    Raw(usize, Vec<u8>),
    Notice(usize, u8),
    Take(usize),
    Pass(u64),
    Lie(usize, usize, u64, u32),
}

fn act() -> impl Strategy<Value = Act> {
    let op = prop_oneof![4 => 1..4u16, 4 => 4..8u16, 1 => any::<u16>()];
    let len = prop_oneof![6 => Just(None), 1 => any::<u32>().prop_map(Some)];
    let send = (0..3usize, 0..3u32, 0..4usize, 0..3u32, op, len, prop::collection::vec(any::<u8>(), 0..200));
    prop_oneof![
        12 => send.prop_map(|(from, port, to, to_port, op, len, data)| {
            let data = if op == 5 { data } else { Vec::new() };
            Act::Send(from, port, to, to_port, op, len.unwrap_or(data.len() as u32), data)
        }),
        1 => (0..3usize, prop::collection::vec(any::<u8>(), 0..60)).prop_map(|(n, bytes)| Act::Raw(n, bytes)),
        1 => (0..3usize, 0..3u8).prop_map(|(n, notice)| Act::Notice(n, notice)),
        8 => (0..3usize).prop_map(Act::Take),
        1 => (0..3u64).prop_map(Act::Pass),
        1 => (0..3usize, 0..2usize, prop::sample::select(vec![0u64, 4, 64, 68, 128]), any::<u32>())
            .prop_map(|(n, ring, at, value)| Act::Lie(n, ring, at, value)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(300) })]

    /// Whatever the first three do, two others have their connection.
    #[test]
    fn no_client_breaks_others(acts in prop::collection::vec(act(), 1..150)) {
        let mut bench = bench(BYTES, &[0, 0, 0, 1, 1]);
        let (d, e) = ((3, 50), (4, 60));
        bench.connect(d, e);
        for act in acts {
            match act {
                Act::Send(from, port, to, to_port, op, len, data) => {
                    let mut bytes = Header { len, ..header((from, port), (to, to_port), Op::Data) }.bytes();
                    bytes[30..32].copy_from_slice(&op.to_le_bytes());
                    let _ = bench.put(from, &[&bytes[..], &data].concat());
                    bench.run(1 << from);
                }
                Act::Raw(n, bytes) => {
                    let _ = bench.put(n, &bytes);
                    bench.run(1 << n);
                }
                Act::Notice(n, notice) => {
                    let _ = bench.put(n, &[notice]);
                    bench.run(1 << n);
                }
                Act::Take(n) => {
                    if let Ok(Some(record)) = bench.clients[n].input.peek() {
                        prop_assert!(record.len() == 1 || record.len() >= 44);
                        record.release();
                    }
                    if bench.clients[n].input.must_signal() {
                        bench.run(1 << n);
                    }
                }
                Act::Pass(seconds) => bench.pass(seconds),
                Act::Lie(n, ring, at, value) => {
                    bench.clients[n].windows[ring].write_u32(at, value).unwrap();
                    bench.run(1 << n);
                }
            }
        }
        bench.send_data(d, e, Op::Data, b"here");
        prop_assert_eq!(bench.ops(4), [Op::Data]);
    }

    /// Honest clients that take what they get, sooner or later: all that is sent arrives, in order.
    #[test]
    fn honest_clients_lose_nothing(acts in prop::collection::vec((0..3usize, 1..3usize, 0..300usize, any::<bool>()), 1..200)) {
        let mut bench = bench(BYTES, &[0, 0, 0]);
        for (n, m) in [(0, 1), (0, 2), (1, 2)] {
            bench.connect((n, 10 + m as u32), (m, 10 + n as u32));
        }
        let mut sent = vec![Vec::<u8>::new(); 9];
        let mut got = vec![Vec::<u8>::new(); 9];
        let take = |bench: &mut Bench, n: usize, got: &mut [Vec<u8>], all: bool| {
            let records = if all { bench.got(n) } else { bench.next(n).into_iter().collect() };
            for record in records {
                let header = parse(&record);
                assert_eq!(header.op, Some(Op::Data));
                got[(header.from.cid - 3) as usize * 3 + n].extend(&record[44..]);
            }
            if bench.clients[n].input.must_signal() {
                bench.run(1 << n);
            }
        };
        for (from, step, len, takes) in acts {
            let to = (from + step) % 3;
            let data: Vec<u8> = (0..len).map(|n| n as u8).collect();
            let header = Header { len: len as u32, ..header((from, 10 + to as u32), (to, 10 + from as u32), Op::Data) };
            if bench.put(from, &[&header.bytes()[..], &data].concat()).is_ok() {
                sent[from * 3 + to].extend(&data);
            }
            bench.run(1 << from);
            if takes {
                take(&mut bench, to, &mut got, false);
            }
        }
        for _ in 0..30 {
            (0..3).for_each(|n| take(&mut bench, n, &mut got, true));
        }
        prop_assert_eq!(sent, got);
    }
}
