//! A frame as it goes to a wire: with all checksums, and no longer than the wire takes. Guests leave both to their network
//! device (VIRTIO 1.2, section 5.1.6.2), and the switch passes on what they have left.
//!
//! RFC 1071 (checksums), RFC 9293 (TCP), RFC 768 (UDP), RFC 791 and 8200 (IP and its fragments), IEEE 802.1Q (tags).
//! Headers are copied once, when a frame is begun, and decided by. Left out: segments behind IPv4 options in fragments,
//! behind extension headers of IPv6, and in tunnels. Such frames are refused.

use proto::net::{Offload, Segmented, Segments};

/// Bytes of the longest frame on the wire, with a tag and without FCS.
pub const LONGEST: usize = UNTAGGED + TAG;
const UNTAGGED: usize = 1514;
const TAG: usize = 4;
/// Bytes of the headers that are repeated in each segment, at most: Ethernet, two tags, and the longest of IPv4 and TCP.
const MOST_HEADERS: usize = 14 + 2 * TAG + 60 + 60;

const TAGS: [u16; 2] = [0x8100, 0x88a8];
const IPV4: u16 = 0x0800;
const IPV6: u16 = 0x86dd;
const IPV4_HEADER: usize = 20;
const IPV6_HEADER: usize = 40;
const FRAGMENT_HEADER: usize = 8;
const TCP: u8 = 6;
const UDP: u8 = 17;
/// The next header, of IPv6, that is a fragment's.
const FRAGMENT: u8 = 44;
/// IPv4: more fragments follow.
const MORE: u16 = 1 << 13;
/// IPv4: more fragments, and the offset of a fragment.
const IS_FRAGMENT: u16 = 0x3fff;
/// Flags of TCP.
const FIN_PSH: u8 = 0x09;
const CWR: u8 = 0x80;
/// Where the checksums are in their headers.
const IPV4_SUM: usize = 10;
const TCP_SUM: usize = 16;
const UDP_SUM: usize = 6;

/// A frame, from its destination address on. Its bytes may change at any time.
pub trait Frame {
    /// How many bytes it has.
    fn size(&self) -> u32;
    /// Copies the bytes from `at` on; all of them are in the frame.
    fn read(&self, at: u32, into: &mut [u8]) -> Option<()>;
}

/// Why a frame does not go to the wire.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refused {
    /// It would be too long.
    TooLong,
    /// It is not what its sender says that it is.
    Malformed,
}

/// A frame on its way to the wire, in one piece or several.
#[derive(Debug)]
pub struct Wire {
    how: How,
    /// How many of the bytes to be split are on the wire.
    done: u32,
    /// How many pieces are.
    pieces: u32,
}

#[derive(Debug)]
enum How {
    /// With a checksum of everything from the first place on, at the second.
    Whole(Option<(usize, usize)>),
    Split(Split),
}

