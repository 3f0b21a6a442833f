//! net-server, a switch. Frames are transferred by rings of records (`mmio::RecordRing`), without calls: each port has one
//! in each direction. A client rings the doorbell when the ring says so.
//!
//! A record is a header of 12 bytes, then a frame from its destination address on, without padding and checksum (FCS).
//! The header is `struct virtio_net_hdr` (VIRTIO 1.2, section 5.1.6), little-endian: what the sender of the frame has left
//! to be computed. So a segment of 64 KiB crosses the switch as one record, and no checksum is computed on the way.

use heapless::Vec;
use layout::{
    Service, Slot,
    config::{Name, Window},
    limits::MAX_SWITCH_PORTS,
};
use serde::{Deserialize, Serialize};

use crate::vsock;

/// The server.
pub const SERVICE: Service = Service { word: "net", server: "net-server", slot: Slot(15) };

/// What net-server finds at its start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Config {
    /// The ports of all networks. The position is the doorbell's bit, `event::ring(n)`.
    pub ports: Vec<Port, MAX_SWITCH_PORTS>,
    /// The members of all networks of sockets; the position, behind all ports, is likewise the doorbell's bit.
    pub sockets: Vec<vsock::Port, MAX_SWITCH_PORTS>,
    /// net-server's own notification, for work that it interrupts to answer calls.
    pub again: Slot,
}

/// A port of a network's switch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Port {
    /// For the log: who is connected to which network.
    pub name: Name,
    /// The number of the network.
    pub network: u8,
    /// Its client's address, which is nobody else's.
    pub mac: Mac,
    /// Its client forwards frames of others: it may send from all addresses that are no other port's, and gets frames to
    /// addresses that nobody has.
    pub bridge: bool,
    /// Ring from the client.
    pub input: Window,
    /// Ring to the client.
    pub output: Window,
    /// How to signal the client.
    pub signal: Slot,
}

/// An Ethernet address.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// Whether it is that of a group: multicast or broadcast.
    pub const fn is_group(self) -> bool {
        self.0[0] & 1 != 0
    }
}

impl core::fmt::Display for Mac {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl core::fmt::Debug for Mac {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{self}")
    }
}

/// Bytes of a record before the frame.
pub const HEADER: usize = 12;
/// Bytes of the shortest frame: addresses and type.
pub const SHORTEST: u32 = 14;
/// Bytes of the longest frame: a segment of 64 KiB, to be split by whoever puts it on a wire.
pub const LONGEST: u32 = 65_550;

/// What the sender of a frame has left to be computed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offload {
    /// Where a checksum begins to be computed, and how far behind that it belongs.
    pub checksum: Option<(u16, u16)>,
    /// How to split it.
    pub segments: Option<Segments>,
}

/// How a frame is to be split.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segments {
    /// The protocol: one of the header's numbers.
    kind: u8,
    /// Bytes of the headers, as a hint.
    pub headers: u16,
    /// Bytes of data in each segment.
    pub size: u16,
}

/// What is to be split.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Segmented {
    /// A segment of TCP in IPv4.
    TcpV4,
    /// A segment of TCP in IPv6.
    TcpV6,
    /// A datagram of UDP, into fragments.
    Udp,
}

impl Segments {
    /// What is to be split.
    pub const fn of(&self) -> Segmented {
        match self.kind & !Offload::ECN {
            Offload::TCPV4 => Segmented::TcpV4,
            Offload::TCPV6 => Segmented::TcpV6,
            // Offload::parse makes no others.
            _ => Segmented::Udp,
        }
    }
}

impl Offload {
    const NEEDS_CSUM: u8 = 1;
    const TCPV4: u8 = 1;
    const UDP: u8 = 3;
    const TCPV6: u8 = 4;
    const ECN: u8 = 0x80;

