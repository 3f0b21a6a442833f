//! The server with clients at the other ends of its rings.

use std::cell::RefCell;
use std::rc::Rc;

use layout::{Slot, config::Window as Described};
use mmio::{NoRoom, RecordConsumer, RecordProducer, RecordRing, Window};
use net_server::{Counts, Hardware, Rings, Server};
use proptest::prelude::*;
use proto::net::{Config, Mac, Port};

const HERTZ: u64 = 1_000_000_000;
const HEADER: [u8; 12] = [0; 12];

/// A machine of which the test sees the signals and sets the time.
#[derive(Clone, Default)]
struct Machine(Rc<RefCell<State>>);

#[derive(Default)]
struct State {
    now: u64,
    signals: Vec<usize>,
    again: bool,
}

impl Hardware for Machine {
    fn now(&self) -> u64 {
        self.0.borrow().now
    }
    fn signal(&mut self, port: usize) {
        self.0.borrow_mut().signals.push(port);
    }
    fn again(&mut self) {
        self.0.borrow_mut().again = true;
    }
    fn alarm(&mut self, _at: u64) {
        panic!("frames do not wait");
    }
}

/// A client's ends.
struct Guest {
    mac: Mac,
    output: RecordProducer,
    input: RecordConsumer,
    /// To the switch, and from it.
    windows: [Window; 2],
}

struct Bench {
    machine: Machine,
    server: Server<Machine>,
    guests: Vec<Guest>,
}

fn mac(n: usize) -> Mac {
    Mac([2, 0, 0, 0, 0, n as u8])
}

/// A server with a port for each of these: its network, and whether its client is a bridge. Rings have `bytes` of data.
fn bench(bytes: usize, ports: &[(u8, bool)]) -> Bench {
    let unused = Described { at: 0, len: 0 };
    let mut config = Config { ports: Default::default(), sockets: Default::default(), again: Slot(0) };
    let (mut guests, mut rings) = (Vec::new(), Vec::new());
    for (n, &(network, bridge)) in ports.iter().enumerate() {
        let windows = [(); 2].map(|()| Window::leak(vec![0; 128 + bytes].leak()));
        let [from, to] = windows.map(|window| RecordRing::new(window).unwrap());
        rings.push(Rings { input: from.consumer(), output: to.producer() });
        guests.push(Guest { mac: mac(n), output: from.producer(), input: to.consumer(), windows });
        let name = "x".try_into().unwrap();
        let port = Port { name, network, mac: mac(n), bridge, input: unused, output: unused, signal: Slot(0) };
        config.ports.push(port).unwrap();
    }
    let machine = Machine::default();
    let mut server = Server::new(machine.clone(), &config, rings.into_iter(), HERTZ);
    server.on_signal(0);
    for guest in &mut guests {
        guest.input.park();
    }
    machine.0.borrow_mut().signals.clear();
    Bench { machine, server, guests }
}

fn frame(to: Mac, from: Mac, payload: usize) -> Vec<u8> {
    let payload = (0..payload).map(|n| n as u8);
    to.0.into_iter().chain(from.0).chain([0x08, 0x00]).chain(payload).collect()
}

const ALL: Mac = Mac([0xff; 6]);

impl Bench {
    /// Puts a record in a guest's ring.
    fn put(&mut self, guest: usize, header: [u8; 12], frame: &[u8]) -> Result<(), NoRoom> {
        let mut record = self.guests[guest].output.reserve(12 + frame.len() as u32)?;
        record.write(&header).unwrap();
        record.write(frame).unwrap();
        record.publish();
        Ok(())
    }

    /// Sends a frame, and has the server run where the ring says so.
    fn send(&mut self, guest: usize, frame: &[u8]) {
        self.put(guest, HEADER, frame).unwrap();
        self.run(guest);
    }

    fn run(&mut self, guest: usize) {
        if self.guests[guest].output.must_signal() {
            self.server.on_signal(1 << guest);
        }
    }

    /// All records that a guest has got.
    fn got(&mut self, guest: usize) -> Vec<Vec<u8>> {
        let mut all = Vec::new();
        while let Some(record) = self.guests[guest].input.peek().unwrap() {
            let mut bytes = vec![0; record.len() as usize];
            record.read(0, &mut bytes).unwrap();
            record.release();
            all.push(bytes);
        }
        self.guests[guest].input.park();
        all
    }

