//! What rules look at in a frame.
//!
//! RFC 791 (IPv4), RFC 768 (UDP), RFC 9293 (TCP). What cannot be read is not there: a rule that asks for it does not match.

use core::net::Ipv4Addr;

/// Which way a frame goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// To the outer network: whoever is outside is the destination.
    Out,
    /// From there: whoever is outside is the source.
    In,
}

/// A protocol that rules can name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// Address resolution.
    Arp,
    /// Control messages of IPv4.
    Icmp,
    /// Streams.
    Tcp,
    /// Datagrams.
    Udp,
}

/// What rules look at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Packet {
    /// The protocol, if rules can name it.
    pub protocol: Option<Protocol>,
    /// Who is outside.
    pub outside: Option<Ipv4Addr>,
    /// The port there. Fragments but the first have none.
    pub port: Option<u16>,
}

const ARP: u16 = 0x0806;
const IPV4: u16 = 0x0800;
/// Bytes of Ethernet's header.
const ETHERNET: usize = 14;
/// Of IPv4's flags and fragment offset: the offset.
const OFFSET: u16 = 0x1fff;

impl Packet {
    /// What is in a frame.
    pub fn of(frame: &[u8], way: Way) -> Self {
        Self::read(frame, way).unwrap_or_default()
    }

    fn read(frame: &[u8], way: Way) -> Option<Self> {
        match get16(frame, 12)? {
            ARP => {
                // The addresses of the sender and of who is asked for (RFC 826).
                let outside = address(frame, if way == Way::Out { ETHERNET + 24 } else { ETHERNET + 14 });
                Some(Self { protocol: Some(Protocol::Arp), outside, port: None })
            }
            IPV4 => {
                let header = usize::from(frame.get(ETHERNET)? & 0xf) * 4;
                if header < 20 || frame.get(ETHERNET)? >> 4 != 4 {
                    return None;
                }
                let protocol = match frame.get(ETHERNET + 9)? {
                    1 => Some(Protocol::Icmp),
                    6 => Some(Protocol::Tcp),
                    17 => Some(Protocol::Udp),
                    _ => None,
                };
                let outside = address(frame, ETHERNET + if way == Way::Out { 16 } else { 12 });
                let has_ports = matches!(protocol, Some(Protocol::Tcp | Protocol::Udp));
                let is_first = get16(frame, ETHERNET + 6)? & OFFSET == 0;
                let at = ETHERNET + header + if way == Way::Out { 2 } else { 0 };
                let port = if has_ports && is_first { get16(frame, at) } else { None };
                Some(Self { protocol, outside, port })
            }
            _ => None,
        }
    }
}

fn get16(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn address(bytes: &[u8], at: usize) -> Option<Ipv4Addr> {
    <[u8; 4]>::try_from(bytes.get(at..at + 4)?).ok().map(Ipv4Addr::from)
}
