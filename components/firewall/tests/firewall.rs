//! Rules, frames, and the way between two ports.

use ethernet::Port;
use firewall::{Action, Firewall, Mistake, Packet, Protocol, Rules, Way};
use mmio::{RecordConsumer, RecordProducer, RecordRing, Window};
use proptest::prelude::*;
use proto::net::{HEADER, Mac};

/// A frame of IPv4 from 10.0.0.1 port 1000 to 192.168.0.2 port 7.
fn ipv4(protocol: u8, fragment: u16) -> Vec<u8> {
    let [a, b] = fragment.to_be_bytes();
    let ip = [0x45, 0, 0, 28, 0, 1, a, b, 64, protocol, 0, 0, 10, 0, 0, 1, 192, 168, 0, 2];
    [&[2; 12][..], &[8, 0], &ip, &[0x03, 0xe8, 0, 7, 0, 8, 0, 0]].concat()
}

const UDP: u8 = 17;

fn decide(rules: &str, frame: &[u8], way: Way) -> Action {
    Rules::parse(rules).unwrap().decide(&Packet::of(frame, way))
}

#[test]
fn the_first_rule_that_matches_decides() {
    for (rules, action) in [
        ("", Action::Deny),
        ("allow any", Action::Allow),
        ("allow udp", Action::Allow),
        ("allow tcp; allow icmp; allow arp", Action::Deny),
        ("allow udp 192.168.0.2 7", Action::Allow),
        ("allow udp 192.168.0.2 8", Action::Deny),
        ("allow udp 192.168.0.3", Action::Deny),
        ("allow udp 192.168.0.3/31", Action::Allow),
        ("allow udp 192.168.0.4/31", Action::Deny),
        ("allow any 0.0.0.0/0", Action::Allow),
        ("allow any 192.168.0.2", Action::Allow),
        ("allow udp any 7;", Action::Allow),
        ("deny udp any 7; allow any", Action::Deny),
        (" ; allow udp ; deny any", Action::Allow),
    ] {
        assert_eq!(decide(rules, &ipv4(UDP, 0), Way::Out), action, "{rules}");
    }
}

#[test]
fn a_rule_is_about_who_is_outside() {
    let frame = ipv4(UDP, 0);
    for rules in ["allow udp 10.0.0.1 1000", "allow udp 10.0.0.0/8"] {
        assert_eq!(decide(rules, &frame, Way::In), Action::Allow, "{rules}");
        assert_eq!(decide(rules, &frame, Way::Out), Action::Deny, "{rules}");
    }
    let arp =
        [&[2; 12][..], &[8, 6, 0, 1, 8, 0, 6, 4, 0, 1], &[2; 6], &[10, 0, 0, 1], &[0; 6], &[10, 0, 0, 9]].concat();
    for (rules, way) in [("allow arp 10.0.0.9", Way::Out), ("allow arp 10.0.0.1", Way::In), ("allow arp", Way::In)] {
        assert_eq!(decide(rules, &arp, way), Action::Allow, "{rules}");
    }
    assert_eq!(decide("allow arp 10.0.0.9", &arp, Way::In), Action::Deny);
}

#[test]
fn what_cannot_be_read_matches_nothing_that_asks_for_it() {
    // The second fragment has no ports, whatever is where they would be.
    assert_eq!(Packet::of(&ipv4(UDP, 1), Way::Out).port, None);
    assert_eq!(Packet::of(&ipv4(UDP, 0x2000), Way::Out).port, Some(7), "the first one of several");
    let whole = ipv4(UDP, 0);
    for len in 0..whole.len() - 4 {
        assert_eq!(decide("allow udp any 7", &whole[..len], Way::Out), Action::Deny, "{len} bytes");
    }
    for (at, value) in [(14, 0x44), (14, 0x55), (14, 0x4f), (12, 0x86), (23, 99)] {
        let mut wrong = whole.clone();
        wrong[at] = value;
        assert_eq!(decide("allow udp any 7", &wrong, Way::Out), Action::Deny, "{at}");
    }
    // Ports behind options are found.
    let mut options = whole.clone();
    options[14] = 0x46;
    options.splice(34..34, [1; 4]);
    assert_eq!(decide("allow udp any 7", &options, Way::Out), Action::Allow);
    assert_eq!(Packet::of(&ipv4(1, 0), Way::Out).protocol, Some(Protocol::Icmp));
}