    /// What was malformed, spoofed, limited and dropped.
    fn counts(&self, guest: usize) -> [u32; 4] {
        let Counts { malformed, spoofed, limited, dropped } = self.server.counts(guest).unwrap();
        [malformed, spoofed, limited, dropped].map(|tally| tally.count())
    }

    fn signals(&self) -> Vec<usize> {
        std::mem::take(&mut self.machine.0.borrow_mut().signals)
    }
}

#[test]
fn a_frame_goes_to_its_address_and_nowhere_else() {
    let mut bench = bench(4096, &[(0, false); 3]);
    let sent = frame(mac(1), mac(0), 100);
    bench.send(0, &sent);
    assert_eq!(bench.got(1), [[&HEADER[..], &sent].concat()]);
    assert!(bench.got(0).is_empty() && bench.got(2).is_empty());
    assert_eq!([bench.counts(0), bench.counts(1)], [[0; 4]; 2]);
}

#[test]
fn groups_are_for_everyone_in_the_network() {
    let mut bench = bench(4096, &[(0, false), (0, false), (1, false), (0, false)]);
    for to in [ALL, Mac([0x33, 0x33, 0, 0, 0, 1])] {
        let sent = frame(to, mac(0), 60);
        bench.send(0, &sent);
        for (guest, frames) in [(0, 0), (1, 1), (2, 0), (3, 1)] {
            assert_eq!(bench.got(guest).len(), frames, "{guest}");
        }
    }
    // Nor does an address of another network lead there.
    bench.send(0, &frame(mac(2), mac(0), 60));
    assert!(bench.got(2).is_empty());
}

#[test]
fn a_guest_sends_from_its_own_address_only() {
    let mut bench = bench(4096, &[(0, false); 2]);
    for from in [mac(1), mac(7), ALL, Mac([0; 6])] {
        bench.send(0, &frame(mac(1), from, 60));
    }
    assert!(bench.got(1).is_empty());
    assert_eq!(bench.counts(0), [0, 4, 0, 0]);
}

#[test]
fn what_nobody_has_goes_to_bridges() {
    let mut bench = bench(4096, &[(0, false), (0, false), (0, true), (1, true)]);
    bench.send(0, &frame(mac(9), mac(0), 60));
    assert_eq!([0, 1, 2, 3].map(|guest| bench.got(guest).len()), [0, 0, 1, 0]);
    bench.send(0, &frame(mac(0), mac(0), 60));
    assert_eq!([0, 1, 2, 3].map(|guest| bench.got(guest).len()), [0; 4], "not back to the sender");
}

#[test]
fn an_address_behind_a_bridge_is_learned_and_moves() {
    let mut bench = bench(4096, &[(0, false), (0, true), (0, true)]);
    bench.send(1, &frame(mac(0), mac(9), 60));
    assert_eq!(bench.got(0).len(), 1);
    bench.send(0, &frame(mac(9), mac(0), 60));
    assert_eq!([1, 2].map(|guest| bench.got(guest).len()), [1, 0]);
    bench.send(2, &frame(mac(0), mac(9), 60));
    bench.send(0, &frame(mac(9), mac(0), 60));
    assert_eq!([1, 2].map(|guest| bench.got(guest).len()), [0, 1]);
    // The address of a member is its own, whoever claims it.
    bench.send(2, &frame(ALL, mac(0), 60));
    assert_eq!(bench.counts(2), [0, 1, 0, 0]);
}

#[test]
fn a_flood_of_addresses_harms_only_its_own() {
    let mut bench = bench(1 << 16, &[(0, false), (0, true), (0, true)]);
    bench.send(2, &frame(mac(0), mac(200), 60));
    for n in 0..65_536_u32 {
        let [a, b, ..] = n.to_le_bytes();
        bench.send(1, &frame(mac(0), Mac([6, 0, 0, 0, a, b]), 60));
        bench.got(0);
    }
    bench.send(0, &frame(mac(200), mac(0), 60));
    assert_eq!([1, 2].map(|guest| bench.got(guest).len()), [0, 1], "known still");
    bench.send(0, &frame(Mac([6, 0, 0, 0, 0xff, 0xff]), mac(0), 60));
    assert_eq!([1, 2].map(|guest| bench.got(guest).len()), [1, 0], "the latest one");
    bench.send(0, &frame(Mac([6, 0, 0, 0, 0, 0]), mac(0), 60));
    assert_eq!([1, 2].map(|guest| bench.got(guest).len()), [1, 1], "the first one is forgotten");
}

