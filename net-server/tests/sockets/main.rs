//! The switch of sockets, with clients at the other ends of its rings.

mod properties;

use std::cell::RefCell;
use std::rc::Rc;

use layout::{Slot, config::Window as Described, event};
use mmio::{NoRoom, RecordConsumer, RecordProducer, RecordRing, Window};
use net_server::{Hardware, Rings, Server};
use proptest::prelude::*;
use proto::net::Config;
use proto::vsock::{Address, DOWN, Header, LOST, Op, Port, UP};

const HERTZ: u64 = 1_000_000_000;
/// Bytes of a ring's data, for most tests: eleven packets without bytes, or one of 400.
const BYTES: usize = 512;

#[derive(Clone, Default)]
struct Machine(Rc<RefCell<State>>);

#[derive(Default)]
struct State {
    now: u64,
    signals: u64,
    again: bool,
    alarm: Option<u64>,
}

impl Hardware for Machine {
    fn now(&self) -> u64 {
        self.0.borrow().now
    }
    fn signal(&mut self, port: usize) {
        self.0.borrow_mut().signals |= 1 << port;
    }
    fn again(&mut self) {
        self.0.borrow_mut().again = true;
    }
    fn alarm(&mut self, at: u64) {
        self.0.borrow_mut().alarm = Some(at);
    }
}

/// A client's ends.
struct Client {
    output: RecordProducer,
    input: RecordConsumer,
    windows: [Window; 2],
}

struct Bench {
    machine: Machine,
    server: Server<Machine>,
    clients: Vec<Client>,
}

/// The address of member `n`.
fn cid(n: usize) -> u32 {
    3 + n as u32
}

/// A server with a member for each of these networks, none of which has said anything yet.
fn silent(bytes: usize, networks: &[u8]) -> Bench {
    let unused = Described { at: 0, len: 0 };
    let mut config = Config { ports: Default::default(), sockets: Default::default(), again: Slot(0) };
    let (mut clients, mut rings) = (Vec::new(), Vec::new());
    for (n, &network) in networks.iter().enumerate() {
        let windows = [(); 2].map(|()| Window::leak(vec![0; 128 + bytes].leak()));
        let [from, to] = windows.map(|window| RecordRing::new(window).unwrap());
        rings.push(Rings { input: from.consumer(), output: to.producer() });
        clients.push(Client { output: from.producer(), input: to.consumer(), windows });
        let name = "x".try_into().unwrap();
        let port = Port { name, network, cid: cid(n), input: unused, output: unused, signal: Slot(0) };
        config.sockets.push(port).unwrap();
    }
    let machine = Machine::default();
    let server = Server::new(machine.clone(), &config, rings.into_iter(), HERTZ);
    Bench { machine, server, clients }
}

/// One whose members answer.
fn bench(bytes: usize, networks: &[u8]) -> Bench {
    let mut bench = silent(bytes, networks);
    bench.server.on_signal(0);
    for n in 0..networks.len() {
        assert_eq!(bench.got(n), [LOST]);
        bench.notice(n, UP);
    }
    bench
}

impl Bench {
    fn put(&mut self, client: usize, bytes: &[u8]) -> Result<(), NoRoom> {
        let mut record = self.clients[client].output.reserve(bytes.len() as u32)?;
        record.write(bytes).unwrap();
        record.publish();
        Ok(())
    }

    /// Has the server run, as often as it asks.
    fn run(&mut self, bits: u64) {
        self.server.on_signal(bits);
        let mut rounds = 0;
        while std::mem::take(&mut self.machine.0.borrow_mut().again) {
            self.server.on_signal(0);
            rounds += 1;
            assert!(rounds < 100, "it does not come to an end");
        }
    }

    fn notice(&mut self, client: usize, notice: [u8; 1]) {
        self.put(client, &notice).unwrap();
        self.run(1 << client);
    }

    /// Sends a packet with `data` from a socket to another.
    fn send_data(&mut self, from: (usize, u32), to: (usize, u32), op: Op, data: &[u8]) {
        let header = Header { len: data.len() as u32, ..header(from, to, op) };
        self.put(from.0, &[&header.bytes()[..], data].concat()).unwrap();
        self.run(1 << from.0);
    }

    fn send(&mut self, from: (usize, u32), to: (usize, u32), op: Op) {
        self.send_data(from, to, op, &[]);
    }

    /// Takes the next record that a client has got.
    fn next(&mut self, client: usize) -> Option<Vec<u8>> {
        let record = self.clients[client].input.peek().unwrap()?;
        let mut bytes = vec![0; record.len() as usize];
        record.read(0, &mut bytes).unwrap();
        record.release();
        Some(bytes)
    }

