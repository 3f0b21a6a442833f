//! Components' sockets at the real switch: streams arrive as they were sent, however slow the other side is.

use layout::{Slot, config::Window as Described};
use mmio::{RecordRing, Window};
use net_server::{Hardware, Rings, Server};
use proto::net::Config;
use proto::vsock::Port;
use vsock::{Address, Event, Id, Sockets};

struct Machine;

impl Hardware for Machine {
    fn now(&self) -> u64 {
        0
    }
    fn signal(&mut self, _port: usize) {}
    fn again(&mut self) {}
    fn alarm(&mut self, _at: u64) {}
}

type Member = Sockets<4, 1000>;

/// Two members, whom the test has run in turns.
struct Bench {
    server: Server<Machine>,
    members: [Member; 2],
    /// The first member's rings.
    windows: [Window; 2],
}

fn bench(bytes: usize) -> Bench {
    let unused = Described { at: 0, len: 0 };
    let mut config = Config { ports: Default::default(), sockets: Default::default(), again: Slot(0) };
    let (mut rings, mut all) = (Vec::new(), Vec::new());
    let members = [3, 4].map(|cid| {
        let windows = [(); 2].map(|()| Window::leak(vec![0; 128 + bytes].leak()));
        all.push(windows);
        let [out, into] = windows.map(|window| RecordRing::new(window).unwrap());
        rings.push(Rings { input: out.consumer(), output: into.producer() });
        let name = "x".try_into().unwrap();
        let port = Port { name, network: 0, cid, input: unused, output: unused, signal: Slot(0) };
        config.sockets.push(port).unwrap();
        Member::new(cid, out.producer(), into.consumer())
    });
    let server = Server::new(Machine, &config, rings.into_iter(), 1_000);
    let mut bench = Bench { server, members, windows: all[0] };
    bench.members[1].listen(7).unwrap();
    for _ in 0..3 {
        assert_eq!((bench.next(0), bench.next(1)), (None, None));
    }
    bench
}

impl Bench {
    /// The next event of a member, if there is one.
    fn next(&mut self, member: usize) -> Option<Event> {
        let event = self.members[member].poll();
        self.server.on_signal(3);
        event
    }

    fn connect(&mut self) -> [Id; 2] {
        let one = self.members[0].connect(Address { cid: 4, port: 7 }).unwrap();
        self.server.on_signal(1);
        let Some(Event::Opened(two)) = self.next(1) else { panic!("no request") };
        assert_eq!(self.next(1), None);
        assert_eq!(self.next(0), Some(Event::Opened(one)));
        assert_eq!(self.members[1].peer(two).map(|peer| peer.cid), Some(3));
        [one, two]
    }
}

#[test]
fn streams_arrive_as_they_were_sent_in_both_directions() {
    let mut bench = bench(512);
    let ids = bench.connect();
    let streams: [Vec<u8>; 2] = [3, 7].map(|step| (0..20_000u32).map(|n| (n * step) as u8).collect());
    let (mut sent, mut got) = ([0; 2], [Vec::<u8>::new(), Vec::new()]);
    for round in 0..20_000 {
        for n in 0..2 {
            while bench.next(n).is_some() {}
            let rest = &streams[n][sent[n]..];
            sent[n] += bench.members[n].write(ids[n], &rest[..rest.len().min(700)]);
            // The second reads seldom, so the first has to wait.
            if n == 0 || round % 7 == 0 {
                let mut bytes = [0; 300];
                let len = bench.members[n].read(ids[n], &mut bytes);
                got[n].extend(&bytes[..len]);
            }
        }
        if got.iter().all(|got| got.len() == 20_000) {
            break;
        }
    }
    assert_eq!(got[1], streams[0]);
    assert_eq!(got[0], streams[1]);
}

#[test]
fn who_cannot_write_is_told_when_it_can() {
    let mut bench = bench(4096);
    let [one, two] = bench.connect();
    assert_eq!(bench.members[0].write(one, &[5; 1500]), 1000, "the other side's buffer");
    assert_eq!(bench.next(0), None);
    assert_eq!(bench.next(1), Some(Event::Readable(two)));
    assert_eq!(bench.members[1].read(two, &mut [0; 400]), 400);
    assert_eq!((bench.next(1), bench.next(0)), (None, None), "half of the buffer is in use");
    assert_eq!(bench.members[1].read(two, &mut [0; 100]), 100);
    assert_eq!(bench.next(1), None);
    assert_eq!(bench.next(0), Some(Event::Writable(one)));
    assert_eq!(bench.members[0].write(one, &[5; 1500]), 500);
}

#[test]
fn an_end_is_orderly() {
    let mut bench = bench(4096);
    let [one, two] = bench.connect();
    bench.members[0].write(one, b"last words");
    bench.members[0].close(one);
    assert_eq!(bench.next(0), None);
    assert_eq!(bench.next(1), Some(Event::Readable(two)));
    assert!(!bench.members[1].is_at_end(two));
    let mut bytes = [0; 20];
    assert_eq!(bench.members[1].read(two, &mut bytes), 10);
    assert_eq!(bench.next(1), Some(Event::Closed(two)));
    assert_eq!(bench.next(0), Some(Event::Closed(one)));
    // Both have places again.
    for _ in 0..5 {
        let [one, two] = bench.connect();
        bench.members[1].close(two);
        assert_eq!((bench.next(1), bench.next(0)), (None, Some(Event::Closed(one))));
        assert_eq!(bench.next(1), Some(Event::Closed(two)));
    }
}

#[test]
fn whom_nobody_answers_is_told_so() {
    let mut bench = bench(4096);
    for to in [Address { cid: 4, port: 8 }, Address { cid: 9, port: 7 }] {
        let id = bench.members[0].connect(to).unwrap();
        bench.server.on_signal(1);
        assert_eq!(bench.next(1), None);
        assert_eq!(bench.next(0), Some(Event::Closed(id)));
    }
}

#[test]
fn a_member_that_begins_anew_has_sockets_whatever_its_predecessor_has_left() {
    // The predecessor's own index, in either ring.
    for (ring, at) in [(0, 0), (1, 64)] {
        let mut bench = bench(512);
        let [_, two] = bench.connect();
        bench.windows[ring].write_u32(at, 4).unwrap();
        bench.server.on_signal(1);
        bench.members[1].write(two, b"to nobody");
        while bench.next(1).is_some() {}

        let [out, into] = bench.windows.map(|window| RecordRing::new(window).unwrap());
        bench.members[0] = Member::new(3, out.producer(), into.consumer());
        for _ in 0..4 {
            assert_eq!(bench.next(0), None, "ring {ring}");
            while bench.next(1).is_some() {}
        }
        let [one, two] = bench.connect();
        bench.members[0].write(one, b"here again");
        assert_eq!(bench.next(0), None);
        assert_eq!(bench.next(1), Some(Event::Readable(two)));
        let mut bytes = [0; 20];
        assert_eq!((bench.members[1].read(two, &mut bytes), &bytes[..10]), (10, &b"here again"[..]));
    }
}