#[test]
fn a_slow_receiver_loses_its_own_frames() {
    let mut bench = bench(4096, &[(0, false); 3]);
    for _ in 0..10 {
        bench.send(0, &frame(mac(1), mac(0), 1000));
        bench.send(0, &frame(mac(2), mac(0), 1000));
        assert_eq!(bench.got(2).len(), 1);
    }
    assert_eq!(bench.got(1).len(), 3, "4096 bytes have room for three times 1032");
    assert_eq!([bench.counts(1), bench.counts(2)], [[0, 0, 0, 7], [0; 4]]);
    bench.send(0, &frame(mac(1), mac(0), 1000));
    assert_eq!(bench.got(1).len(), 1);
}

#[test]
fn offloads_pass_and_nonsense_does_not() {
    let mut bench = bench(1 << 18, &[(0, false); 2]);
    // A segment of 64 KiB behind TCP in IPv4, with its checksum to be completed.
    let tso = [1, 1, 54, 0, 0xb4, 5, 34, 0, 16, 0, 0, 0];
    let segment = frame(mac(1), mac(0), 65_536);
    bench.put(0, tso, &segment).unwrap();
    bench.run(0);
    assert_eq!(bench.got(1), [[&tso[..], &segment].concat()]);
    for (header, len) in [
        ([1, 9, 0, 0, 0, 0, 34, 0, 16, 0, 0, 0], 100),
        ([1, 0, 0, 0, 0, 0, 34, 0, 200, 0, 0, 0], 100),
        (HEADER, 65_537),
    ] {
        bench.put(0, header, &frame(mac(1), mac(0), len)).unwrap();
        bench.run(0);
    }
    bench.put(0, HEADER, &[2; 13]).unwrap();
    bench.run(0);
    let mut record = bench.guests[0].output.reserve(0).unwrap();
    record.write(&[]).unwrap();
    record.publish();
    bench.run(0);
    assert!(bench.got(1).is_empty());
    assert_eq!(bench.counts(0), [5, 0, 0, 0]);
}

#[test]
fn frames_to_groups_are_limited_and_others_are_not() {
    let mut bench = bench(1 << 16, &[(0, false); 2]);
    let mut got = 0;
    for _ in 0..600 {
        bench.send(0, &frame(ALL, mac(0), 60));
        bench.send(0, &frame(mac(1), mac(0), 60));
        got += bench.got(1).len();
    }
    assert_eq!(bench.counts(0), [0, 0, 600 - 512, 0]);
    assert_eq!(got, 600 + 512);
    bench.machine.0.borrow_mut().now = HERTZ / 1000;
    for _ in 0..10 {
        bench.send(0, &frame(ALL, mac(0), 60));
    }
    assert_eq!(bench.got(1).len(), 4, "four in a millisecond");
}

#[test]
fn a_busy_ring_costs_no_signals() {
    let mut bench = bench(1 << 16, &[(0, false); 2]);
    // A ring of zeros asks for a first signal, at both ends.
    bench.send(0, &frame(mac(1), mac(0), 60));
    assert_eq!((bench.signals(), bench.got(1).len()), (vec![0, 1], 1));
    bench.send(0, &frame(mac(1), mac(0), 60));
    assert_eq!(bench.signals(), [1]);
    // The receiver is at work, and has not parked again.
    for _ in 0..10 {
        bench.send(0, &frame(mac(1), mac(0), 60));
    }
    assert!(bench.signals().is_empty());
    assert_eq!(bench.got(1).len(), 11);
    bench.send(0, &frame(mac(1), mac(0), 60));
    assert_eq!(bench.signals(), [1]);
}

