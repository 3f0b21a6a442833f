//! The real client against the real server, through messages, with a simulated kernel.

mod board;

use board::{ALARM, Board, ROUTER, edge, level, line, messages, shared};
use layout::{Bdf, Slot};
use proptest::prelude::*;
use proto::irq::{Client, Error, Line, MsiMessage};
use proto::loopback::Loopback;
use proto::wire::{ClientId, IpcError, Message};

/// Line 0 is a server's, lines 1 and 2 share pin 16, lines 3 and 4 have no route yet, line 5 has a pin that does not
/// exist.
fn board() -> Board {
    Board::new([
        line("timer", 0, Some(edge(2))),
        shared(1, "net", 1, Some(level(16))),
        shared(2, "disk", 2, Some(level(16))),
        shared(3, "sound", 1, None),
        shared(4, "usb", 2, None),
        line("broken", 1, Some(edge(99))),
    ])
}

/// The same, after the owners of the shared lines have claimed them.
fn running() -> Board {
    let mut board = board();
    assert_eq!(board.client(1).claim(1), Ok(None));
    assert_eq!(board.client(2).claim(2), Ok(None));
    board
}

#[test]
fn the_only_owner_gets_the_handler_and_the_same_one_again() {
    let mut board = board();
    assert_eq!(board.client(0).claim(0), Ok(Some(0x1000)));
    board.raise(2);
    assert_eq!(board.signals(), [Slot(32)], "the kernel signals the owner");
    assert!(board.masked(2));
    assert_eq!(board.client(0).claim(0), Ok(Some(0x1000)));
    assert!(!board.masked(2), "a claim acknowledges what the previous instance had not");
}

#[test]
fn anyone_else_is_refused_with_the_reason_and_counted() {
    let mut board = board();
    assert_eq!(board.client(1).claim(0), Err(Error::NotOwner));
    assert_eq!(board.client(77).claim(0), Err(Error::NotOwner));
    assert_eq!(board.client(1).claim(6), Err(Error::NoSuchLine));
    assert_eq!(board.client(1).claim(3), Err(Error::NoRoute));
    assert_eq!(board.client(1).claim(5), Err(Error::Kernel));
    assert_eq!(board.client(1).done(2), Err(Error::NotOwner));
    assert_eq!(board.record(1).refused.count(), 5);
    assert_eq!(board.record(u64::MAX).refused.count(), 1, "all strangers together");
    assert_eq!(board.record(2).refused.count(), 0);
}

#[test]
fn a_refused_handler_is_tried_four_times() {
    let mut board = board();
    for _ in 0..1000 {
        assert_eq!(board.client(1).claim(5), Err(Error::Kernel));
    }
    assert_eq!(board.not_attached(), 4);
}

#[test]
fn a_client_learns_its_own_lines_only() {
    let mut board = board();
    assert_eq!(board.client(0).lines(), Ok(0b00_0001));
    assert_eq!(board.client(1).lines(), Ok(0b10_0010), "line 3 arrives nowhere");
    assert_eq!(board.client(3).lines(), Ok(0));
}

#[test]
fn a_shared_line_signals_all_owners_and_is_unmasked_when_all_are_done() {
    let mut board = running();
    for _ in 0..100 {
        board.raise(16);
        assert_eq!(board.signals(), [Slot(33), Slot(34)]);
        board.client(2).done(2).unwrap();
        assert!(board.masked(16));
        board.client(1).done(1).unwrap();
        assert!(!board.masked(16));
    }
    assert_eq!((board.record(1).spurious.count(), board.record(2).late.count()), (0, 0));
}

#[test]
fn an_owner_that_has_not_claimed_is_neither_signalled_nor_waited_for() {
    let mut board = board();
    board.client(1).claim(1).unwrap();
    board.raise(16);
    assert_eq!(board.signals(), [Slot(33)]);
    board.client(1).done(1).unwrap();
    assert!(!board.masked(16));
}

#[test]
fn a_dead_owner_delays_one_interrupt_and_no_more_than_a_tick_the_others() {
    let mut board = running();
    board.raise(16);
    board.client(1).done(1).unwrap();
    assert_eq!(board.pass(20), 11, "ticks end when there is nothing to wait for");
    assert!(!board.masked(16));
    assert_eq!(board.record(2).late.count(), 1);
    board.signals();
    for _ in 0..100 {
        board.raise(16);
        assert_eq!(board.signals(), [Slot(33), Slot(34)], "it is still signalled");
        board.client(1).done(1).unwrap();
        assert!(board.masked(16), "the late owner's device may assert the line");
        board.pass(1);
        assert!(!board.masked(16));
    }
    board.client(2).done(2).unwrap();
    assert_eq!((board.record(2).late.count(), board.record(2).spurious.count()), (1, 0));
    board.raise(16);
    board.client(1).done(1).unwrap();
    assert!(board.masked(16), "it has answered, so it is waited for again");
}

