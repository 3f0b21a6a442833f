//! Identity, ports and their announcement.

use super::*;

#[test]
fn it_is_what_section_5_3_says() {
    let (mut bench, _, mut input) = terminal();
    let config = bench.driver.config();
    let identity = [0x00, 0x08, 0x2c].map(|register| config.read(register, Width::Dword));
    assert_eq!(identity, [0x1003_1af4, 0x0780_0000, 0x0003_1af4]);
    assert_eq!(bench.driver.read(4, 0x04, Width::Dword) & 7, 7, "SIZE, MULTIPORT and EMERG_WRITE");
    assert_eq!(bench.driver.read(4, 0x12, Width::Word), 12, "queues");
    input.set_word(50 << 16 | 132);
    assert_eq!(bench.config(), [132, 50, 1, 0]);
    let ([mut pair, _], _) = pair(10);
    assert_eq!(pair.driver.read(4, 0x04, Width::Dword) & 7, 2, "without a terminal, MULTIPORT");
    assert_eq!(pair.config(), [0, 0, 2, 0]);
}

#[test]
fn there_is_room_for_so_many_ports() {
    let mut device = Console::default();
    let mut add = || {
        let [(out, _), (into, _)] = [pipe(10), pipe(10)];
        device.add("one more", out.producer(), into.consumer())
    };
    for number in 1..MAX_PORTS {
        assert_eq!(add(), Some(number));
    }
    assert_eq!(add(), None);
}

/// A driver of the first days: port 0, and no messages.
#[test]
fn without_multiport_port_0_works_alone() {
    let (mut bench, mut output, mut input) = terminal();
    bench.begin(0);
    bench.send(TX, b"login: ");
    let mut bytes = [0; 10];
    assert_eq!((output.pop(&mut bytes), &bytes[..7]), (7, &b"login: "[..]));
    input.push(b"root");
    bench.buffer(RX, 3);
    let _ = bench.kick(RX);
    bench.buffer(RX, 3);
    bench.serve();
    assert_eq!(bench.used(RX), [b"roo".to_vec(), b"t".to_vec()]);
    bench.order(&message(0, 0, 1));
    assert!(bench.used(ORDERS).is_empty() && bench.answers().is_empty());
    let ([mut bench, _], _) = pair(10);
    bench.begin(0);
    bench.send(TX, b"nobody");
    bench.send(TX1, b"nobody");
    assert!(bench.used(TX).is_empty() && bench.used(TX1).is_empty());
}

#[test]
fn a_terminal_is_announced_as_a_console() {
    let (mut bench, _, mut input) = terminal();
    let all = bench.ready(0);
    assert_eq!(all, [message(0, 1, 1), message(0, 4, 1), message(0, 6, 1)].map(Vec::from));
    input.set_word(24 << 16 | 80);
    assert_eq!(bench.answers(), [[message(0, 5, 0).as_slice(), &[80, 0, 24, 0]].concat()], "RESIZE");
    assert!(bench.driver.function.device().take_resized() && !bench.driver.function.device().take_resized());
    assert!(bench.answers().is_empty(), "once");
    bench.order(&message(0, 6, 0));
    input.push(b"x");
    bench.buffer(RX, 1);
    bench.serve();
    assert_eq!(bench.used(RX), [b"x".to_vec()], "a console takes input whether it is open or not (5.3.6)");
}

#[test]
fn a_named_port_is_announced_with_its_name() {
    let ([mut bench, _], _) = pair(10);
    let name = [message(1, 7, 1).as_slice(), b"bytes"].concat();
    assert_eq!(bench.ready(1), [message(1, 1, 1).to_vec(), name]);
    assert_eq!(bench.ready(1).len(), 2, "a new driver gets the same");
}

#[test]
fn a_byte_of_an_emergency_is_printed_at_once() {
    let (mut bench, mut output, _) = terminal();
    assert!(!output.park());
    let effect = bench.driver.function.write(4, 0x2008, Width::Dword, 0x21, &bench.driver.memory);
    assert_eq!(effect, Effect::OUTPUT, "a doorbell");
    assert_eq!((output.pop_byte(), output.pop_byte()), (Some(b'!'), None));
    assert_eq!(bench.serve(), 1);
}