#[test]
fn a_client_that_breaks_its_ring_is_off_and_the_others_go_on() {
    let mut bench = bench(4096, &[(0, false); 3]);
    bench.guests[0].windows[0].write_u32(0, 4).unwrap();
    bench.server.on_signal(1);
    bench.server.on_signal(1);
    assert!(!bench.machine.0.borrow().again);
    bench.send(1, &frame(mac(2), mac(1), 60));
    assert_eq!(bench.got(2).len(), 1);
}

#[test]
fn a_client_that_breaks_its_ring_in_each_of_many_lives_is_served_in_the_last() {
    let mut bench = bench(4096, &[(0, false); 2]);
    for _ in 0..100 {
        bench.guests[0].windows[0].write_u32(0, 4).unwrap();
        bench.server.on_signal(1);
        let Guest { windows, output, input, .. } = &mut bench.guests[0];
        let [from, to] = windows.map(|window| RecordRing::new(window).unwrap());
        (*output, *input) = (from.producer(), to.consumer());
        bench.server.on_signal(1);
        let Guest { output, input, .. } = &mut bench.guests[0];
        let _ = (output.mend(), input.mend());
    }
    bench.send(0, &frame(mac(1), mac(0), 60));
    assert_eq!(bench.got(1).len(), 1);
}

#[test]
fn a_client_that_begins_anew_is_served_whatever_its_predecessor_has_left() {
    // The predecessor's own index, in either ring.
    for (ring, at) in [(0, 0), (1, 64)] {
        let mut bench = bench(4096, &[(0, false); 2]);
        bench.guests[0].windows[ring].write_u32(at, 4).unwrap();
        bench.send(1, &frame(mac(0), mac(1), 60));
        bench.server.on_signal(1);
        bench.signals();

        let Guest { windows, output, input, .. } = &mut bench.guests[0];
        let [from, to] = windows.map(|window| RecordRing::new(window).unwrap());
        (*output, *input) = (from.producer(), to.consumer());
        assert!(output.must_signal());
        bench.server.on_signal(1);
        assert_eq!(bench.signals(), [0], "it is to look at its rings");
        let Guest { output, input, .. } = &mut bench.guests[0];
        let _ = (output.mend(), input.mend());

        bench.send(0, &frame(mac(1), mac(0), 60));
        assert_eq!(bench.got(1).len(), 1, "ring {ring}");
        bench.send(1, &frame(mac(0), mac(1), 60));
        assert!(bench.got(0).ends_with(&[[&HEADER[..], &frame(mac(0), mac(1), 60)].concat()]), "ring {ring}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(200) })]

    #[test]
    fn whatever_is_sent_guests_get_what_is_theirs(
        sent in prop::collection::vec((0..3usize, prop::collection::vec(prop_oneof![4 => Just(0u8), 2 => 0..3u8, 1 => any::<u8>()], 0..80), any::<bool>()), 1..60),
        lies in prop::collection::vec((0..3usize, prop::sample::select(vec![0u64, 4, 64, 68, 128]), any::<u32>()), 0..4),
    ) {
        let mut bench = bench(1024, &[(0, false), (0, false), (0, true)]);
        for (n, (guest, mut bytes, real)) in sent.into_iter().enumerate() {
            if let Some(addresses) = bytes.get_mut(12..24).filter(|_| real) {
                addresses.copy_from_slice(&[mac(n % 4).0, mac(guest).0].concat());
            }
            if let Ok(mut record) = bench.guests[guest].output.reserve(bytes.len() as u32) {
                record.write(&bytes).unwrap();
                record.publish();
            }
            bench.server.on_signal(1 << guest);
            for guest in 0..3 {
                for record in bench.got(guest) {
                    let (to, from) = (Mac(record[12..18].try_into().unwrap()), Mac(record[18..24].try_into().unwrap()));
                    prop_assert!(to == mac(guest) || to.is_group() || guest == 2, "{guest} gets what is for {to}");
                    prop_assert!(from != bench.guests[guest].mac);
                }
            }
        }
        for (guest, at, value) in lies {
            bench.guests[guest].windows[0].write_u32(at, value).unwrap();
            bench.server.on_signal(0xff);
        }
    }
}
