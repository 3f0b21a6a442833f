//! The rules, as the description writes them: "allow arp; allow udp 192.168.0.0/24 7; deny any".

use core::{fmt, net::Ipv4Addr};

use heapless::Vec;
use proto::tally::{Report, Tally};

use crate::frame::{Packet, Protocol};

/// Rules at most.
pub const MOST: usize = 32;

/// What becomes of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// It is passed on.
    Allow,
    /// It is dropped.
    Deny,
}

/// A rule. What it leaves out may be anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    /// What becomes of frames that it matches.
    pub action: Action,
    /// Their protocol.
    pub protocol: Option<Protocol>,
    /// Who is outside: an address, and how many of its bits count.
    pub outside: Option<(Ipv4Addr, u8)>,
    /// The port there.
    pub port: Option<u16>,
}

/// All rules, in their order: the first that matches decides. What none matches is dropped.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    all: Vec<(Rule, Tally), MOST>,
    unmatched: Tally,
}

/// What is wrong with rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mistake<'a> {
    /// A rule begins neither with `allow` nor with `deny`.
    Action(&'a str),
    /// No protocol that there is.
    Protocol(&'a str),
    /// No address, or a prefix of more than 32 bits.
    Address(&'a str),
    /// No port, or one for a protocol without ports.
    Port(&'a str),
    /// A word too many.
    More(&'a str),
    /// More than [`MOST`] rules.
    TooMany,
}

impl Rules {
    /// Reads rules: separated by `;`, each an action, a protocol (arp, icmp, tcp, udp, any), and perhaps an address
    /// (192.168.0.2, 192.168.0.0/24, any) and a port.
    pub fn parse(text: &str) -> Result<Self, Mistake<'_>> {
        let mut rules = Self::default();
        for text in text.split(';').map(str::trim).filter(|text| !text.is_empty()) {
            rules.all.push((rule(text)?, Tally::default())).map_err(|_| Mistake::TooMany)?;
        }
        Ok(rules)
    }

    /// Decides about a frame and counts it. The log hears of the first eight that a rule matches, and then whenever their
    /// number has doubled.
    pub fn decide(&mut self, packet: &Packet) -> Action {
        let Some((rule, tally)) = self.all.iter_mut().find(|(rule, _)| rule.matches(packet)) else {
            if self.unmatched.add() == Report::Log {
                log::info!("no rule: {} frames dropped so far", self.unmatched.count());
            }
            return Action::Deny;
        };
        if tally.add() == Report::Log {
            log::info!("{rule}: {} frames so far", tally.count());
        }
        rule.action
    }

    /// How many frames the rules have matched, each, and how many none.
    pub fn counts(&self) -> (impl Iterator<Item = u32>, u32) {
        (self.all.iter().map(|(_, tally)| tally.count()), self.unmatched.count())
    }
}

fn rule(text: &str) -> Result<Rule, Mistake<'_>> {
    let mut words = text.split_whitespace();
    let action = match words.next() {
        Some("allow") => Action::Allow,
        Some("deny") => Action::Deny,
        _ => return Err(Mistake::Action(text)),
    };
    let protocol = match words.next() {
        Some("any") => None,
        Some("arp") => Some(Protocol::Arp),
        Some("icmp") => Some(Protocol::Icmp),
        Some("tcp") => Some(Protocol::Tcp),
        Some("udp") => Some(Protocol::Udp),
        word => return Err(Mistake::Protocol(word.unwrap_or(text))),
    };
    let outside = match words.next() {
        None | Some("any") => None,
        Some(word) => Some(network(word).ok_or(Mistake::Address(word))?),
    };
    let port = match words.next() {
        None | Some("any") => None,
        Some(word) => {
            let has_ports = matches!(protocol, Some(Protocol::Tcp | Protocol::Udp));
            Some(word.parse().ok().filter(|_| has_ports).ok_or(Mistake::Port(word))?)
        }
    };
    match words.next() {
        Some(word) => Err(Mistake::More(word)),
        None => Ok(Rule { action, protocol, outside, port }),
    }
}

fn network(word: &str) -> Option<(Ipv4Addr, u8)> {
    let (address, bits) = match word.split_once('/') {
        Some((address, bits)) => (address, bits.parse().ok().filter(|bits| *bits <= 32)?),
        None => (word, 32),
    };
    Some((address.parse().ok()?, bits))
}

impl Rule {
    fn matches(&self, packet: &Packet) -> bool {
        let is = |network: Ipv4Addr, bits: u8, address: Ipv4Addr| {
            // A prefix of no bits shifts all of them out.
            (network.to_bits() ^ address.to_bits()).checked_shr(32 - u32::from(bits)).unwrap_or(0) == 0
        };
        (self.protocol.is_none() || self.protocol == packet.protocol)
            && self.outside.is_none_or(|(network, bits)| packet.outside.is_some_and(|one| is(network, bits, one)))
            && self.port.is_none_or(|port| packet.port == Some(port))
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.action {
            Action::Allow => "allow",
            Action::Deny => "deny",
        })?;
        f.write_str(match self.protocol {
            None => " any",
            Some(Protocol::Arp) => " arp",
            Some(Protocol::Icmp) => " icmp",
            Some(Protocol::Tcp) => " tcp",
            Some(Protocol::Udp) => " udp",
        })?;
        match self.outside {
            Some((address, 32)) => write!(f, " {address}")?,
            Some((address, bits)) => write!(f, " {address}/{bits}")?,
            None if self.port.is_some() => f.write_str(" any")?,
            None => {}
        }
        self.port.map_or(Ok(()), |port| write!(f, " {port}"))
    }
}

impl fmt::Display for Mistake<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Action(text) => write!(f, "`{text}` begins neither with allow nor with deny"),
            Self::Protocol(word) => write!(f, "`{word}` is none of arp, icmp, tcp, udp and any"),
            Self::Address(word) => write!(f, "`{word}` is no address such as 192.168.0.2 or 192.168.0.0/24"),
            Self::Port(word) => write!(f, "`{word}` is no port, or the protocol has none"),
            Self::More(word) => write!(f, "`{word}` is a word too many: a rule ends with its port"),
            Self::TooMany => write!(f, "there are more than {MOST} rules"),
        }
    }
}
