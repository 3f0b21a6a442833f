//! The real client and real rings against the real server, on a simulated UART.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use layout::limits::MAX_GUESTS;
use mmio::{Consumer, Producer, Ring, Window};
use proptest::prelude::*;
use proto::lifecycle::{Answer, Manager, State, Verb};
use proto::loopback::Loopback;
use proto::serial::{Client, RingKind, dispatch};
use proto::wire::{ClientId, Message, Transport};
use serial_server::{Hardware, Managed, Reception, Server, Settings, Stream};

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
    asked: Vec<usize>,
    dumps: bool,
}

const SETTINGS: Settings = Settings { hertz: 50_000_000, colours: false };

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
    fn signal_vm(&mut self, managed: usize) {
        self.0.borrow_mut().asked.push(managed);
    }
    fn dump_scheduler(&mut self) -> bool {
        let mut line = self.0.borrow_mut();
        // The kernel waits until the transmitter is empty.
        let sent = std::mem::take(&mut line.fifo);
        line.out.extend(sent);
        line.out.extend(b"(threads)\r\n");
        line.dumps
    }
}

/// Where answers to commands wait.
fn answers() -> Ring {
    Ring::new(Window::leak(vec![0; 4096].leak())).unwrap()
}

/// One console among logs, as most systems are.
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
        let mut server = Server::new(machine.clone(), streams, [], answers(), SETTINGS);
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
    let mut server = Server::new(machine.clone(), [], [], answers(), SETTINGS);
    machine.0.borrow_mut().typed.extend(b"abc");
    server.on_interrupt();
    let stats = Client(Loopback::new(|m: &mut Message| dispatch(&mut server, ClientId(0), m))).stats().unwrap();
    assert_eq!((stats.received, stats.lost), (3, 3));
}

/// A system with several consoles. Stream `n` is the console of the VM `vmN`, and its rings hold 64 bytes.
struct Shared<const N: usize> {
    machine: Machine,
    server: Server<Machine>,
    consoles: [Producer; N],
    typed: [Consumer; N],
}

impl<const N: usize> Shared<N> {
    fn new() -> Self {
        Self::managing([])
    }

    /// With VMs that the console manages.
    fn managing(managed: impl IntoIterator<Item = Managed>) -> Self {
        let ring = || Ring::new(Window::leak(vec![0; 64 + 65].leak())).unwrap();
        let rings: [(Ring, Ring); N] = std::array::from_fn(|_| (ring(), ring()));
        let stream = |(n, (output, input)): (usize, &(Ring, Ring))| Stream {
            name: format!("vm{n}").as_str().try_into().unwrap(),
            kind: RingKind::Console,
            output: output.consumer(),
            input: Some(input.producer()),
        };
        let machine = Machine::default();
        let streams = rings.iter().enumerate().map(stream);
        let mut server = Server::new(machine.clone(), streams, managed, answers(), SETTINGS);
        server.on_doorbell();
        let (consoles, typed) = (rings.map(|ring| ring.0.producer()), rings.map(|ring| ring.1.consumer()));
        Self { machine, server, consoles, typed }
    }

    /// Lets time pass, in ticks: the transmitter empties at its pace, alarms ring, and each console prints what is left of
    /// its text.
    fn run(&mut self, ticks: u64, texts: &mut [&[u8]]) -> String {
        let end = self.machine.0.borrow().now + ticks;
        while self.machine.0.borrow().now < end {
            for (console, text) in self.consoles.iter_mut().zip(&mut *texts) {
                let taken = console.push(text);
                *text = &text[taken..];
                if console.must_signal() {
                    self.server.on_doorbell();
                }
            }
            let mut line = self.machine.0.borrow_mut();
            line.now += 50_000;
            let sent = std::mem::take(&mut line.fifo);
            line.out.extend(&sent);
            let now = line.now;
            let rings = line.alarm.take_if(|at| *at <= now).is_some();
            drop(line);
            if rings {
                self.server.on_alarm();
            }
            if !sent.is_empty() {
                self.server.on_interrupt();
            }
        }
        String::from_utf8(std::mem::take(&mut self.machine.0.borrow_mut().out)).unwrap()
    }

    /// Types, and returns what is printed in a second.
    fn type_in(&mut self, text: &str) -> String {
        self.machine.0.borrow_mut().typed.extend(text.bytes());
        self.server.on_interrupt();
        self.run(SETTINGS.hertz, &mut [])
    }

    /// What has been typed at a console.
    fn got(&mut self, n: usize) -> String {
        let mut bytes = [0; 100];
        let count = self.typed[n].pop(&mut bytes);
        if self.typed[n].must_signal() {
            self.server.on_doorbell();
        }
        String::from_utf8(bytes[..count].to_vec()).unwrap()
    }

    /// The word beside what has been typed.
    fn word(&self, n: usize) -> u32 {
        self.typed[n].word()
    }
}

