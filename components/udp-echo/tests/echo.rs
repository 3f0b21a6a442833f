//! The component at one end of a pair of rings, and another stack, or nonsense, at the other.

use ethernet::{Port, Stack};
use mmio::{RecordConsumer, RecordProducer, RecordRing, Window};
use proptest::prelude::*;
use proto::net::Mac;
use smoltcp::{
    iface::{Config, Interface, SocketSet, SocketStorage},
    socket::udp::{PacketBuffer, PacketMetadata, Socket},
    time::{Duration, Instant},
    wire::{HardwareAddress, IpCidr, Ipv4Address, Ipv4Cidr},
};
use udp_echo::{Echo, Room};

const ADDRESS: Ipv4Address = Ipv4Address::new(10, 0, 0, 9);
const OWN: Mac = Mac([2, 0, 0, 0, 0, 9]);
const OTHER: Mac = Mac([2, 0, 0, 0, 0, 1]);

/// The component, and the other ends of its rings.
fn echo() -> (Echo<'static>, RecordProducer, RecordConsumer) {
    let [to, from] = [(); 2].map(|()| RecordRing::new(Window::leak(vec![0; 128 + (1 << 16)].leak())).unwrap());
    let port = Port::new(OWN, from.producer(), to.consumer());
    let room: &'static mut Room<'static> = Box::leak(Box::default());
    (Echo::new(port, Ipv4Cidr::new(ADDRESS, 24), 7, room, Instant::ZERO), to.producer(), from.consumer())
}

#[test]
fn datagrams_come_back() {
    let (mut echo, to, from) = echo();
    let mut stack = Stack::new(Port::new(OTHER, to, from));
    let mut interface =
        Interface::new(Config::new(HardwareAddress::Ethernet(stack.address())), &mut stack, Instant::ZERO);
    interface.update_ip_addrs(|all| all.push(IpCidr::new(Ipv4Address::new(10, 0, 0, 1).into(), 24)).unwrap());
    let buffer =
        || PacketBuffer::new(&mut vec![PacketMetadata::EMPTY; 64].leak()[..], &mut vec![0; 1 << 16].leak()[..]);
    let mut socket = Socket::new(buffer(), buffer());
    socket.bind(1000).unwrap();
    let mut sockets = SocketSet::new(&mut vec![SocketStorage::EMPTY].leak()[..]);
    let socket = sockets.add(socket);
    let data = |len: usize| (0..len).map(|n| (n * 7 + len) as u8).collect::<Vec<u8>>();
    let lengths = [0, 1, 2, 60, 1000, 1471, 1472];
    for len in lengths {
        sockets.get_mut::<Socket>(socket).send_slice(&data(len), (ADDRESS, 7)).unwrap();
    }
    let mut now = Instant::ZERO;
    for _ in 0..20 {
        interface.poll(now, &mut stack, &mut sockets);
        while echo.turn(now) {}
        now += Duration::from_millis(100);
    }
    for len in lengths {
        let (got, from) = sockets.get_mut::<Socket>(socket).recv().expect("it comes back");
        assert_eq!((got, from.endpoint), (&data(len)[..], (ADDRESS, 7).into()));
    }
    assert!(!sockets.get_mut::<Socket>(socket).can_recv());
    assert_eq!(echo.deadline(now), None, "it waits for nothing but frames");
}

/// A datagram to the component's port, from an address that nobody has.
fn from_nobody(n: u8) -> Vec<u8> {
    let mut ip = [0x45, 0, 0, 32, 0, n, 0, 0, 64, 17, 0, 0, 10, 0, 0, 77, 10, 0, 0, 9];
    let words = ip.chunks(2).map(|word| u32::from(word[0]) << 8 | u32::from(word[1]));
    let sum: u32 = words.sum();
    let [a, b] = (!((sum >> 16) + (sum & 0xffff)) as u16).to_be_bytes();
    (ip[10], ip[11]) = (a, b);
    [&[0; 12][..], &OWN.0, &OTHER.0, &[8, 0], &ip, &[0x10, 0, 0, 7, 0, 12, 0, 0], b"lost"].concat()
}

#[test]
fn answers_to_nobody_do_not_keep_the_others_waiting() {
    let (mut echo, mut to, from) = echo();
    for n in 0..40 {
        let frame = from_nobody(n);
        let mut record = to.reserve(frame.len() as u32).unwrap();
        record.write(&frame).unwrap();
        record.publish();
    }
    let mut now = Instant::ZERO;
    for _ in 0..20 {
        while echo.turn(now) {}
        now += Duration::from_millis(500);
    }
    let mut stack = Stack::new(Port::new(OTHER, to, from));
    let config = Config::new(HardwareAddress::Ethernet(stack.address()));
    let mut interface = Interface::new(config, &mut stack, now);
    interface.update_ip_addrs(|all| all.push(IpCidr::new(Ipv4Address::new(10, 0, 0, 1).into(), 24)).unwrap());
    let buffer =
        || PacketBuffer::new(&mut vec![PacketMetadata::EMPTY; 64].leak()[..], &mut vec![0; 1 << 16].leak()[..]);
    let mut socket = Socket::new(buffer(), buffer());
    socket.bind(1000).unwrap();
    let mut sockets = SocketSet::new(&mut vec![SocketStorage::EMPTY].leak()[..]);
    let socket = sockets.add(socket);
    sockets.get_mut::<Socket>(socket).send_slice(b"there", (ADDRESS, 7)).unwrap();
    for _ in 0..40 {
        interface.poll(now, &mut stack, &mut sockets);
        while echo.turn(now) {}
        now += Duration::from_millis(500);
    }
    let (got, _) = sockets.get_mut::<Socket>(socket).recv().expect("it comes back");
    assert_eq!(got, b"there");
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(500) })]

    #[test]
    fn whatever_comes_it_goes_on(
        frames in prop::collection::vec((0..3u8, prop::collection::vec(prop_oneof![2 => Just(0u8), 1 => any::<u8>()], 0..120)), 1..40),
    ) {
        let (mut echo, mut to, mut from) = echo();
        for (n, (kind, mut bytes)) in frames.into_iter().enumerate() {
            // Some begin as a frame of ARP or IPv4 for the component does, with nothing left to be computed.
            let start = [&[0; 12][..], &OWN.0, &OTHER.0, &[8, if kind == 1 { 6 } else { 0 }], &[if kind == 2 { 0x45 } else { 0 }]].concat();
            if let (1.., Some(head)) = (kind, bytes.get_mut(..start.len())) {
                head.copy_from_slice(&start);
            }
            let mut record = to.reserve(bytes.len() as u32).unwrap();
            record.write(&bytes).unwrap();
            record.publish();
            let now = Instant::from_millis(n as i64);
            let mut turns = 0;
            while echo.turn(now) {
                turns += 1;
                prop_assert!(turns < 10);
            }
            while let Some(record) = from.peek().unwrap() {
                let mut sent = [0; 24];
                record.read(0, &mut sent).unwrap();
                prop_assert_eq!(&sent[18..], &OWN.0);
                record.release();
            }
        }
    }
}
