//! The real client and real rings against the real server, on a simulated UART.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use mmio::{Consumer, Producer, Ring, Window};
use proptest::prelude::*;
use proto::loopback::Loopback;
use proto::serial::{Client, RingKind, dispatch};
use proto::wire::{ClientId, Message, Transport};
use serial_server::{Hardware, Reception, Server, Stream};

/// The transmitter holds 16 bytes until `step` sends them; the receiver drops bytes when its 16 are full.
#[derive(Default)]
struct Line {
    fifo: Vec<u8>,
    out: Vec<u8>,
    typed: VecDeque<u8>,
    refused: bool,
    more: u32,
    now: u64,
    alarm: Option<u64>,
    signals: Vec<usize>,
}

#[derive(Clone, Default)]
struct Machine(Rc<RefCell<Line>>);

impl Hardware for Machine {
    fn receive(&mut self) -> Option<u8> {
        self.0.borrow_mut().typed.pop_front()
    }
    fn room(&mut self) -> usize {
        if self.0.borrow().fifo.is_empty() { 16 } else { 0 }
    }
    fn send(&mut self, bytes: &[u8]) {
        let mut line = self.0.borrow_mut();
        line.fifo.extend(bytes);
        assert!(line.fifo.len() <= 16, "the FIFO ran over");
    }
    fn unsent(&mut self) -> usize {
        self.0.borrow().fifo.len()
    }
    fn accept(&mut self, reception: Reception) {
        self.0.borrow_mut().refused = reception == Reception::Off;
    }
    fn acknowledge(&mut self) -> bool {
        let mut line = self.0.borrow_mut();
        line.more = line.more.saturating_sub(1);
        line.more > 0
    }
    fn overruns(&self) -> u64 {
        0
    }
    fn now(&self) -> u64 {
        self.0.borrow().now
    }
    fn alarm(&mut self, at: u64) {
        self.0.borrow_mut().alarm = Some(at);
    }
    fn signal(&mut self, stream: usize) {
        self.0.borrow_mut().signals.push(stream);
    }
}

struct Board {
    machine: Machine,
    server: Server<Machine>,
    log: Producer,
    console: Producer,
    typed: Consumer,
}

impl Board {
    /// Stream 0 is a log, stream 1 a console whose rings hold `size` bytes.
    fn new(size: u64) -> Self {
        let ring = |size: u64| Ring::new(Window::leak(vec![0; size as usize + 65].leak())).unwrap();
        let (log, console, typed) = (ring(400), ring(size), ring(size));
        let stream = |name: &str, kind, output: Ring, input: Option<Ring>| Stream {
            name: name.try_into().unwrap(),
            kind,
            output: output.consumer(),
            input: input.map(Ring::producer),
        };
        let streams = [stream("vmm", RingKind::Log, log, None), stream("vm0", RingKind::Console, console, Some(typed))];
        let machine = Machine::default();
        let mut server = Server::new(machine.clone(), streams);
        server.on_doorbell();
        Self { machine, server, log: log.producer(), console: console.producer(), typed: typed.consumer() }
    }

    /// Lets the time of a FIFO pass: the transmitter empties and interrupts.
    fn step(&mut self) {
        let mut line = self.machine.0.borrow_mut();
        let sent = std::mem::take(&mut line.fifo);
        line.out.extend(sent);
        line.now += 10;
        drop(line);
        self.server.on_interrupt();
    }

    fn run(&mut self) {
        self.step();
        while !self.machine.0.borrow().fifo.is_empty() {
            self.step();
        }
    }

    fn out(&mut self) -> String {
        String::from_utf8(std::mem::take(&mut self.machine.0.borrow_mut().out)).unwrap()
    }

    fn client(&mut self) -> Client<impl Transport> {
        Client(Loopback::new(|m: &mut Message| dispatch(&mut self.server, ClientId(0), m)))
    }
}

#[test]
fn a_parked_server_is_signalled_once_and_prints() {
    let mut board = Board::new(64);
    board.log.push(b"hello\n");
    assert!(board.log.must_signal());
    board.server.on_doorbell();
    board.log.push(b"again\n");
    assert!(!board.log.must_signal(), "it has not gone back to sleep");
    board.run();
    assert_eq!(board.out(), "vmm: hello\r\nvmm: again\r\n");
    board.log.push(b"x\n");
    assert!(board.log.must_signal());
}