    /// Takes all, and signals where the server wants it.
    fn got(&mut self, client: usize) -> Vec<Vec<u8>> {
        let mut all = Vec::new();
        loop {
            all.extend(std::iter::from_fn(|| self.next(client)));
            if self.clients[client].input.must_signal() {
                self.run(1 << client);
            }
            if !self.clients[client].input.park() {
                return all;
            }
        }
    }

    fn ops(&mut self, client: usize) -> Vec<Op> {
        self.got(client).iter().map(|record| parse(record).op.unwrap()).collect()
    }

    /// Opens a connection.
    fn connect(&mut self, from: (usize, u32), to: (usize, u32)) {
        self.send(from, to, Op::Request);
        assert_eq!(self.ops(to.0), [Op::Request]);
        self.send(to, from, Op::Response);
        assert_eq!(self.ops(from.0), [Op::Response]);
    }

    /// Lets time pass, until after the alarm if it is set before.
    fn pass(&mut self, seconds: u64) {
        let now = self.machine.0.borrow().now + seconds * HERTZ;
        self.machine.0.borrow_mut().now = now;
        if self.machine.0.borrow().alarm.is_some_and(|at| at <= now) {
            self.machine.0.borrow_mut().alarm = None;
            self.run(event::TIMER);
        }
    }
}

fn header(from: (usize, u32), to: (usize, u32), op: Op) -> Header {
    let address = |(member, port): (usize, u32)| Address { cid: cid(member), port };
    Header { room: 1 << 18, taken: 5, ..Header::new(address(from), address(to), op) }
}

fn parse(record: &[u8]) -> Header {
    Header::parse(record[..44].try_into().unwrap()).unwrap()
}

const A: (usize, u32) = (0, 1024);
const B: (usize, u32) = (1, 7);
const C: (usize, u32) = (2, 9);

#[test]
fn packets_of_a_connection_arrive_unchanged() {
    let mut bench = bench(BYTES, &[0, 0]);
    bench.connect(A, B);
    for (from, to) in [(A, B), (B, A)] {
        bench.send_data(from, to, Op::Data, b"some bytes");
        let expected = Header { len: 10, ..header(from, to, Op::Data) };
        assert_eq!(bench.got(to.0), [[&expected.bytes()[..], b"some bytes"].concat()]);
        bench.send(from, to, Op::CreditUpdate);
        bench.send(from, to, Op::CreditRequest);
        assert_eq!(bench.ops(to.0), [Op::CreditUpdate, Op::CreditRequest]);
        assert_eq!(bench.got(from.0), [[0; 0]; 0]);
    }
    bench.send(A, B, Op::Shutdown);
    bench.send(B, A, Op::Reset);
    assert_eq!((bench.ops(1), bench.ops(0)), (vec![Op::Shutdown], vec![Op::Reset]));
    bench.send(A, B, Op::CreditUpdate);
    assert_eq!((bench.ops(1), bench.ops(0)), (vec![], vec![Op::Reset]), "it has ended");
}

#[test]
fn whom_nobody_answers_gets_an_rst() {
    let mut bench = silent(BYTES, &[0, 0, 1]);
    bench.server.on_signal(0);
    for n in 0..3 {
        assert_eq!(bench.got(n), [LOST]);
    }
    bench.notice(0, UP);
    bench.notice(2, UP);
    // Somebody without a driver, somebody of another network, nobody, and the sender itself.
    for to in [B, C, (9, 1), (0, 7)] {
        bench.send(A, to, Op::Request);
        let refusal = Header::new(header(A, to, Op::Reset).to, header(A, to, Op::Reset).from, Op::Reset);
        assert_eq!(bench.got(0), [refusal.bytes()], "{to:?}");
    }
    bench.notice(1, UP);
    // No connection.
    for op in [Op::Data, Op::Response, Op::Shutdown, Op::CreditUpdate, Op::CreditRequest] {
        bench.send(A, B, op);
        assert_eq!(bench.ops(0), [Op::Reset], "{op:?}");
    }
    bench.send(A, B, Op::Reset);
    assert_eq!(bench.ops(0), [], "an RST is answered by nobody");
    // Another kind of socket.
    let datagram = Header { kind: 3, ..header(A, B, Op::Request) };
    bench.put(0, &datagram.bytes()).unwrap();
    bench.run(1);
    assert_eq!(parse(&bench.got(0)[0]), datagram.refusal());
    for n in 1..3 {
        assert_eq!(bench.got(n), [[0; 0]; 0]);
    }
}

