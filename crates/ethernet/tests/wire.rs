//! Frames as guests send them, and as they are on the wire. The checksums were computed by another program.

use ethernet::{Frame, LONGEST, Refused, Wire};
use proptest::prelude::*;
use proto::net::Offload;

struct Bytes(Vec<u8>);

impl Frame for Bytes {
    fn size(&self) -> u32 {
        self.0.len() as u32
    }
    fn read(&self, at: u32, into: &mut [u8]) -> Option<()> {
        into.copy_from_slice(self.0.get(at as usize..)?.get(..into.len())?);
        Some(())
    }
}

const MACS: [u8; 12] = [2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
const V4: [[u8; 4]; 2] = [[10, 0, 0, 1], [192, 168, 10, 1]];
const V6: [[u8; 16]; 2] =
    [[0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1], [0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2]];
const ID: u32 = 0x0102_0304;

fn data(len: usize) -> Vec<u8> {
    (0..len).map(|n| (n * 7 + 3) as u8).collect()
}

/// A frame of IPv4, of which length and checksum are left out, as guests do.
fn v4(id: u16, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let [a, b] = id.to_be_bytes();
    let header = [0x45, 0, 0, 0, a, b, 0x40, 0, 64, protocol, 0, 0];
    [&MACS[..], &[8, 0], &header, &V4.concat(), payload].concat()
}

fn v6(protocol: u8, payload: &[u8]) -> Vec<u8> {
    [&MACS[..], &[0x86, 0xdd], &[0x60, 0, 0, 0, 0, 0, protocol, 64], &V6.concat(), payload].concat()
}

/// A segment of 2500 bytes, with what `flags` says.
fn tcp(flags: u8) -> Vec<u8> {
    let header = [0x9c, 0x40, 0, 21, 0xff, 0xff, 0xfe, 0, 1, 2, 3, 4, 0x50, flags, 1, 0xf5, 0xde, 0xad, 0, 0];
    [&header[..], &data(2500)].concat()
}

fn udp(bytes: &[u8]) -> Vec<u8> {
    let [a, b] = (8 + bytes.len() as u16).to_be_bytes();
    [&[0x13, 0x88, 0x17, 0x70, a, b, 0xde, 0xad], bytes].concat()
}

/// The header of a frame whose segments have `size` bytes, with the place of its checksum.
fn header(kind: u8, size: u16, start: u16, offset: u16) -> [u8; 12] {
    let [[a, b], [c, d], [e, f]] = [size, start, offset].map(u16::to_le_bytes);
    [1, kind, 0, 0, a, b, c, d, e, f, 0, 0]
}

fn pieces(header: [u8; 12], frame: &[u8]) -> Result<Vec<Vec<u8>>, Refused> {
    let frame = Bytes(frame.to_vec());
    let offload = Offload::parse(header, frame.size()).expect("the header has a meaning");
    let mut wire = Wire::new(offload, &frame, ID)?;
    let mut all = Vec::new();
    let mut piece = [0; LONGEST];
    while let Some(len) = wire.next(&frame, &mut piece) {
        all.push(piece[..len].to_vec());
    }
    assert!(wire.is_done());
    Ok(all)
}

fn word(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

#[test]
fn a_frame_of_which_nothing_is_left_to_do_is_sent_as_it_is() {
    let frame = v4(7, 1, &data(100));
    assert_eq!(pieces([0; 12], &frame), Ok(vec![frame]));
    let longest = v4(7, 1, &data(1480));
    assert_eq!(longest.len(), 1514);
    assert_eq!(pieces([0; 12], &longest), Ok(vec![longest]));
    assert_eq!(pieces([0; 12], &v4(7, 1, &data(1481))), Err(Refused::TooLong));
}

#[test]
fn a_tag_adds_to_the_longest_frame() {
    let tagged = |len| [&MACS[..], &[0x81, 0, 0, 5, 8, 0], &data(len)].concat();
    assert_eq!(pieces([0; 12], &tagged(1500)).map(|pieces| pieces[0].len()), Ok(1518));
    assert_eq!(pieces([0; 12], &tagged(1501)), Err(Refused::TooLong));
}

#[test]
fn a_checksum_that_was_begun_is_completed() {
    // The sender has put the sum of the pseudo header where the checksum belongs.
    let mut datagram = udp(b"hello");
    datagram[2..4].copy_from_slice(&[0, 69]);
    datagram[6..8].copy_from_slice(&[0xd4, 0xc8]);
    let sent = pieces(header(0, 0, 34, 6), &v4(7, 17, &datagram)).unwrap();
    assert_eq!(word(&sent[0], 40), 0xd38a);
    datagram[6..8].copy_from_slice(&[0xd3, 0x8a]);
    assert_eq!(sent, [v4(7, 17, &datagram)]);
}

#[test]
fn a_checksum_of_udp_is_never_the_zero_that_says_there_is_none() {
    let mut datagram = udp(&[0, 0]);
    datagram[6..8].copy_from_slice(&[0, 0]);
    let rest = datagram.chunks(2).fold(0u32, |sum, word| sum + u32::from(word[0]) * 256 + u32::from(word[1]));
    datagram[8..10].copy_from_slice(&(0xffff - rest as u16).to_be_bytes());
    let sent = pieces(header(0, 0, 34, 6), &v4(7, 17, &datagram)).unwrap();
    assert_eq!(word(&sent[0], 40), 0xffff);
}

#[test]
fn a_segment_of_tcp_in_ipv4_is_split() {
    // With CWR, FIN, PSH and ACK; the numbers of its bytes and its identification wrap around.
    let sent = pieces(header(0x81, 1000, 34, 16), &v4(0xffff, 6, &tcp(0x99))).unwrap();
    assert_eq!(sent.iter().map(Vec::len).collect::<Vec<_>>(), [1054, 1054, 554]);
    for (n, (piece, [ip, sum])) in sent.iter().zip([[0x623e, 0x1fac], [0x623e, 0x3963], [0x6431, 0xc0c5]]).enumerate() {
        assert_eq!(usize::from(word(piece, 16)), piece.len() - 14, "the length of {n}");
        assert_eq!(word(piece, 18), 0xffff_u16.wrapping_add(n as u16), "the identification of {n}");
        assert_eq!([word(piece, 24), word(piece, 50)], [ip, sum], "the checksums of {n}");
        let number = u32::from_be_bytes(piece[38..42].try_into().unwrap());
        assert_eq!(number, 0xffff_fe00_u32.wrapping_add(n as u32 * 1000));
        assert_eq!(piece[54..], data(2500)[n * 1000..][..piece.len() - 54]);
    }
    assert_eq!(sent.iter().map(|piece| piece[47]).collect::<Vec<_>>(), [0x90, 0x10, 0x19]);
}

#[test]
fn a_segment_of_tcp_in_ipv6_is_split() {
    let sent = pieces(header(4, 1000, 54, 16), &v6(6, &tcp(0x18))).unwrap();
    let sums: Vec<u16> = sent.iter().map(|piece| word(piece, 70)).collect();
    assert_eq!(sums, [0xfad1, 0x1409, 0x9b6c]);
    for piece in &sent {
        assert_eq!(usize::from(word(piece, 18)), piece.len() - 54);
    }
}

#[test]
fn a_tagged_segment_is_split_as_others_are() {
    let plain = v4(1, 6, &tcp(0x18));
    let tagged = [&plain[..12], &[0x81, 0, 0, 5], &plain[12..]].concat();
    let split = pieces(header(1, 1460, 34, 16), &plain).unwrap();
    let tagged = pieces(header(1, 1460, 38, 16), &tagged).unwrap();
    assert_eq!(split[0].len(), 1514);
    for (tagged, plain) in tagged.iter().zip(split) {
        assert_eq!([&tagged[..12], &tagged[16..]].concat(), plain);
    }
}

#[test]
fn a_datagram_in_ipv4_becomes_fragments() {
    let sent = pieces(header(3, 1480, 34, 6), &v4(0x1234, 17, &udp(&data(2500)))).unwrap();
    assert_eq!(sent.iter().map(Vec::len).collect::<Vec<_>>(), [1514, 1062]);
    assert_eq!(sent.iter().map(|piece| word(piece, 20)).collect::<Vec<_>>(), [0x2000, 185], "more, and offsets");
    assert_eq!(sent.iter().map(|piece| word(piece, 24)).collect::<Vec<_>>(), [0x6e33, 0x8f3e]);
    assert!(sent.iter().all(|piece| word(piece, 18) == 0x1234));
    assert_eq!(word(&sent[0], 40), 0x6c00, "the datagram's checksum");
    assert_eq!([&sent[0][42..], &sent[1][34..]].concat(), data(2500));
}

#[test]
fn a_datagram_in_ipv6_becomes_fragments() {
    let sent = pieces(header(3, 1448, 54, 6), &v6(17, &udp(&data(2500)))).unwrap();
    assert_eq!(sent.iter().map(Vec::len).collect::<Vec<_>>(), [14 + 40 + 8 + 1448, 14 + 40 + 8 + 1060]);
    assert_eq!(sent[0][54..62], [17, 0, 0, 1, 1, 2, 3, 4]);
    assert_eq!(sent[1][54..62], [17, 0, 5, 0xa8, 1, 2, 3, 4]);
    assert!(sent.iter().all(|piece| piece[20] == 44 && usize::from(word(piece, 18)) == piece.len() - 54));
    assert_eq!(word(&sent[0], 68), 0x46a6);
    assert_eq!([&sent[0][70..], &sent[1][62..]].concat(), data(2500));
}

#[test]
fn what_is_not_what_its_header_says_is_refused() {
    let good = v4(1, 6, &tcp(0x10));
    let with = |at: usize, byte: u8| {
        let mut frame = good.clone();
        frame[at] = byte;
        frame
    };
    let tso = header(1, 1000, 34, 16);
    for (what, header, frame) in [
        ("another kind", tso, with(12, 9)),
        ("a fragment", tso, with(21, 1)),
        ("a short header of IP", tso, with(14, 0x44)),
        ("a short header of TCP", tso, with(46, 0x40)),
        ("another protocol", tso, with(23, 17)),
        ("a segment of IPv6", header(4, 1000, 34, 16), good.clone()),
        ("a checksum elsewhere", header(1, 1000, 35, 16), good.clone()),
        ("another checksum", header(1, 1000, 34, 6), good.clone()),
        ("a datagram of another length", header(3, 1480, 34, 6), v4(1, 17, &udp(&data(100))[..90])),
        ("fragments of nothing", header(3, 7, 34, 6), v4(1, 17, &udp(&data(100)))),
        ("headers that are not there", header(1, 1000, 34, 16), good[..53].to_vec()),
    ] {
        assert_eq!(pieces(header, &frame), Err(Refused::Malformed), "{what}");
    }
    assert_eq!(pieces(header(1, 1461, 34, 16), &good), Err(Refused::TooLong));
    assert_eq!(pieces(header(1, 1460, 34, 16), &good).map(|pieces| pieces.len()), Ok(2));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2000) })]

    #[test]
    fn no_frame_is_more_than_it_was(
        kind in prop::sample::select(vec![0u8, 1, 3, 4, 0x81, 0x84]), size in 1u16..2000, start in 0u16..80, offset in 0u16..20,
        real in any::<bool>(), len in 0usize..3000, noise in prop::collection::vec((0usize..80, any::<u8>()), 0..4),
    ) {
        let mut frame = match kind & 0x7f {
            4 => v6(6, &tcp(0x18)),
            3 => v4(9, 17, &udp(&data(2500))),
            _ => v4(9, 6, &tcp(0x18)),
        };
        frame.truncate(len.max(14));
        for (at, byte) in noise {
            if let Some(place) = frame.get_mut(at) {
                *place = byte;
            }
        }
        let place = match kind & 0x7f { 4 => (54, 16), 3 => (34, 6), _ => (34, 16) };
        let (start, offset) = if real { place } else { (start, offset) };
        let described = header(kind, size, start, offset);
        if Offload::parse(described, frame.len() as u32).is_some() && let Ok(sent) = pieces(described, &frame) {
            prop_assert!(sent.iter().all(|piece| piece.len() <= LONGEST && piece[..12] == frame[..12]));
            // Every piece has a byte of data, or is the only one.
            prop_assert!(sent.len() == 1 || sent.len() <= frame.len());
        }
    }
}