#[test]
fn a_restarted_owner_claims_again_and_owes_nothing() {
    let mut board = running();
    board.raise(16);
    board.client(1).done(1).unwrap();
    assert_eq!(board.client(2).claim(2), Ok(None));
    assert!(!board.masked(16));
    assert_eq!(board.attached(16), 1, "the handler is made once");
}

#[test]
fn done_without_an_interrupt_is_counted_and_unmasks_nothing() {
    let mut board = running();
    board.client(1).done(1).unwrap();
    board.raise(16);
    board.client(1).done(1).unwrap();
    board.client(1).done(1).unwrap();
    assert!(board.masked(16));
    board.client(1).done(3).unwrap();
    assert_eq!(board.record(1).spurious.count(), 3);
}

#[test]
fn a_signal_for_a_line_that_is_not_shared_is_counted() {
    let mut board = board();
    board.client(0).claim(0).unwrap();
    board.signal(1 << 0 | 1 << 3 | 1 << 23 | 1 << 25);
    assert_eq!(board.spurious(), 4);
    assert_eq!(board.signals(), []);
}

#[test]
fn a_storm_is_throttled_to_the_limits_of_all_owners() {
    let mut lines = [shared(0, "net", 1, Some(level(16))), shared(1, "disk", 2, Some(level(16)))];
    lines[0].limit = 3;
    lines[1].limit = 2;
    let mut board = Board::new(lines);
    board.client(1).claim(0).unwrap();
    board.client(2).claim(1).unwrap();
    let serve = |board: &mut Board| {
        board.raise(16);
        board.client(1).done(0).unwrap();
        board.client(2).done(1).unwrap();
        !board.masked(16)
    };
    for _ in 0..3 {
        assert!((0..5).all(|_| serve(&mut board)));
        assert!(!serve(&mut board), "the sixth is served, and stays masked");
        board.pass(1);
        assert!(!board.masked(16));
    }
}

#[test]
fn a_line_without_a_route_gets_one_from_the_router_once() {
    let mut board = board();
    assert_eq!(board.client(1).set_route(3, level(17)), Err(Error::NotOwner));
    let router = board.client(ROUTER);
    assert_eq!(router.set_route(9, level(17)), Err(Error::NoSuchLine));
    assert_eq!(router.set_route(3, level(17)), Ok(()));
    assert_eq!(router.set_route(3, level(17)), Ok(()), "pci-server was restarted");
    assert_eq!(router.set_route(3, level(18)), Err(Error::RouteTaken));
    drop(router);
    assert_eq!(board.client(1).claim(3), Ok(Some(0x1003)));
    assert_eq!(board.client(ROUTER).set_route(3, level(17)), Ok(()));
    assert_eq!(board.record(ROUTER).refused.count(), 2);
}

#[test]
fn a_route_to_a_servers_line_is_refused() {
    let mut board = board();
    assert_eq!(board.client(ROUTER).set_route(3, edge(2)), Err(Error::RouteTaken));
    assert_eq!(board.client(ROUTER).set_route(3, level(2)), Err(Error::RouteTaken));
    assert_eq!(board.client(1).claim(3), Err(Error::NoRoute));
}

#[test]
fn a_route_with_another_trigger_or_polarity_is_refused() {
    let mut board = board();
    assert_eq!(board.client(ROUTER).set_route(3, edge(16)), Err(Error::Conflict));
    let high = proto::irq::Route { active_low: false, ..level(16) };
    assert_eq!(board.client(ROUTER).set_route(3, high), Err(Error::Conflict));
    assert_eq!(board.client(ROUTER).set_route(3, level(16)), Ok(()));
}

#[test]
fn a_described_route_is_refused_for_the_same_reasons() {
    let lines = [
        line("timer", 0, Some(edge(2))),
        shared(1, "net", 1, Some(edge(2))),
        shared(2, "disk", 2, Some(level(16))),
        shared(3, "sound", 1, Some(edge(16))),
        line("uart", 1, Some(level(16))),
    ];
    let mut board = Board::new(lines);
    assert_eq!(board.client(0).claim(0), Ok(Some(0x1000)));
    assert_eq!(board.client(1).claim(1), Err(Error::NoRoute));
    assert_eq!(board.client(2).claim(2), Ok(Some(0x1002)));
    assert_eq!(board.client(1).claim(3), Err(Error::NoRoute));
    assert_eq!(board.client(1).claim(4), Err(Error::NoRoute));
}