    /// The meaning of a header, if it has one for a frame of `frame` bytes. Flags that concern the receiver only are ignored.
    /// A checksum is behind the addresses: written over them, it would be another sender's frame.
    pub fn parse(header: [u8; HEADER], frame: u32) -> Option<Self> {
        let word = |at: usize| u16::from_le_bytes([header[at], header[at + 1]]);
        let [flags, kind, ..] = header;
        let (headers, size, start, offset) = (word(2), word(4), word(6), word(8));
        let checksum = (flags & Self::NEEDS_CSUM != 0).then_some((start, offset));
        let fits = u32::from(start) >= SHORTEST && u32::from(start) + u32::from(offset) + 2 <= frame;
        if checksum.is_some() && !fits {
            return None;
        }
        let segments = match kind & !Self::ECN {
            0 if kind == 0 => None,
            Self::TCPV4 | Self::UDP | Self::TCPV6 => Some(Segments { kind, headers, size }),
            _ => return None,
        };
        let valid = segments.is_none_or(|s| s.size > 0 && u32::from(s.headers) <= frame && checksum.is_some());
        valid.then_some(Self { checksum, segments })
    }

    /// The header with this meaning.
    pub const fn header(self) -> [u8; HEADER] {
        let (flags, [start, offset]) = match self.checksum {
            Some((start, offset)) => (Self::NEEDS_CSUM, [start.to_le_bytes(), offset.to_le_bytes()]),
            None => (0, [[0; 2]; 2]),
        };
        let (kind, [headers, size]) = match self.segments {
            Some(Segments { kind, headers, size }) => (kind, [headers.to_le_bytes(), size.to_le_bytes()]),
            None => (0, [[0; 2]; 2]),
        };
        [flags, kind, headers[0], headers[1], size[0], size[1], start[0], start[1], offset[0], offset[1], 0, 0]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_say_what_is_left_to_be_computed() {
        // A checksum of TCP in IPv4: from byte 34 on, at byte 50.
        let tcp = [1, 0, 0, 0, 0, 0, 34, 0, 16, 0, 0, 0];
        let parsed = Offload::parse(tcp, 60).unwrap();
        assert_eq!(parsed, Offload { checksum: Some((34, 16)), segments: None });
        assert_eq!(parsed.header(), tcp);
        assert_eq!(Offload::parse(tcp, 51), None, "the checksum is not in the frame");
        assert_eq!(Offload::parse(tcp, 52), Some(parsed));
        // Segments of 1448 bytes behind 66 bytes of headers, with ECN.
        let tso = [1, 0x81, 66, 0, 0xa8, 5, 34, 0, 16, 0, 0, 0];
        let parsed = Offload::parse(tso, 10_000).unwrap();
        assert_eq!(parsed.segments.map(|s| (s.headers, s.size)), Some((66, 1448)));
        assert_eq!(parsed.header(), tso);
        assert_eq!(Offload::parse([0; HEADER], 14), Some(Offload::default()));
    }

    #[test]
    fn headers_without_meaning_have_none() {
        for header in [
            [1, 2, 66, 0, 0xa8, 5, 34, 0, 16, 0, 0, 0],
            [1, 0x80, 66, 0, 0xa8, 5, 34, 0, 16, 0, 0, 0],
            [0, 1, 66, 0, 0xa8, 5, 34, 0, 16, 0, 0, 0],
            [1, 1, 66, 0, 0, 0, 34, 0, 16, 0, 0, 0],
            [1, 1, 0xff, 0xff, 0xa8, 5, 34, 0, 16, 0, 0, 0],
            [1, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0],
            [1, 0, 0, 0, 0, 0, 13, 0, 16, 0, 0, 0],
        ] {
            assert_eq!(Offload::parse(header, 10_000), None, "{header:?}");
        }
        // What is for receivers, and the number of buffers, go no further.
        let parsed = Offload::parse([2, 0, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9], 60).unwrap();
        assert_eq!(parsed.header(), [0; HEADER]);
    }
}
