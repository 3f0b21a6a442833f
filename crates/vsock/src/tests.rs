//! Sockets against whatever the other end of their rings may put there. What they do with honest peers is tested with the
//! real switch, in net-server's tests.

use super::*;
use mmio::{RecordRing, Window};
use proptest::prelude::*;
use std::{vec, vec::Vec as List};

const OWN: u32 = 3;
const PEER: Address = Address { cid: 4, port: 1000 };
const PORT: Address = Address { cid: OWN, port: 7 };
/// Bytes of a connection's buffer.
const ROOM: usize = 64;

/// Sockets, and the other ends of their rings.
struct Bench {
    sockets: Sockets<2, ROOM>,
    from: RecordConsumer,
    to: RecordProducer,
    windows: [Window; 2],
}

fn bench(bytes: usize) -> Bench {
    let windows = [(); 2].map(|()| Window::leak(vec![0; 128 + bytes].leak()));
    let [out, into] = windows.map(|window| RecordRing::new(window).unwrap());
    let mut sockets = Sockets::new(OWN, out.producer(), into.consumer());
    sockets.listen(PORT.port).unwrap();
    Bench { sockets, from: out.consumer(), to: into.producer(), windows }
}

impl Bench {
    fn give(&mut self, header: Header, data: &[u8]) {
        let header = Header { len: data.len() as u32, ..header };
        assert!(send(&mut self.to, &header, data));
    }

    fn sent(&mut self) -> Option<List<u8>> {
        let record = self.from.peek().unwrap()?;
        let mut bytes = vec![0; record.len() as usize];
        record.read(0, &mut bytes).unwrap();
        record.release();
        Some(bytes)
    }

    /// Operations of the packets that were sent, without the credit's.
    fn ops(&mut self) -> List<Op> {
        let mut ops = List::new();
        while let Some(record) = self.sent() {
            if record.len() >= HEADER {
                ops.push(Header::parse(record[..HEADER].try_into().unwrap()).unwrap().op.unwrap());
            }
        }
        ops
    }

    /// A connection that the peer has opened.
    fn open(&mut self) -> Id {
        self.give(Header { room: 100, ..Header::new(PEER, PORT, Op::Request) }, &[]);
        let Some(Event::Opened(id)) = self.sockets.poll() else { panic!("no connection") };
        assert_eq!(self.sockets.poll(), None);
        assert_eq!(self.sent().as_deref(), Some(&UP[..]));
        assert_eq!(self.ops(), [Op::Response]);
        id
    }
}

#[test]
fn a_peer_that_sends_more_than_there_is_room_for_is_reset() {
    let mut bench = bench(4096);
    let id = bench.open();
    bench.give(Header::new(PEER, PORT, Op::Data), &[1; ROOM]);
    assert_eq!((bench.sockets.poll(), bench.sockets.poll()), (Some(Event::Readable(id)), None));
    bench.give(Header::new(PEER, PORT, Op::Data), &[2]);
    assert_eq!(bench.sockets.poll(), Some(Event::Closed(id)));
    assert_eq!(bench.ops(), [Op::Reset]);
    assert_eq!((bench.sockets.read(id, &mut [0; 9]), bench.sockets.write(id, b"x")), (0, 0));
}

#[test]
fn a_credit_that_cannot_be_is_none() {
    let mut bench = bench(4096);
    let id = bench.open();
    assert_eq!(bench.sockets.room(id), 100);
    assert_eq!(bench.sockets.write(id, &[0; 200]), 100);
    // The peer has taken more than was sent, then less than before.
    for (room, taken, left) in [(100, 101, 0), (100, 60, 60), (0, 100, 0), (100, u32::MAX, 0), (u32::MAX, 0, 4096 / 2)]
    {
        bench.give(Header { room, taken, ..Header::new(PEER, PORT, Op::CreditUpdate) }, &[]);
        while bench.sockets.poll().is_some() {}
        assert!(bench.sockets.room(id) >= left.min(60), "{room} {taken}");
        assert!(left > 0 || bench.sockets.room(id) == 0, "{room} {taken}");
    }
}

#[test]
fn who_has_no_port_here_or_finds_no_place_is_refused() {
    let mut bench = bench(4096);
    bench.open();
    bench.give(Header::new(PEER, Address { port: 8, ..PORT }, Op::Request), &[]);
    assert_eq!(bench.sockets.poll(), None);
    assert_eq!(bench.ops(), [Op::Reset]);
    for port in [1, 2] {
        bench.give(Header::new(Address { port, ..PEER }, PORT, Op::Request), &[]);
    }
    assert!(matches!(bench.sockets.poll(), Some(Event::Opened(_))));
    assert_eq!(bench.sockets.poll(), None);
    assert_eq!(bench.ops(), [Op::Response, Op::Reset]);
    assert_eq!(bench.sockets.connect(PEER), Err(Error::TooMany));
}