#[test]
fn eight_consoles_that_print_at_once_have_all_lines_whole_and_once() {
    let mut board = Shared::<8>::new();
    let texts: [String; 8] = std::array::from_fn(|n| (0..200).map(|line| format!("{n} says {line}\r\n")).collect());
    let mut left: Vec<&[u8]> = texts.iter().map(String::as_bytes).collect();
    let out = board.run(4 * SETTINGS.hertz, &mut left);
    assert!(left.iter().all(|left| left.is_empty()));
    for (n, text) in texts.iter().enumerate() {
        let said: Vec<&str> = out.lines().filter_map(|line| line.strip_prefix(&format!("vm{n}: "))).collect();
        assert_eq!(said, text.lines().collect::<Vec<_>>());
    }
    assert_eq!(out.lines().count(), 8 * 200);
}

#[test]
fn the_input_moves_by_number_and_by_name() {
    let mut board = Shared::<3>::new();
    assert_eq!(board.type_in("a\r"), "");
    assert_eq!(board.type_in("@1b\r"), "serial-server: input goes to vm1\r\n");
    assert_eq!(board.type_in("@vm2\rc"), "serial-server: @vm2\r\nserial-server: input goes to vm2\r\n");
    assert_eq!(board.type_in("@0\r@@0\r"), "");
    assert_eq!([0, 1, 2].map(|n| board.got(n)), ["a\r", "b\r", "c@0\r@0\r"]);
    assert_eq!(
        board.type_in("@m 0 2\r!"),
        "serial-server: @m 0 2\r\nserial-server: input goes to vm0, vm2; lines that are the same are printed once\r\n"
    );
    assert_eq!([0, 1, 2].map(|n| board.got(n)), ["!", "", "!"]);
}

#[test]
fn a_wrong_command_says_how_to_get_help() {
    let mut board = Shared::<2>::new();
    assert_eq!(board.type_in("@7"), "serial-server: there is no VM 7: type @? for help\r\n");
    let said = board.type_in("@x\r");
    assert_eq!(said, "serial-server: @x\r\nserial-server: invalid command @x: type @? for help\r\n");
    let help = board.type_in("@?");
    for part in ["@NAME", "@m", "@d", "@w", "@s", "@@", "0  vm0, which gets the input\r\n", "1  vm1\r\n"] {
        assert!(help.contains(part), "{help}");
    }
    assert!(help.lines().all(|line| line.starts_with("serial-server: ")), "{help}");
    assert_eq!(board.got(0), "");
}

#[test]
fn the_windows_size_is_the_word_of_all_consoles() {
    let mut board = Shared::<2>::new();
    let said = board.type_in("@w 50 132\r");
    assert!(said.ends_with("serial-server: second consoles have 50 rows and 132 columns\r\n"), "{said}");
    for n in 0..2 {
        assert_eq!(board.word(n), 50 << 16 | 132);
        assert_eq!(board.got(n), "");
    }
}

#[test]
fn help_lists_as_many_vms_as_there_may_be() {
    let mut board = Shared::<MAX_GUESTS>::new();
    board.type_in("@m\r");
    let help = board.type_in("@?");
    for n in 0..MAX_GUESTS {
        assert!(help.contains(&format!("  {n}  vm{n}, which gets the input\r\n")), "{n}: {help}");
    }
}

#[test]
fn the_kernel_prints_its_threads_between_two_lines() {
    let mut board = Shared::<2>::new();
    board.machine.0.borrow_mut().dumps = true;
    board.machine.0.borrow_mut().typed.extend(b"@s\r");
    board.server.on_interrupt();
    let flood = b"noise\r\n".repeat(50);
    let out = board.run(SETTINGS.hertz, &mut [b"", &flood]);
    let strange =
        |line: &&str| !["vm1: noise", "serial-server: @s", "serial-server: the kernel's threads:"].contains(line);
    assert_eq!(out.lines().filter(strange).collect::<Vec<_>>(), ["(threads)"], "{out}");
    board.machine.0.borrow_mut().dumps = false;
    assert!(board.type_in("@s\r").contains("serial-server: this kernel does not list them"));
}

#[test]
fn the_debug_mode_shows_control_characters_and_typed_bytes() {
    let mut board = Shared::<2>::new();
    assert!(board.type_in("@d\r").ends_with(" debug mode 1, control characters are visible\r\n"));
    assert!(board.run(SETTINGS.hertz, &mut [b"\x1b[m\r\n"]).ends_with("vm0: ^[[m\r\n"));
    board.type_in("@d\r");
    assert_eq!(board.type_in("k"), "serial-server: typed 0x6b\r\n");
    assert!(board.type_in("\r@d\r").ends_with(" debug mode 0\r\n"));
}