#[test]
fn mistakes_say_which_word_is_wrong() {
    for (rules, mistake) in [
        ("permit udp", Mistake::Action("permit udp")),
        ("allow", Mistake::Protocol("allow")),
        ("allow sctp", Mistake::Protocol("sctp")),
        ("allow udp 10.0.0", Mistake::Address("10.0.0")),
        ("allow udp 10.0.0.0/33", Mistake::Address("10.0.0.0/33")),
        ("allow udp any 65536", Mistake::Port("65536")),
        ("allow icmp any 7", Mistake::Port("7")),
        ("allow any any 7", Mistake::Port("7")),
        ("allow udp any 7 8", Mistake::More("8")),
    ] {
        assert_eq!(Rules::parse(rules).err(), Some(mistake), "{rules}");
    }
    assert_eq!(Rules::parse(&"allow any;".repeat(33)).err(), Some(Mistake::TooMany));
    assert_eq!(Mistake::Port("7").to_string(), "`7` is no port, or the protocol has none");
}

/// One side of the firewall, as the switch sees it.
struct Side {
    to: RecordProducer,
    from: RecordConsumer,
}

fn side(n: u8) -> (Port, Side) {
    let [to, from] = [(); 2].map(|()| RecordRing::new(Window::leak(vec![0; 128 + (1 << 15)].leak())).unwrap());
    let port = Port::new(Mac([2, 0, 0, 0, 0, n]), from.producer(), to.consumer());
    (port, Side { to: to.producer(), from: from.consumer() })
}

impl Side {
    fn put(&mut self, frame: &[u8]) {
        let mut record = self.to.reserve((HEADER + frame.len()) as u32).unwrap();
        record.write(&[0; HEADER]).unwrap();
        record.write(frame).unwrap();
        record.publish();
    }

    fn got(&mut self) -> Option<Vec<u8>> {
        let record = self.from.peek().unwrap()?;
        let mut bytes = vec![0; record.len() as usize];
        record.read(0, &mut bytes).unwrap();
        record.release();
        Some(bytes.split_off(HEADER))
    }
}

fn bench(rules: &str) -> (Firewall, [Side; 2]) {
    let [(inside, a), (outside, b)] = [side(1), side(2)];
    (Firewall::new(inside, outside, Rules::parse(rules).unwrap()), [a, b])
}

#[test]
fn frames_pass_unchanged_and_are_counted() {
    let (mut firewall, [mut inside, mut outside]) =
        bench("deny udp any 1000; allow udp 192.168.0.2 7; allow tcp 10.0.0.1");
    let datagram = ipv4(UDP, 0);
    for _ in 0..100 {
        inside.put(&datagram);
        outside.put(&datagram);
        outside.put(&ipv4(6, 0));
        inside.put(&ipv4(6, 0));
        while firewall.turn() {}
        assert_eq!((outside.got(), outside.got()), (Some(datagram.clone()), None));
        assert_eq!((inside.got(), inside.got()), (Some(ipv4(6, 0)), None));
    }
    let (counts, unmatched) = firewall.rules().counts();
    assert_eq!((counts.collect::<Vec<_>>(), unmatched), (vec![100; 3], 100));
    assert_eq!(firewall.must_signal(), [true, true]);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(500) })]

    #[test]
    fn nothing_passes_that_no_rule_allows(
        frames in prop::collection::vec((any::<bool>(), prop::collection::vec(prop_oneof![2 => Just(0u8), 1 => any::<u8>()], 14..80), any::<bool>()), 1..30),
    ) {
        let (mut firewall, [mut inside, mut outside]) = bench("allow udp 192.168.0.2 7");
        for (out, mut bytes, real) in frames {
            if let Some(head) = bytes.get_mut(..34).filter(|_| real) {
                head.copy_from_slice(&ipv4(UDP, 0)[..34]);
            }
            let (from, to) = if out { (&mut inside, &mut outside) } else { (&mut outside, &mut inside) };
            from.put(&bytes);
            while firewall.turn() {}
            if let Some(passed) = to.got() {
                prop_assert_eq!(&passed, &bytes);
                prop_assert_eq!(&bytes[12..14], &[8, 0]);
                prop_assert_eq!(bytes[23], UDP);
                let (address, port) = if out { (30, 36) } else { (26, 34) };
                prop_assert_eq!(&bytes[address..address + 4], &[192, 168, 0, 2]);
                let port = port + usize::from(bytes[14] & 0xf) * 4 - 20;
                prop_assert_eq!(&bytes[port..port + 2], &[0, 7]);
            }
        }
    }

    #[test]
    fn whatever_the_rules_are_they_are_read_or_refused(text in "[a-z0-9./; -]{0,80}") {
        if let Ok(rules) = Rules::parse(&text) {
            prop_assert!(rules.counts().0.count() <= firewall::MOST);
        }
    }
}
