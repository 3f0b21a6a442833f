//! The real client against the real server on a simulated machine, whose TSC the test advances.

use std::cell::RefCell;
use std::rc::Rc;

use proptest::prelude::*;
use proto::loopback::Loopback;
use proto::timer::{Arm, Cancel, Client, Error, Frequency, WallClock, dispatch};
use proto::wire::{ClientId, IpcError, Message, Transport};
use timer_server::{ALARM, Hardware, Server, pit};

const HZ: u64 = 50_000_000;

#[derive(Default)]
struct State {
    now: u64,
    shots: Vec<u16>,
    /// When the pending shot expires.
    due: Option<u64>,
    signalled: Vec<usize>,
    unix: Option<u64>,
}

#[derive(Clone, Default)]
struct Machine(Rc<RefCell<State>>);

impl Hardware for Machine {
    fn now(&self) -> u64 {
        self.0.borrow().now
    }
    fn one_shot(&mut self, ticks: u64) -> u64 {
        let mut state = self.0.borrow_mut();
        let count = pit::count_for(ticks, HZ);
        state.shots.push(count);
        state.due = Some(state.now + (u64::from(count) + 1) * HZ / pit::HZ + 1);
        ticks.min((u64::from(pit::MAX_COUNT) + 1) * HZ / pit::HZ)
    }
    fn unix_time(&mut self) -> Option<u64> {
        self.0.borrow().unix
    }
    fn signal(&mut self, client: usize) {
        self.0.borrow_mut().signalled.push(client);
    }
}

struct Board {
    machine: Machine,
    server: Server<Machine>,
}

impl Board {
    fn new() -> Self {
        let machine = Machine::default();
        Self { server: Server::new(machine.clone(), HZ, 3), machine }
    }

    fn client(&mut self, id: u64) -> Client<impl Transport> {
        Client(Loopback::new(move |m: &mut Message| dispatch(&mut self.server, ClientId(id), m)))
    }

    /// Lets time pass up to `until`, and delivers the interrupts of shots. Returns their number.
    fn run(&mut self, until: u64) -> usize {
        let mut interrupts = 0;
        loop {
            let due = self.machine.0.borrow_mut().due.take_if(|due| *due <= until);
            let Some(due) = due else { break };
            self.machine.0.borrow_mut().now = due;
            self.server.on_interrupt();
            interrupts += 1;
        }
        self.machine.0.borrow_mut().now = until;
        interrupts
    }

    fn signalled(&self) -> Vec<usize> {
        std::mem::take(&mut self.machine.0.borrow_mut().signalled)
    }
}

#[test]
fn a_deadline_is_signalled_once_and_not_early() {
    let mut board = Board::new();
    board.client(1).arm(100_000).unwrap();
    board.run(99_999);
    assert_eq!(board.signalled(), []);
    board.run(101_000);
    assert_eq!(board.signalled(), [1]);
    assert_eq!(board.run(100_000_000), 0, "nobody waits, so nothing ticks");
    assert_eq!(board.signalled(), []);
}

#[test]
fn a_deadline_in_the_past_is_signalled_at_once() {
    let mut board = Board::new();
    board.run(1000);
    board.client(0).arm(1000).unwrap();
    assert_eq!(board.signalled(), [0]);
    assert_eq!(board.machine.0.borrow().shots, []);
}

#[test]
fn a_long_wait_takes_shots_of_at_most_50_ms() {
    let mut board = Board::new();
    board.client(2).arm(HZ).unwrap();
    let interrupts = board.run(HZ + 1000);
    assert_eq!(board.signalled(), [2]);
    assert!((20..=21).contains(&interrupts), "{interrupts}");
    assert!(board.machine.0.borrow().shots.iter().all(|&count| count <= 59_659));
}

#[test]
fn a_nearer_deadline_resets_the_shot_and_a_farther_one_does_not() {
    let mut board = Board::new();
    board.client(0).arm(200_000).unwrap();
    board.client(1).arm(300_000).unwrap();
    assert_eq!(board.machine.0.borrow().shots.len(), 1);
    board.client(2).arm(100_000).unwrap();
    assert_eq!(board.machine.0.borrow().shots.len(), 2);
    board.run(400_000);
    assert_eq!(board.signalled(), [2, 0, 1]);
}