#[test]
fn a_third_owner_may_join_a_shared_line_but_none_a_line_that_was_handed_over() {
    let mut board = running();
    board.client(ROUTER).set_route(3, level(16)).unwrap();
    assert_eq!(board.client(1).claim(3), Ok(None));
    board.raise(16);
    assert_eq!(board.signals(), [Slot(33), Slot(34), Slot(35)]);

    let mut board = self::board();
    board.client(ROUTER).set_route(3, level(17)).unwrap();
    board.client(1).claim(3).unwrap();
    assert_eq!(board.client(ROUTER).set_route(4, level(17)), Err(Error::RouteTaken));
    assert_eq!(board.client(2).claim(4), Err(Error::NoRoute));
}

#[test]
fn an_alarm_that_was_lost_is_set_again_when_timer_server_claims_again() {
    let mut board = running();
    board.client(0).claim(0).unwrap();
    board.raise(16);
    assert!(board.take_alarm());
    board.client(0).claim(0).unwrap();
    assert!(board.take_alarm());
}

#[test]
fn without_an_alarm_nothing_is_throttled() {
    let mut lines = [shared(0, "net", 1, Some(edge(16))), shared(1, "disk", 2, Some(edge(16)))];
    lines.iter_mut().for_each(|line| line.limit = 1);
    let mut board = Board::without_alarm(lines);
    board.client(1).claim(0).unwrap();
    for _ in 0..100 {
        board.raise(16);
        assert!(!board.masked(16));
    }
    assert!(!board.signals().contains(&ALARM));
}

#[test]
fn a_granted_claim_without_the_capability_is_an_error() {
    let forgetful = Loopback::new(|m: &mut Message| m.encode(0, &Ok::<_, Error>(proto::irq::Sharing::Alone)));
    assert_eq!(Client(forgetful).claim(0), Err(Error::NoCapability));
    let deaf = Loopback::new(|_: &mut Message| Err(IpcError::UnknownLabel));
    assert_eq!(Client(deaf).claim(0), Err(Error::Ipc(IpcError::UnknownLabel)));
}

/// What may happen, in any order.
#[derive(Clone, Debug)]
enum Step {
    Claim(u64, u8),
    Done(u64, u8),
    Route(u64, u8, bool, u8),
    Raise(u8),
    Signal(u64),
    Tick,
}

fn step() -> impl Strategy<Value = Step> {
    let (client, line) = (prop_oneof![0u64..5, Just(u64::MAX)], prop_oneof![0u8..7, any::<u8>()]);
    prop_oneof![
        (client.clone(), line.clone()).prop_map(|(client, line)| Step::Claim(client, line)),
        (client, line.clone()).prop_map(|(client, line)| Step::Done(client, line)),
        (1u64..4, line, any::<bool>(), 15u8..18)
            .prop_map(|(from, line, is_level, pin)| Step::Route(from, line, is_level, pin)),
        (15u8..18).prop_map(Step::Raise),
        any::<u64>().prop_map(Step::Signal),
        Just(Step::Tick),
    ]
}

/// Performs `steps`; checks that only the sole owner of a line gets its handler.
fn play(steps: Vec<Step>, limit: u16) -> Board {
    let mut lines = board().lines;
    lines.iter_mut().for_each(|line| line.limit = limit);
    let mut board = Board::new(lines.clone());
    for step in steps {
        match step {
            Step::Claim(client, number) => {
                let claimed = board.client(client).claim(number);
                if let Ok(Some(handler)) = claimed {
                    assert_eq!(lines[usize::from(number)].owner, client);
                    assert_eq!(handler, 0x1000 + u64::from(number));
                    assert_eq!(board.notified(handler), lines[usize::from(number)].signal, "not irq-server");
                }
            }
            Step::Done(client, line) => drop(board.client(client).done(line)),
            Step::Route(from, line, is_level, pin) => {
                let route = if is_level { level(pin) } else { edge(pin) };
                let _ = board.client(from).set_route(line, route);
            }
            Step::Raise(pin) => board.raise(pin),
            Step::Signal(bits) => board.signal(bits & !layout::event::TIMER),
            Step::Tick => drop(board.pass(1)),
        }
    }
    board
}