/// The headers of all pieces, and what is split behind them.
#[derive(Debug)]
struct Split {
    headers: [u8; MOST_HEADERS],
    /// How many bytes of headers each piece begins with; what is split follows them in the frame.
    len: usize,
    /// Where IP's header is, and that of TCP.
    ip: usize,
    tcp: usize,
    version: Version,
    protocol: Protocol,
    /// How many bytes are split, and into pieces of which size.
    data: u32,
    size: u32,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Version {
    V4,
    V6,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Protocol {
    /// A segment becomes several.
    Tcp,
    /// A datagram becomes fragments, of which the first has its checksum.
    Udp { sum: u16, id: u32 },
}

impl Wire {
    /// Begins a frame. `id` is for the fragments of a datagram, and different from its last value.
    pub fn new(offload: Offload, frame: &impl Frame, id: u32) -> Result<Self, Refused> {
        let how = match offload {
            Offload { checksum, segments: None } => How::Whole(whole(checksum, frame)?),
            Offload { checksum: Some(checksum), segments: Some(segments) } => {
                How::Split(Split::new(checksum, segments, frame, id)?)
            }
            // Nobody splits what has no checksum.
            Offload { checksum: None, segments: Some(_) } => return Err(Refused::Malformed),
        };
        Ok(Self { how, done: 0, pieces: 0 })
    }

    /// Whether all of it is on the wire.
    pub fn is_done(&self) -> bool {
        match &self.how {
            How::Whole(_) => self.pieces > 0,
            How::Split(split) => self.pieces > 0 && self.done >= split.data,
        }
    }

    /// Writes the next piece; returns how many bytes it has. `None` after the last one.
    pub fn next(&mut self, frame: &impl Frame, into: &mut [u8; LONGEST]) -> Option<usize> {
        if self.is_done() {
            return None;
        }
        let len = match &self.how {
            How::Whole(checksum) => {
                let piece = into.get_mut(..frame.size() as usize)?;
                frame.read(0, piece)?;
                if let &Some((from, at)) = checksum {
                    put16(piece, at, finish(sum(0, piece.get(from..)?)))?;
                }
                piece.len()
            }
            How::Split(split) => {
                let data = split.size.min(split.data - self.done);
                let piece = split.piece(frame, self.done, data, self.pieces, into)?;
                self.done += data;
                piece
            }
        };
        self.pieces += 1;
        Some(len)
    }
}

/// Checks a frame that stays in one piece; returns of what to compute the checksum, and where it belongs.
fn whole(checksum: Option<(u16, u16)>, frame: &impl Frame) -> Result<Option<(usize, usize)>, Refused> {
    let mut ethernet = [0; 14];
    frame.read(0, &mut ethernet).ok_or(Refused::Malformed)?;
    let tag = get16(&ethernet, 12).filter(|kind| TAGS.contains(kind)).map_or(0, |_| TAG);
    if frame.size() as usize > UNTAGGED + tag {
        return Err(Refused::TooLong);
    }
    Ok(checksum.map(|(from, offset)| (usize::from(from), usize::from(from) + usize::from(offset))))
}

impl Split {
    fn new(checksum: (u16, u16), segments: Segments, frame: &impl Frame, id: u32) -> Result<Self, Refused> {
        let mut headers = [0; MOST_HEADERS];
        let known = headers.len().min(frame.size() as usize);
        headers.get_mut(..known).and_then(|known| frame.read(0, known)).ok_or(Refused::Malformed)?;
        let described = Self::of(headers, known, checksum, segments, frame.size(), id).ok_or(Refused::Malformed)?;
        described.fitting(frame)
    }

    /// Reads the headers. Behind `known` bytes there are none.
    fn of(
        headers: [u8; MOST_HEADERS],
        known: usize,
        (start, offset): (u16, u16),
        segments: Segments,
        frame: u32,
        id: u32,
    ) -> Option<Self> {
        let (ip, kind) = behind_tags(&headers)?;
        let (version, protocol, tcp) = match kind {
            IPV4 => {
                let is_whole = get16(&headers, ip + 6)? & IS_FRAGMENT == 0;
                let header = usize::from(headers.get(ip)? & 0xf) * 4;
                (Version::V4, *headers.get(ip + 9)?, is_whole.then_some(ip + header).filter(|_| header >= IPV4_HEADER)?)
            }
            IPV6 => (Version::V6, *headers.get(ip + 6)?, ip + IPV6_HEADER),
            _ => return None,
        };
        let (wanted, at) = match segments.of() {
            Segmented::TcpV4 if version == Version::V4 => (TCP, TCP_SUM),
            Segmented::TcpV6 if version == Version::V6 => (TCP, TCP_SUM),
            Segmented::Udp => (UDP, UDP_SUM),
            _ => return None,
        };
        if protocol != wanted || usize::from(start) != tcp || usize::from(offset) != at {
            return None;
        }
        let (len, size, protocol) = if protocol == TCP {
            let header = usize::from(headers.get(tcp + 12)? >> 4) * 4;
            (Some(tcp + header).filter(|_| header >= 20)?, segments.size, Protocol::Tcp)
        } else {
            // A fragment's offset counts in units of 8 bytes, and options of IPv4 would not all belong into each fragment.
            let plain = version == Version::V6 || tcp == ip + IPV4_HEADER;
            let datagram = frame.checked_sub(tcp as u32)?;
            let is_whole = u32::from(get16(&headers, tcp + 4)?) == datagram && datagram >= 8;
            (Some(tcp).filter(|_| plain && is_whole)?, segments.size & !7, Protocol::Udp { sum: 0, id })
        };
        let data = frame.checked_sub(len as u32).filter(|_| len <= known && size > 0)?;
        Some(Self { headers, len, ip, tcp, version, protocol, data, size: size.into() })
    }

    /// Checks that the pieces are not too long. Computes the checksum of a datagram, all of which it is of.
    fn fitting(mut self, frame: &impl Frame) -> Result<Self, Refused> {
        let tagged = if self.ip > 14 { TAG } else { 0 };
        if self.len + self.added() + self.size.min(self.data) as usize > UNTAGGED + tagged {
            return Err(Refused::TooLong);
        }
        if let Protocol::Udp { sum, .. } = &mut self.protocol {
            *sum = datagram_sum(&self.headers, self.ip, self.version, self.tcp, frame).ok_or(Refused::Malformed)?;
        }
        Ok(self)
    }

    /// Bytes of headers that the frame does not have.
    fn added(&self) -> usize {
        if matches!(self.protocol, Protocol::Udp { .. }) && self.version == Version::V6 { FRAGMENT_HEADER } else { 0 }
    }

    /// Writes a piece with the `data` bytes behind `done`.
    fn piece(&self, frame: &impl Frame, done: u32, data: u32, number: u32, into: &mut [u8; LONGEST]) -> Option<usize> {
        let from = self.len + self.added();
        let piece = into.get_mut(..from + data as usize)?;
        piece.get_mut(..self.len)?.copy_from_slice(self.headers.get(..self.len)?);
        frame.read(self.len as u32 + done, piece.get_mut(from..)?)?;
        let is_last = done + data >= self.data;
        match self.protocol {
            Protocol::Tcp => {
                self.ip_length(piece)?;
                if self.version == Version::V4 {
                    put16(piece, self.ip + 4, get16(piece, self.ip + 4)?.wrapping_add(number as u16))?;
                }
                self.segment(piece, done, number == 0, is_last)?;
            }
            Protocol::Udp { sum, id } => {
                if done == 0 {
                    put16(piece, from + UDP_SUM, sum)?;
                }
                self.fragment(piece, done, is_last, id)?;
                self.ip_length(piece)?;
            }
        }
        if self.version == Version::V4 {
            put16(piece, self.ip + IPV4_SUM, 0)?;
            put16(piece, self.ip + IPV4_SUM, !sum(0, piece.get(self.ip..self.tcp)?))?;
        }
        Some(piece.len())
    }

    fn ip_length(&self, piece: &mut [u8]) -> Option<()> {
        match self.version {
            Version::V4 => put16(piece, self.ip + 2, (piece.len() - self.ip) as u16),
            Version::V6 => put16(piece, self.ip + 4, (piece.len() - self.ip - IPV6_HEADER) as u16),
        }
    }

    /// TCP's header of a segment: the number of its first byte, flags, checksum.
    fn segment(&self, piece: &mut [u8], done: u32, is_first: bool, is_last: bool) -> Option<()> {
        let number = piece.get_mut(self.tcp + 4..self.tcp + 8)?;
        let first = u32::from_be_bytes((&*number).try_into().ok()?);
        number.copy_from_slice(&first.wrapping_add(done).to_be_bytes());
        let flags = piece.get_mut(self.tcp + 13)?;
        *flags &= !(if is_first { 0 } else { CWR } | if is_last { 0 } else { FIN_PSH });
        put16(piece, self.tcp + TCP_SUM, 0)?;
        let bytes = piece.get(self.tcp..)?;
        let pseudo = pseudo_header(piece, self.ip, self.version, TCP, bytes.len() as u32)?;
        put16(piece, self.tcp + TCP_SUM, finish(sum(pseudo, bytes)))
    }

    /// What tells a fragment from the others of its datagram.
    fn fragment(&self, piece: &mut [u8], done: u32, is_last: bool, id: u32) -> Option<()> {
        match self.version {
            Version::V4 => put16(piece, self.ip + 6, (done / 8) as u16 | if is_last { 0 } else { MORE }),
            Version::V6 => {
                *piece.get_mut(self.ip + 6)? = FRAGMENT;
                let header = piece.get_mut(self.len..self.len + FRAGMENT_HEADER)?;
                let [a, b] = (done as u16 | u16::from(!is_last)).to_be_bytes();
                let [c, d, e, f] = id.to_be_bytes();
                header.copy_from_slice(&[UDP, 0, a, b, c, d, e, f]);
                Some(())
            }
        }
    }
}

/// Where the header behind Ethernet's and its tags is, and of what kind it is.
fn behind_tags(headers: &[u8]) -> Option<(usize, u16)> {
    let mut at = 12;
    for _ in 0..=TAGS.len() {
        let kind = get16(headers, at)?;
        if !TAGS.contains(&kind) {
            return Some((at + 2, kind));
        }
        at += TAG;
    }
    None
}

/// The checksum of a whole datagram of UDP.
fn datagram_sum(headers: &[u8], ip: usize, version: Version, udp: usize, frame: &impl Frame) -> Option<u16> {
    let mut at = udp as u32;
    let mut total = pseudo_header(headers, ip, version, UDP, frame.size() - at)?;
    // An even number, so that every part begins with the upper byte of a word.
    let mut part = [0; 512];
    while at < frame.size() {
        let part = part.get_mut(..(frame.size() - at).min(512) as usize)?;
        frame.read(at, part)?;
        if at == udp as u32 {
            put16(part, UDP_SUM, 0)?;
        }
        total = sum(total, part);
        at += part.len() as u32;
    }
    Some(finish(total))
}

/// The sum of what a checksum covers of IP: addresses, protocol, and the length of what IP carries.
fn pseudo_header(bytes: &[u8], ip: usize, version: Version, protocol: u8, len: u32) -> Option<u16> {
    let addresses = match version {
        Version::V4 => bytes.get(ip + 12..ip + 20)?,
        Version::V6 => bytes.get(ip + 8..ip + 40)?,
    };
    Some(sum(fold(u32::from(protocol) + len), addresses))
}

/// Adds big-endian words in ones' complement; an odd last byte is the upper one of its word. The bytes are at most those of a
/// frame on the wire, so their sum has room in 32 bits.
fn sum(start: u16, bytes: &[u8]) -> u16 {
    let mut words = bytes.chunks_exact(2);
    let total = words.by_ref().fold(u32::from(start), |sum, word| match word {
        [a, b] => sum + u32::from(u16::from_be_bytes([*a, *b])),
        _ => sum,
    });
    let odd = words.remainder().first().map_or(0, |byte| u32::from(*byte) << 8);
    fold(total + odd)
}

/// Adds what is above 16 bits to what is below, until nothing is.
const fn fold(sum: u32) -> u16 {
    let sum = (sum >> 16) + (sum & 0xffff);
    ((sum >> 16) + (sum & 0xffff)) as u16
}

/// The checksum that TCP and UDP have. Of the two zeros it is the one by which no datagram says that it has no checksum.
const fn finish(sum: u16) -> u16 {
    match !sum {
        0 => 0xffff,
        sum => sum,
    }
}

fn get16(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn put16(bytes: &mut [u8], at: usize, value: u16) -> Option<()> {
    bytes.get_mut(at..at + 2)?.copy_from_slice(&value.to_be_bytes());
    Some(())
}