#[test]
fn what_is_typed_at_a_console_that_floods_arrives() {
    let mut board = Shared::<2>::new();
    let flood = b"noise\r\n".repeat(1000);
    let mut left: [&[u8]; 2] = [&flood, &flood];
    board.run(SETTINGS.hertz / 4, &mut left);
    board.machine.0.borrow_mut().typed.extend(b"ls\r@1ls\r");
    board.run(SETTINGS.hertz / 4, &mut left);
    assert_eq!([0, 1].map(|n| board.got(n)), ["ls\r", "ls\r"]);
    assert!(left.iter().all(|left| !left.is_empty()), "they still flood");
}

#[test]
fn a_console_that_takes_no_input_does_not_keep_the_user_from_the_others() {
    let mut board = Shared::<2>::new();
    let paste = "p".repeat(100);
    assert_eq!(board.type_in(&paste), "");
    assert!(board.machine.0.borrow().refused, "the sender waits");
    assert_eq!(board.got(0), "p".repeat(64));
    assert_eq!(board.type_in(""), "", "it has taken some");
    assert_eq!(board.got(0), "p".repeat(36), "nothing is lost");
    board.type_in(&format!("{paste}\r@1x"));
    let said = board.run(5 * SETTINGS.hertz, &mut []);
    assert!(said.contains("serial-server: vm0 has not taken its input for a while"), "{said}");
    assert!(said.contains("serial-server: input goes to vm1"), "{said}");
    assert_eq!([0, 1].map(|n| board.got(n)), ["p".repeat(64), "x".into()]);
    board.type_in("\r@0y");
    assert_eq!(board.got(0), "y");
}

#[test]
fn with_a_sole_console_an_at_sign_is_the_guests() {
    let mut board = Board::new(64);
    board.machine.0.borrow_mut().typed.extend(b"@1\r@?");
    board.server.on_interrupt();
    let mut typed = [0; 10];
    assert_eq!((board.typed.pop(&mut typed), &typed[..5]), (5, &b"@1\r@?"[..]));
    board.run();
    assert_eq!(board.out(), "");
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

/// A VM that the console manages, for the console and for the VM's own process.
fn managed(name: &str, may: u8) -> (Managed, Manager) {
    let page = Window::leak(vec![0; 4096].leak());
    (Managed { name: name.try_into().unwrap(), page }, Manager::new(page, may))
}

#[test]
fn a_command_asks_a_vm_and_says_its_answer_when_it_comes() {
    let (vm, mut process) = managed("vm1", 0xff);
    let mut board = Shared::<2>::managing([vm]);
    process.show(State::Running, 1);
    let out = board.type_in("@vm1 state\r@vm1 pause\r");
    assert!(out.contains("serial-server: vm1 is running, start 1\r\n"), "{out:?}");
    assert!(!out.contains("paused"), "{out:?}");
    assert_eq!(board.machine.0.borrow().asked, [0]);
    assert_eq!(process.take(), Some(Ok(Verb::Pause)));
    process.show(State::Paused, 1);
    process.answer(Answer::Done);
    board.server.on_doorbell();
    let out = board.run(SETTINGS.hertz, &mut []);
    assert!(out.contains("serial-server: vm1 is paused\r\n"), "{out:?}");
}

#[test]
fn a_command_that_is_refused_says_why() {
    let (vm, mut process) = managed("vm1", Verb::Reset.bit());
    let mut board = Shared::<2>::managing([vm]);
    let out = board.type_in("@vm0 reset\r");
    assert!(out.contains("the console does not manage vm0: its [[vm]] would need managers = [\"console\"]"), "{out:?}");
    assert!(board.machine.0.borrow().asked.is_empty());
    for (verb, answer, said) in [
        ("stop", Answer::Refused, "the console may not stop vm1: see `managers` of its [[vm]]"),
        ("reset", Answer::NotNow, "vm1 is off: nothing to reset"),
    ] {
        board.type_in(&format!("@vm1 {verb}\r"));
        assert_eq!(process.take().unwrap().is_err(), answer == Answer::Refused);
        process.show(State::Off, 1);
        process.answer(answer);
        board.server.on_doorbell();
        let out = board.run(SETTINGS.hertz, &mut []);
        assert!(out.contains(said), "{out:?}");
    }
}

#[test]
fn a_vm_that_does_not_answer_is_given_up() {
    let (vm, _process) = managed("vm0", 0xff);
    let mut board = Shared::<1>::managing([vm]);
    let out = board.type_in("x\r@vm0 stop\r");
    assert!(!out.contains("answer"), "{out:?}");
    // A sole console whose VM is managed has commands, and the guest does not get them.
    assert_eq!(
        (board.typed[0].pop_byte(), board.typed[0].pop_byte(), board.typed[0].pop_byte()),
        (Some(b'x'), Some(b'\r'), None)
    );
    let out = board.run(6 * SETTINGS.hertz, &mut []);
    assert!(out.contains("\r\nvm0 does not answer\r\n"), "{out:?}");
}