#[test]
fn output_larger_than_the_ring_arrives_whole_and_the_console_is_signalled() {
    let mut board = Board::new(64);
    let text: Vec<u8> = (0..10_000).map(|n| b'a' + (n % 26) as u8).collect();
    let mut rest = &text[..];
    while !rest.is_empty() {
        let taken = board.console.push(rest);
        rest = &rest[taken..];
        if board.console.must_signal() {
            board.server.on_doorbell();
        }
        if taken == 0 && !board.console.park() {
            board.machine.0.borrow_mut().signals.clear();
            board.step();
            assert_eq!(board.machine.0.borrow().signals, [1], "room again");
        }
    }
    board.run();
    assert_eq!(board.out().as_bytes(), text);
}

#[test]
fn typed_bytes_reach_the_console_and_none_is_lost_when_it_is_slow() {
    let mut board = Board::new(64);
    let text: Vec<u8> = (0..1000).map(|n| n as u8).collect();
    let (mut left, mut got) = (&text[..], Vec::<u8>::new());
    assert!(!board.typed.park());
    while got.len() < text.len() {
        // The sender obeys RTS.
        if !board.machine.0.borrow().refused && !left.is_empty() {
            let (now, later) = left.split_at(left.len().min(16));
            board.machine.0.borrow_mut().typed.extend(now);
            left = later;
        }
        board.server.on_interrupt();
        let mut some = [0; 7];
        let count = board.typed.pop(&mut some);
        got.extend(&some[..count]);
        if board.typed.must_signal() {
            board.server.on_doorbell();
        }
    }
    assert_eq!(got, text);
    assert!(board.machine.0.borrow().signals.contains(&1));
    assert_eq!(board.client().stats().unwrap().lost, 0);
}

#[test]
fn a_log_comes_between_lines_or_after_silence() {
    let mut board = Board::new(64);
    board.console.push(b"/ # ");
    board.run();
    board.log.push(b"note\n");
    board.run();
    assert_eq!(board.out(), "/ # ");
    board.machine.0.borrow_mut().now += 3_000_000;
    board.server.on_doorbell();
    board.run();
    assert_eq!(board.out(), "\r\nvmm: note\r\n");
}

#[test]
fn a_line_that_waits_for_silence_is_printed_by_the_alarm() {
    let mut board = Board::new(64);
    board.console.push(b"guest# ");
    board.server.on_doorbell();
    board.run();
    board.log.push(b"hello\n");
    board.server.on_doorbell();
    assert_eq!(board.out(), "guest# ");
    let alarm = board.machine.0.borrow().alarm.expect("no alarm is set");
    board.machine.0.borrow_mut().now = alarm;
    board.machine.0.borrow_mut().alarm = None;
    board.server.on_alarm();
    board.run();
    assert_eq!(board.out(), "\r\nvmm: hello\r\n");
    assert_eq!(board.machine.0.borrow().alarm, None, "nothing waits any more");
}

#[test]
fn flush_counts_down_to_zero() {
    let mut board = Board::new(64);
    board.console.push(b"0123456789012345678901234567890123456789");
    board.log.push(b"bye\n");
    let mut last = u32::MAX;
    loop {
        let left = board.client().flush().unwrap();
        assert!(left < last);
        if left == 0 {
            break;
        }
        last = left;
        board.step();
    }
    assert_eq!(board.out(), "vmm: bye\r\n0123456789012345678901234567890123456789");
}

#[test]
fn an_interrupt_is_served_until_none_is_pending() {
    let mut board = Board::new(64);
    board.machine.0.borrow_mut().more = 3;
    board.server.on_interrupt();
    assert_eq!(board.machine.0.borrow().more, 0);
    board.machine.0.borrow_mut().more = u32::MAX;
    board.server.on_interrupt();
}

#[test]
fn without_a_console_input_is_dropped_and_counted() {
    let machine = Machine::default();
    let mut server = Server::new(machine.clone(), []);
    machine.0.borrow_mut().typed.extend(b"abc");
    server.on_interrupt();
    let stats = Client(Loopback::new(|m: &mut Message| dispatch(&mut server, ClientId(0), m))).stats().unwrap();
    assert_eq!((stats.received, stats.lost), (3, 3));
}

proptest! {
    #[test]
    fn any_message_is_answered(label in 0x100u64..0x104, words in prop::collection::vec(any::<u64>(), 0..6)) {
        let mut board = Board::new(64);
        let mut message = Message::EMPTY;
        message.receive(label, words.len()).copy_from_slice(&words);
        board.client().0.exchange(&mut message);
    }
}