proptest! {
    #[test]
    fn no_line_stays_masked_when_all_owners_answer(steps in prop::collection::vec(step(), 0..60), limit in 0u16..3) {
        let mut board = play(steps, limit);
        for (number, line) in (0..).zip(board.lines.clone()) {
            board.client(line.owner).done(number).unwrap();
        }
        board.pass(1);
        prop_assert!(board.kept().all(|pin| !pin.masked));
    }

    #[test]
    fn no_line_stays_masked_when_no_owner_answers(steps in prop::collection::vec(step(), 0..60), limit in 0u16..3) {
        let mut board = play(steps, limit);
        prop_assert!(board.pass(100) < 15, "and then the ticks end");
        prop_assert!(board.kept().all(|pin| !pin.masked));
    }

    #[test]
    fn no_message_of_a_stranger_gets_a_capability(
        label in prop_oneof![0x301u64..0x305, any::<u64>()],
        words in prop::collection::vec(any::<u64>(), 0..4),
    ) {
        let mut message = Message::EMPTY;
        message.receive(label, words.len()).copy_from_slice(&words);
        let mut board = running();
        board.exchange(ClientId(5), &mut message);
        prop_assert_eq!(message.cap, None);
    }
}

const CARD: Bdf = Bdf { bus: 1, device: 2, function: 3 };

#[test]
fn a_line_of_messages_is_handed_over_and_its_message_has_the_vector_of_the_line() {
    let mut board = board();
    board.lines[3].vector = 9;
    let mut board = Board::new(board.lines.clone());
    let message = MsiMessage { address: 0xfee0_1000, data: 0x39 };
    assert_eq!(board.client(ROUTER).set_message(3, CARD), Ok(message));
    assert_eq!(board.client(ROUTER).set_message(3, CARD), Ok(message), "a restarted pci-server asks again");
    assert_eq!(board.client(1).lines(), Ok(0b10_1010));
    assert_eq!(board.client(1).claim(3), Ok(Some(0x1003)));
    board.raise(messages(CARD));
    assert_eq!(board.signals(), [Slot(35)]);
}

#[test]
fn messages_are_for_lines_that_may_have_them_and_only_the_router_sets_them() {
    let mut board = board();
    for client in [0, 1, 2, 77] {
        assert_eq!(board.client(client).set_message(3, CARD), Err(Error::NotOwner));
    }
    assert_eq!(board.client(ROUTER).set_message(6, CARD), Err(Error::NoSuchLine));
    assert_eq!(board.client(ROUTER).set_message(1, CARD), Err(Error::RouteTaken), "it has one by the description");
    assert_eq!(board.client(ROUTER).set_message(3, CARD).map(|_| ()), Ok(()));
    assert_eq!(board.client(ROUTER).set_route(3, level(16)), Err(Error::RouteTaken));
    // Each line has a message of its own, also those of one function.
    assert_eq!(board.client(ROUTER).set_message(4, CARD).map(|_| ()), Ok(()));
    assert_eq!(board.client(1).claim(3), Ok(Some(0x1003)));
    assert_eq!(board.client(2).claim(4), Ok(Some(0x1004)));
}

#[test]
fn messages_take_the_place_of_a_described_route_until_it_is_claimed() {
    let may_send = |line: Line| Line { messages: true, ..line };
    let lines = || {
        let net = may_send(shared(0, "net", 1, Some(level(16))));
        [net, shared(1, "disk", 2, Some(level(16))), may_send(shared(2, "usb", 1, Some(level(17))))]
    };
    let mut board = Board::new(lines());
    assert_eq!(board.client(ROUTER).set_message(0, CARD).map(|_| ()), Ok(()));
    assert_eq!(board.client(ROUTER).set_message(0, CARD).map(|_| ()), Ok(()), "a restarted pci-server asks again");
    assert_eq!(board.client(ROUTER).set_route(0, level(16)), Err(Error::RouteTaken));
    // The other owner has the input for itself.
    assert_eq!(board.client(2).claim(1), Ok(Some(0x1001)));
    assert_eq!(board.client(1).claim(0), Ok(Some(0x1000)));
    board.raise(messages(CARD));
    assert_eq!(board.signals(), [Slot(32)]);
    // Its owner has the handler of the pin already.
    assert_eq!(board.client(1).claim(2), Ok(Some(0x1002)));
    assert_eq!(board.client(ROUTER).set_message(2, CARD), Err(Error::RouteTaken));
    // At a shared input another's claim is enough.
    let mut board = Board::new(lines());
    assert_eq!(board.client(2).claim(1), Ok(None));
    assert_eq!(board.client(ROUTER).set_message(0, CARD), Err(Error::RouteTaken));
    assert_eq!(board.client(1).claim(0), Ok(None));
}