#[test]
fn nobody_sends_from_anothers_address_or_what_is_no_packet() {
    let mut bench = bench(BYTES, &[0, 0, 0]);
    bench.connect(A, B);
    let spoofed = header(A, B, Op::Reset).bytes();
    let longer = Header { len: 1, ..header(C, B, Op::Data) }.bytes();
    let data_in_a_request = [&Header { len: 1, ..header(C, B, Op::Request) }.bytes()[..], b"x"].concat();
    let mut unknown = header(C, B, Op::Request).bytes();
    unknown[30] = 8;
    let mut far = header(C, B, Op::Request).bytes();
    far[12] = 1;
    for record in [&spoofed[..], &longer, &data_in_a_request, &unknown, &far, &[3], &[], &[1, 1], &[0; 43]] {
        bench.put(2, record).unwrap();
        bench.run(1 << 2);
        for n in 0..3 {
            assert_eq!(bench.got(n), [[0; 0]; 0], "{record:?}");
        }
    }
    bench.send_data(A, B, Op::Data, b"still there");
    assert_eq!(bench.ops(1), [Op::Data]);
    let counts = bench.server.counts(2).unwrap();
    assert_eq!((counts.spoofed.count(), counts.malformed.count()), (1, 8));
}

#[test]
fn a_full_ring_keeps_its_senders_waiting_and_nobody_else() {
    let mut bench = bench(BYTES, &[0, 0, 0]);
    bench.connect(A, B);
    bench.connect(C, A);
    let data = vec![5; 300];
    for _ in 0..2 {
        bench.send_data(A, B, Op::Data, &data);
    }
    assert_eq!(bench.put(0, &[0; 200]), Err(NoRoom::Full), "one is with B, and one waits");
    // Others go on, in both directions.
    bench.send_data(C, A, Op::Data, b"go on");
    assert_eq!(bench.ops(0), [Op::Data]);
    bench.send(B, C, Op::Request);
    assert_eq!(bench.ops(2), [Op::Request]);
}

#[test]
fn waiting_ends_when_there_is_room_and_nothing_is_lost() {
    let mut bench = bench(BYTES, &[0, 0]);
    bench.connect(A, B);
    let mut sent = Vec::new();
    for n in 0..40u8 {
        let data = vec![n; 1 + usize::from(n) * 7];
        let header = Header { len: data.len() as u32, ..header(A, B, Op::Data) };
        while bench.put(0, &[&header.bytes()[..], &data].concat()).is_err() {
            bench.run(1);
            let got = bench.next(1).unwrap();
            sent.push(got);
            if bench.clients[1].input.must_signal() {
                bench.run(2);
            }
        }
    }
    bench.run(1);
    sent.extend(bench.got(1));
    let sizes: Vec<usize> = sent.iter().map(|record| record.len() - 44).collect();
    assert_eq!(sizes, (0..40).map(|n| 1 + n * 7).collect::<Vec<_>>());
}

#[test]
fn a_small_packet_does_not_overtake_a_large_one_that_waits() {
    let mut bench = bench(BYTES, &[0, 0, 0]);
    bench.connect(A, B);
    bench.connect(C, B);
    bench.send_data(A, B, Op::Data, &[1; 300]);
    bench.send_data(A, B, Op::Data, &[2; 300]);
    for _ in 0..4 {
        bench.send(C, B, Op::CreditUpdate);
    }
    let senders: Vec<u32> = bench.got(1).iter().map(|record| parse(record).from.cid).collect();
    assert_eq!(senders, [3, 3, 5, 5, 5, 5]);
}

#[test]
fn who_keeps_others_waiting_for_too_long_loses_its_connections() {
    let mut bench = bench(BYTES, &[0, 0, 0]);
    bench.connect(A, B);
    bench.connect(B, C);
    for _ in 0..2 {
        bench.send_data(A, B, Op::Data, &[1; 300]);
    }
    bench.pass(3);
    assert_eq!((bench.ops(0), bench.ops(2)), (vec![], vec![]));
    bench.pass(2);
    assert_eq!((bench.ops(0), bench.ops(2)), (vec![Op::Reset; 2], vec![Op::Reset]));
    bench.send(A, B, Op::Request);
    assert_eq!(bench.ops(0), [Op::Reset], "B does not answer");
    // B takes something again, and hears of it.
    let got = bench.got(1);
    assert_eq!((got.len(), &got[1][..]), (2, &LOST[..]));
    bench.notice(1, UP);
    bench.connect(A, B);
    assert!(bench.machine.0.borrow().alarm.is_none());
}