#[test]
fn a_peer_may_end_one_direction() {
    let mut bench = bench(4096);
    let id = bench.open();
    bench.give(Header { room: 100, ..Header::new(PEER, PORT, Op::Data) }, b"last");
    // VIRTIO_VSOCK_SHUTDOWN_F_SEND
    bench.give(Header { room: 100, flags: 2, ..Header::new(PEER, PORT, Op::Shutdown) }, &[]);
    while bench.sockets.poll().is_some() {}
    assert!(!bench.sockets.is_at_end(id));
    assert_eq!(bench.sockets.read(id, &mut [0; 9]), 4);
    assert!(bench.sockets.is_at_end(id));
    assert_eq!(bench.sockets.write(id, b"still"), 5);
    bench.sockets.close(id);
    assert_eq!(bench.ops(), [Op::Data, Op::Shutdown]);
    bench.give(Header::new(PEER, PORT, Op::Reset), &[]);
    assert_eq!(bench.sockets.poll(), Some(Event::Closed(id)));
}

#[test]
fn all_is_lost_when_net_server_begins_again() {
    let mut bench = bench(4096);
    let id = bench.open();
    assert!(put_record(&mut bench.to, &[2], &[]));
    assert_eq!((bench.sockets.poll(), bench.sockets.poll()), (Some(Event::Closed(id)), None));
    assert_eq!((bench.sent(), bench.sent()), (Some(UP.to_vec()), None));
}

#[test]
fn what_does_not_fit_into_the_ring_is_sent_later() {
    let mut bench = bench(64);
    bench.give(Header { room: 100, ..Header::new(PEER, PORT, Op::Request) }, &[]);
    // The notice has taken 8 of 64 bytes, and an answer takes 48.
    assert!(matches!(bench.sockets.poll(), Some(Event::Opened(_))));
    assert_eq!(bench.sockets.poll(), None);
    bench.give(Header::new(PEER, Address { port: 8, ..PORT }, Op::Request), &[]);
    assert_eq!(bench.sockets.poll(), None);
    let mut ops = List::new();
    for _ in 0..3 {
        ops.extend(bench.ops());
        assert_eq!(bench.sockets.poll(), None);
    }
    assert_eq!(ops, [Op::Response, Op::Reset]);
}

#[derive(Clone, Debug)]
enum Act {
    Give(u32, u32, u16, u32, u32, u32, List<u8>),
    Raw(List<u8>),
    Take,
    Poll,
    Read(usize),
    Write(usize),
    Close,
    Connect,
    Lie(usize, u64, u32),
}

fn act() -> impl Strategy<Value = Act> {
    let op = prop_oneof![3 => 1..3u16, 8 => 3..8u16, 1 => any::<u16>()];
    let number = || prop_oneof![3 => 0..200u32, 1 => any::<u32>()];
    let give = (0..3u32, 0..3u32, op, 0..4u32, number(), number(), prop::collection::vec(any::<u8>(), 0..90));
    prop_oneof![
        10 => give.prop_map(|(from, to, op, flags, room, taken, data)| Act::Give(from, to, op, flags, room, taken, data)),
        1 => prop::collection::vec(any::<u8>(), 0..60).prop_map(Act::Raw),
        4 => Just(Act::Take),
        8 => Just(Act::Poll),
        3 => (0..90usize).prop_map(Act::Read),
        3 => (0..300usize).prop_map(Act::Write),
        1 => Just(Act::Close),
        1 => Just(Act::Connect),
        1 => (0..2usize, prop::sample::select(vec![0u64, 4, 64, 68, 128]), any::<u32>())
            .prop_map(|(ring, at, value)| Act::Lie(ring, at, value)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(500) })]

    #[test]
    fn no_peer_breaks_more_than_connections(acts in prop::collection::vec(act(), 1..100)) {
        let mut bench = bench(512);
        let mut ids: List<Id> = List::new();
        for act in acts {
            match act {
                Act::Give(from, to, op, flags, room, taken, data) => {
                    let (from, to) = (Address { port: 1000 + from, ..PEER }, Address { port: 6 + to, ..PORT });
                    let header =
                        Header { flags, room, taken, len: data.len() as u32, ..Header::new(from, to, Op::Data) };
                    let mut bytes = header.bytes();
                    bytes[30..32].copy_from_slice(&op.to_le_bytes());
                    put_record(&mut bench.to, &bytes, &data);
                }
                Act::Raw(bytes) => { put_record(&mut bench.to, &bytes, &[]); }
                Act::Take => {
                    if let Ok(Some(record)) = bench.from.peek() {
                        record.release();
                    }
                }
                Act::Poll => match bench.sockets.poll() {
                    Some(Event::Opened(id)) => ids.push(id),
                    Some(Event::Closed(id)) => {
                        ids.retain(|open| *open != id);
                        prop_assert_eq!(bench.sockets.peer(id), None);
                    }
                    _ => {}
                },
                Act::Read(len) => for id in &ids {
                    let mut into = vec![0; len];
                    prop_assert!(bench.sockets.read(*id, &mut into) <= ROOM.min(len));
                },
                Act::Write(len) => for id in &ids {
                    let room = bench.sockets.room(*id);
                    prop_assert!(bench.sockets.write(*id, &vec![0; len]) <= room.min(len));
                },
                Act::Close => if let Some(id) = ids.first() { bench.sockets.close(*id) },
                Act::Connect => if let Ok(id) = bench.sockets.connect(PEER) { ids.push(id) },
                Act::Lie(ring, at, value) => bench.windows[ring].write_u32(at, value).unwrap(),
            }
            bench.sockets.must_signal();
        }
        // It does not come to no end.
        let events = (0..100).filter(|_| bench.sockets.poll().is_some()).count();
        prop_assert!(events < 100);
    }
}