#[test]
fn arming_again_replaces_the_deadline_and_cancelling_removes_it() {
    let mut board = Board::new();
    board.client(0).arm(1000).unwrap();
    board.client(0).arm(500_000).unwrap();
    board.client(1).arm(2000).unwrap();
    board.client(1).cancel().unwrap();
    board.run(499_999);
    assert_eq!(board.signalled(), []);
    board.run(510_000);
    assert_eq!(board.signalled(), [0]);
}

#[test]
fn after_a_lost_interrupt_the_next_call_signals_the_deadline() {
    let mut board = Board::new();
    board.client(0).arm(100_000).unwrap();
    board.machine.0.borrow_mut().due = None;
    board.run(200_000);
    board.client(1).arm(300_000).unwrap();
    assert_eq!(board.signalled(), [0]);
    board.run(301_000);
    assert_eq!(board.signalled(), [1]);
}

#[test]
fn the_alarm_comes_a_millisecond_after_the_first_signal() {
    let mut board = Board::new();
    board.run(1000);
    board.server.on_alarm();
    board.run(40_000);
    board.server.on_alarm();
    board.run(50_999);
    assert_eq!(board.signalled(), []);
    board.run(51_100);
    assert_eq!(board.signalled(), [ALARM]);
    assert_eq!(board.run(100_000_000), 0, "once");
}

#[test]
fn the_alarm_is_a_deadline_like_the_clients() {
    let mut board = Board::new();
    board.client(0).arm(30_000).unwrap();
    board.client(1).arm(70_000).unwrap();
    board.server.on_alarm();
    board.run(100_000);
    assert_eq!(board.signalled(), [0, ALARM, 1]);
    assert_eq!(board.client(ALARM as u64).arm(0), Err(Error::NoSignal), "no client is the alarm");
}

#[test]
fn rate_and_date_are_returned() {
    let mut board = Board::new();
    board.machine.0.borrow_mut().now = 77;
    assert_eq!(board.client(0).frequency(), Ok(HZ));
    assert_eq!(board.client(0).wall_clock(), Err(Error::NoClock));
    board.machine.0.borrow_mut().unix = Some(1_795_359_845);
    assert_eq!(board.client(0).wall_clock(), Ok(WallClock { unix: 1_795_359_845, at: 77 }));
}

#[test]
fn a_stranger_cannot_arm() {
    let mut board = Board::new();
    assert_eq!(board.client(3).arm(0), Err(Error::NoSignal));
    assert_eq!(board.client(u64::MAX).arm(0), Err(Error::NoSignal));
    board.client(99).cancel().unwrap();
}

#[test]
fn a_call_has_three_words_and_unused_ones_are_zero() {
    let mut board = Board::new();
    let labels = [Frequency::LABEL, Arm::LABEL, Cancel::LABEL];
    for (label, words) in labels.into_iter().flat_map(|label| [[1, 0, 1], [1, 1, 0]].map(|words| (label, words))) {
        assert_eq!(board.client(0).0.exchange_words(label, words), Err(IpcError::Malformed));
    }
    for (label, len) in labels.into_iter().flat_map(|label| [0, 1, 2, 4].map(|len| (label, len))) {
        let mut message = Message::EMPTY;
        message.receive(label, len);
        board.client(0).0.exchange(&mut message);
        assert_eq!(message.label, IpcError::Malformed as u64, "{len} words");
    }
    assert_eq!(board.signalled(), []);
}

proptest! {
    #[test]
    fn every_deadline_is_met_and_none_is_early(
        steps in prop::collection::vec((0u64..3, 0u64..20_000_000, 0u64..5_000_000), 1..30),
    ) {
        let mut board = Board::new();
        let mut armed = [None; 3];
        let mut until = 0;
        for (client, ahead, pass) in steps {
            board.client(client).arm(until + ahead).unwrap();
            armed[client as usize] = Some(until + ahead);
            until += pass;
            board.run(until);
            for client in board.signalled() {
                let at = armed[client].take();
                prop_assert!(at.is_some_and(|at| at <= until), "early, or twice");
            }
            // A PIT clock is 42 ticks, and a shot is at most two clocks late.
            prop_assert!(armed.iter().flatten().all(|&at| at + 100 > until), "late");
        }
    }

    #[test]
    fn any_message_is_answered(label in 0x200u64..0x206, words in prop::collection::vec(any::<u64>(), 0..6)) {
        let mut board = Board::new();
        let mut message = Message::EMPTY;
        message.receive(label, words.len()).copy_from_slice(&words);
        board.client(0).0.exchange(&mut message);
    }
}