#[test]
fn who_floods_with_requests_and_takes_no_answers_harms_itself() {
    let mut bench = bench(BYTES, &[0, 0, 0]);
    bench.connect(A, C);
    for _ in 0..200 {
        let request = header(B, (9, 9), Op::Request).bytes();
        if bench.put(1, &request).is_err() {
            break;
        }
        bench.run(2);
    }
    bench.send_data(A, C, Op::Data, b"x");
    assert_eq!(bench.ops(2), [Op::Data]);
    bench.pass(5);
    bench.run(2);
    assert!(bench.put(1, &header(B, A, Op::Request).bytes()).is_ok(), "its packets are dropped now");
    bench.send_data(A, C, Op::Data, b"x");
    assert_eq!((bench.ops(2), bench.ops(0)), (vec![Op::Data], vec![]));
}

#[test]
fn the_others_get_rsts_when_a_client_is_gone() {
    for (notice, answer) in [(DOWN, vec![Op::Reset]), (UP, vec![])] {
        let mut bench = bench(BYTES, &[0, 0, 0]);
        bench.connect(A, B);
        bench.connect(C, A);
        bench.connect(B, C);
        bench.notice(0, notice);
        let resets = [header(A, B, Op::Reset), header(A, C, Op::Reset)];
        for (n, expected) in [(1, resets[0]), (2, resets[1])] {
            let expected = Header { room: 0, taken: 0, ..expected };
            assert_eq!(bench.got(n), [expected.bytes()]);
        }
        assert_eq!(bench.got(0), [[0; 0]; 0], "it knows");
        bench.send(B, C, Op::CreditUpdate);
        assert_eq!(bench.ops(2), [Op::CreditUpdate], "others' connections remain");
        bench.send((1, 99), (0, 1), Op::Request);
        assert_eq!(bench.ops(1), answer);
    }
}

#[test]
fn resets_wait_for_room_too() {
    let mut bench = bench(BYTES, &[0, 0]);
    for port in 0..20 {
        bench.connect((0, 100 + port), B);
    }
    bench.notice(0, DOWN);
    let mut ports: Vec<u32> = bench.got(1).iter().map(|record| parse(record).from.port).collect();
    ports.sort_unstable();
    assert_eq!(ports, (100..120).collect::<Vec<_>>());
}

#[test]
fn a_member_opens_so_many_connections_and_others_have_their_own() {
    let mut bench = bench(1 << 14, &[0, 0]);
    for port in 0..128 {
        bench.send((0, port), B, Op::Request);
    }
    assert_eq!((bench.ops(1).len(), bench.ops(0)), (128, vec![]));
    bench.send((0, 128), B, Op::Request);
    assert_eq!((bench.ops(1), bench.ops(0)), (vec![], vec![Op::Reset]));
    bench.connect((1, 5), A);
    bench.send((0, 3), B, Op::Reset);
    bench.send((0, 128), B, Op::Request);
    assert_eq!(bench.ops(1), [Op::Reset, Op::Request]);
}

#[test]
fn a_broken_ring_is_its_clients_end() {
    for ring in [0, 1] {
        let mut bench = bench(BYTES, &[0, 0, 0]);
        bench.connect(A, B);
        bench.connect(C, B);
        bench.clients[1].windows[ring].write_u32([0, 64][ring], 4).unwrap();
        bench.run(2);
        bench.send(A, B, Op::CreditUpdate);
        assert!(bench.ops(0).contains(&Op::Reset), "ring {ring}");
        bench.send(A, B, Op::Request);
        assert_eq!(bench.ops(0), [Op::Reset]);
        assert_eq!(bench.ops(2), [Op::Reset]);
    }
}

/// B's ring has one packet of A's, A's second one waits for room, and one of C's waits behind that.
fn in_turns() -> Bench {
    let mut bench = bench(BYTES, &[0, 0, 0]);
    bench.connect(A, B);
    bench.connect(C, B);
    for _ in 0..2 {
        bench.send_data(A, B, Op::Data, &[1; 300]);
    }
    bench.send(C, B, Op::CreditUpdate);
    bench
}

#[test]
fn a_sender_whose_ring_breaks_leaves_its_turn() {
    let mut bench = in_turns();
    bench.clients[0].windows[0].write_u32(0, 4).unwrap();
    bench.run(1);
    assert_eq!(bench.ops(1), [Op::Data, Op::CreditUpdate, Op::Reset]);
}

#[test]
fn a_sender_that_withdraws_a_packet_leaves_its_turn() {
    let mut bench = in_turns();
    // The producer's index goes back to the consumer's.
    let window = &bench.clients[0].windows[0];
    window.write_u32(0, window.read_u32(64).unwrap()).unwrap();
    assert_eq!(bench.ops(1), [Op::Data, Op::CreditUpdate]);
}
