//! net-server's sockets: packets of virtio's stream sockets, from client to client by rings of records, without calls.
//!
//! VIRTIO 1.2, section 5.10.6. A record is a header of 44 bytes (`struct virtio_vsock_hdr`, little-endian) and as many bytes as
//! its `len` says. A record of one byte is a notice: from a client, that it answers from now on and knows of no connection
//! ([`UP`]), or that nobody answers ([`DOWN`]); from net-server, that it knows of no connection ([`LOST`]), and wants
//! the client's notice again.
//!
//! net-server passes a packet on if its source is its client's own address, and if it belongs to a connection that it has
//! seen begin. Any other, and one for somebody who does not answer, it answers itself, by RST. It knows the end of each
//! connection by RST too, and sends one to whoever is left when a client is gone.

use layout::{
    Slot,
    config::{Name, Window},
};
use serde::{Deserialize, Serialize};

/// A client of these sockets, as net-server finds it in its configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Port {
    /// For the log: who is connected to which network.
    pub name: Name,
    /// The number of the network.
    pub network: u8,
    /// Its client's address.
    pub cid: u32,
    /// Ring from the client.
    pub input: Window,
    /// Ring to the client.
    pub output: Window,
    /// How to signal the client.
    pub signal: Slot,
}

/// Notices.
pub const DOWN: [u8; 1] = [0];
/// See [`DOWN`].
pub const UP: [u8; 1] = [1];
/// See [`DOWN`].
pub const LOST: [u8; 1] = [2];

/// The first address of clients: those below it have meanings of their own (5.10.4).
pub const FIRST_CID: u32 = 3;
/// The last one: the next is a wildcard.
pub const LAST_CID: u32 = u32::MAX - 1;

/// Bytes of a header.
pub const HEADER: usize = 44;
/// Bytes of the longest packet behind its header.
pub const LONGEST: u32 = 64 << 10;
/// The kind of all sockets here (`VIRTIO_VSOCK_TYPE_STREAM`).
pub const STREAM: u16 = 1;

/// What a packet says (5.10.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// Opens a connection.
    Request,
    /// Accepts it.
    Response,
    /// Refuses it, or ends it.
    Reset,
    /// Ends one or both directions, see [`NO_MORE_RECEIVED`].
    Shutdown,
    /// Carries bytes.
    Data,
    /// Has no other purpose than the header's credit.
    CreditUpdate,
    /// Asks for that.
    CreditRequest,
}

/// Flag of a [`Op::Shutdown`]: its sender will receive nothing more.
pub const NO_MORE_RECEIVED: u32 = 1;
/// Likewise: its sender will send nothing more.
pub const NO_MORE_SENT: u32 = 2;

impl Op {
    const ALL: [Self; 7] = [
        Self::Request,
        Self::Response,
        Self::Reset,
        Self::Shutdown,
        Self::Data,
        Self::CreditUpdate,
        Self::CreditRequest,
    ];
}

/// One end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address {
    /// Who.
    pub cid: u32,
    /// Which of its sockets.
    pub port: u32,
}

/// A packet's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Whose packet it is.
    pub from: Address,
    /// For whom.
    pub to: Address,
    /// Bytes behind the header.
    pub len: u32,
    /// The kind of socket.
    pub kind: u16,
    /// What it says; `None` for what the specification does not have.
    pub op: Option<Op>,
    /// Flags of `op`.
    pub flags: u32,
    /// The sender's credit for the receiver: bytes that it has room for in all (`buf_alloc`) …
    pub room: u32,
    /// … and bytes that it has taken out of there, ever (`fwd_cnt`).
    pub taken: u32,
}

impl Header {
    /// The meaning of a header; `None` if an address has more than 32 bits, which nobody's has.
    pub fn parse(bytes: &[u8; HEADER]) -> Option<Self> {
        let word = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let half = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
        if word(4) != 0 || word(12) != 0 {
            return None;
        }
        Some(Self {
            from: Address { cid: word(0), port: word(16) },
            to: Address { cid: word(8), port: word(20) },
            len: word(24),
            kind: half(28),
            op: usize::from(half(30)).checked_sub(1).and_then(|op| Op::ALL.get(op).copied()),
            flags: word(32),
            room: word(36),
            taken: word(40),
        })
    }

    /// The header with this meaning.
    pub fn bytes(&self) -> [u8; HEADER] {
        let op = self.op.map_or(0, |op| op as u16 + 1);
        let words = [
            self.from.cid,
            0,
            self.to.cid,
            0,
            self.from.port,
            self.to.port,
            self.len,
            u32::from(self.kind) | u32::from(op) << 16,
            self.flags,
            self.room,
            self.taken,
        ];
        let mut bytes = [0; HEADER];
        for (place, word) in bytes.chunks_exact_mut(4).zip(words) {
            place.copy_from_slice(&word.to_le_bytes());
        }
        bytes
    }

    /// A packet without bytes, flags and credit.
    pub const fn new(from: Address, to: Address, op: Op) -> Self {
        Self { from, to, len: 0, kind: STREAM, op: Some(op), flags: 0, room: 0, taken: 0 }
    }

    /// The RST that answers it.
    pub const fn refusal(&self) -> Self {
        Self { kind: self.kind, ..Self::new(self.to, self.from, Op::Reset) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_44_bytes_in_the_specifications_order() {
        // le64 src_cid, dst_cid; le32 src_port, dst_port, len; le16 type, op; le32 flags, buf_alloc, fwd_cnt.
        let mut bytes = [0; HEADER];
        for (at, byte) in [(0, 3), (8, 4), (17, 5), (20, 6), (24, 7), (28, 1), (30, 4), (32, 3), (38, 4), (40, 9)] {
            bytes[at] = byte;
        }
        let header = Header::parse(&bytes).unwrap();
        let (from, to) = (Address { cid: 3, port: 5 << 8 }, Address { cid: 4, port: 6 });
        let flags = NO_MORE_RECEIVED | NO_MORE_SENT;
        let expected = Header { len: 7, flags, room: 4 << 16, taken: 9, ..Header::new(from, to, Op::Shutdown) };
        assert_eq!(header, expected);
        assert_eq!(header.bytes(), bytes);
        assert_eq!(header.refusal(), Header::new(to, from, Op::Reset));
    }

    #[test]
    fn operations_have_the_specifications_numbers() {
        let op = |number: u8| {
            let mut bytes = [0; HEADER];
            bytes[30] = number;
            Header::parse(&bytes).unwrap().op
        };
        let all = [1, 2, 3, 4, 5, 6, 7].map(op);
        assert_eq!(all, Op::ALL.map(Some));
        assert_eq!([op(0), op(8), op(255)], [None; 3]);
    }

    #[test]
    fn nobody_has_an_address_of_more_than_32_bits() {
        for at in [4, 7, 12, 15] {
            let mut bytes = [0; HEADER];
            bytes[at] = 1;
            assert_eq!(Header::parse(&bytes), None);
        }
    }
}
