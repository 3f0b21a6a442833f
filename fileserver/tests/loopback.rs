//! The real client against the real server, through messages.

use layout::config::{self, Name};
use mmio::{SharedBuffer, Span, Window};
use proptest::prelude::*;
use proto::file::{Client, Config, Error, File, FileClient, FileEntry, dispatch};
use proto::loopback::Loopback;
use proto::wire::{ClientId, Message, Transport};

const KERNEL: &[u8] = b"a kernel, somewhat longer than the buffer that it has to go through";
const SECRET: &[u8] = b"another guest's disk";
const BUFFER: u64 = 16;

/// Offsets in the test's memory, in place of addresses.
struct Board {
    memory: [Window; 3],
    server: fileserver::Server,
}

impl Board {
    /// Client 0 may open `kernel`, not `secret`.
    fn new() -> Self {
        let memory = [KERNEL.to_vec(), SECRET.to_vec(), vec![0; BUFFER as usize]].map(|m| Window::leak(m.leak()));
        let window = |at: usize| config::Window { at: at as u64, len: memory[at].len() };
        let entry = |name: &str, at| FileEntry { name: name.try_into().unwrap(), data: window(at) };
        let client = FileClient { name: Name::new(), buffer: window(2), may_open: 0b01 };
        let config = Config {
            files: [entry("kernel", 0), entry("secret", 1)].into_iter().collect(),
            clients: [client].into_iter().collect(),
        };
        Self { memory, server: fileserver::Server::new(&config, |w| memory[w.at as usize]) }
    }

    fn client(&mut self, id: u64) -> Client<impl Transport> {
        Client(Loopback::new(move |m: &mut Message| dispatch(&mut self.server, ClientId(id), m)))
    }
}

#[test]
fn an_image_arrives_byte_for_byte() {
    let mut board = Board::new();
    let buffer = SharedBuffer::new(board.memory[2]);
    let client = board.client(0);
    let file = client.open("kernel").unwrap();
    assert_eq!(file.size, KERNEL.len() as u64);
    let target = Window::leak(vec![0; 100].leak());
    client.copy(file, 2, file.size - 2, &buffer, &target, 10).unwrap();
    let mut got = vec![0; KERNEL.len() - 2];
    target.read(10, &mut got).unwrap();
    assert_eq!(got, &KERNEL[2..]);
    assert_eq!(client.copy(file, 3, file.size, &buffer, &target, 0), Err(Error::Short));
}

#[test]
fn an_unknown_name_and_one_not_granted_look_the_same() {
    let mut board = Board::new();
    let client = board.client(0);
    assert_eq!(client.open("nothing"), Err(Error::NotFound));
    assert_eq!(client.open("secret"), Err(Error::NotFound));
    assert_eq!(client.open(&"x".repeat(200)), Err(Error::NotFound));
}

#[test]
fn a_read_of_a_file_not_granted_is_refused() {
    let mut board = Board::new();
    let client = board.client(0);
    for id in [1, 2, 63, 64, 255] {
        assert_eq!(client.read(File { id, size: 1 }, 0, Span { start: 0, len: 1 }), Err(Error::NotFound));
    }
}

#[test]
fn a_span_outside_the_buffer_is_refused() {
    let mut board = Board::new();
    let client = board.client(0);
    let file = client.open("kernel").unwrap();
    for (start, len) in [(0, 17), (16, 1), (u32::MAX, u32::MAX), (17, 0)] {
        assert_eq!(client.read(file, 0, Span { start, len }), Err(Error::OutOfRange));
    }
}

#[test]
fn a_read_stops_at_the_end_of_the_image() {
    let mut board = Board::new();
    let client = board.client(0);
    let file = client.open("kernel").unwrap();
    let all = Span { start: 0, len: BUFFER as u32 };
    assert_eq!(client.read(file, file.size - 3, all), Ok(3));
    assert_eq!(client.read(file, file.size, all), Ok(0));
    assert_eq!(client.read(file, u64::MAX, all), Ok(0));
}

#[test]
fn a_stranger_gets_nothing() {
    let mut board = Board::new();
    assert_eq!(board.client(1).open("kernel"), Err(Error::NotFound));
}

proptest! {
    #[test]
    fn any_message_is_answered_and_no_other_image_is_revealed(
        label in prop_oneof![Just(0x401u64), Just(0x402), any::<u64>()],
        words in prop::collection::vec(any::<u64>(), 0..=120),
    ) {
        let mut board = Board::new();
        let mut message = Message::EMPTY;
        message.receive(label, words.len()).copy_from_slice(&words);
        board.client(0).0.exchange(&mut message);
        let mut seen = [0; BUFFER as usize];
        board.memory[2].read(0, &mut seen).unwrap();
        prop_assert!(!SECRET.windows(4).any(|s| seen.windows(4).any(|w| w == s)));
    }
}
