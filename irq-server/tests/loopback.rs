//! The real client against the real server, through messages.

use layout::Slot;
use layout::config::{Irq, Line, Route};
use proptest::prelude::*;
use proto::irq::{Client, Error, dispatch};
use proto::loopback::Loopback;
use proto::wire::{ClientId, IpcError, Message, Transport};

use irq_server::{Controller, Refused, Server};

/// Hands out 0x1000 and up; refuses pin 99. Counts what it made.
struct Kernel {
    made: u64,
}

impl Controller for Kernel {
    fn attach(&mut self, index: u8, _: &Line, route: Route) -> Result<u64, Refused> {
        self.made += 1;
        if route.pin == 99 { Err(Refused) } else { Ok(0x1000 + u64::from(index)) }
    }
}

fn line(name: &str, owner: u64, pin: u8) -> Line {
    let name = name.try_into().unwrap();
    let route = Some(Route { ioapic: 0, pin, level: false, active_low: false });
    Line { name, owner, route, vector: pin, signal: Slot(32), own: None, limit: 0 }
}

fn server() -> Server<Kernel> {
    let lines = [line("timer", 0, 2), line("uart", 1, 4), line("broken", 1, 99)];
    Server::new(Irq { lines: lines.into_iter().collect(), router: None, alarm: None }, Kernel { made: 0 })
}

fn client(server: &mut Server<Kernel>, id: u64) -> Client<impl Transport> {
    Client(Loopback::new(move |m: &mut Message| dispatch(server, ClientId(id), m)))
}

#[test]
fn the_owner_gets_the_handler_and_the_same_one_again() {
    let mut server = server();
    let uart = client(&mut server, 1);
    assert_eq!(uart.claim(1), Ok(Some(0x1001)));
    assert_eq!(uart.claim(1), Ok(Some(0x1001)));
}

#[test]
fn anyone_else_is_refused_with_the_reason() {
    let mut server = server();
    assert_eq!(client(&mut server, 0).claim(1), Err(Error::NotOwner));
    assert_eq!(client(&mut server, 77).claim(0), Err(Error::NotOwner));
    assert_eq!(client(&mut server, 0).claim(3), Err(Error::NoSuchLine));
    assert_eq!(client(&mut server, 1).claim(2), Err(Error::Kernel));
}

#[test]
fn a_client_learns_its_own_lines_only() {
    let mut server = server();
    assert_eq!(client(&mut server, 0).lines(), Ok(0b001));
    assert_eq!(client(&mut server, 1).lines(), Ok(0b110));
    assert_eq!(client(&mut server, 2).lines(), Ok(0));
}

#[test]
fn a_yes_without_the_capability_is_an_error() {
    let forgetful = Loopback::new(|m: &mut Message| m.encode(0, &Ok::<(), Error>(())));
    assert_eq!(Client(forgetful).claim(0), Err(Error::NoCapability));
    let deaf = Loopback::new(|_: &mut Message| Err(IpcError::UnknownLabel));
    assert_eq!(Client(deaf).claim(0), Err(Error::Ipc(IpcError::UnknownLabel)));
}

proptest! {
    #[test]
    fn no_message_of_a_stranger_gets_a_capability(
        label in prop_oneof![Just(0x301u64), Just(0x302), any::<u64>()],
        words in prop::collection::vec(any::<u64>(), 0..4),
    ) {
        let mut message = Message::EMPTY;
        message.receive(label, words.len()).copy_from_slice(&words);
        let mut server = server();
        client(&mut server, 5).0.exchange(&mut message);
        prop_assert_eq!(message.cap, None);
    }
}
