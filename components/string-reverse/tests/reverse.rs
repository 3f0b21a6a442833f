//! Strings as the other end leaves them.

use channel::Dataport;
use mmio::Window;
use proptest::prelude::*;
use string_reverse::reverse;

fn dataport(len: usize) -> Dataport {
    Dataport::new(Window::leak(vec![0; len].leak()), true)
}

/// What is in the second dataport, of `room` bytes, when `text` is in the first, of 4096.
fn reversed(text: &[u8], room: usize) -> Vec<u8> {
    let (input, output) = (dataport(4096), dataport(room));
    input.write(0, text).unwrap();
    reverse(&input, &output);
    let mut bytes = vec![0; room];
    output.read(0, &mut bytes).unwrap();
    let end = bytes.iter().position(|byte| *byte == 0).expect("a string ends");
    bytes.truncate(end);
    bytes
}

#[test]
fn hello_is_olleh() {
    assert_eq!(reversed(b"hello\0 and what was there before", 4096), b"olleh");
    assert_eq!(reversed(b"", 4096), b"");
}

#[test]
fn a_string_without_an_end_is_the_dataports() {
    let mut expected = vec![b'x'; 4095];
    expected[4094] = b'y';
    let mut text = vec![b'x'; 4096];
    text[0] = b'y';
    assert_eq!(reversed(&text, 8192), expected);
}

proptest! {
    #[test]
    fn any_string_is_reversed(text in prop::collection::vec(1..=255u8, 0..2000)) {
        let mut expected = text.clone();
        expected.reverse();
        prop_assert_eq!(reversed(&text, 4096), expected);
    }

    /// Whatever lengths there are, the second dataport has the string's end, and a NUL.
    #[test]
    fn what_has_no_room_is_left_out(text in prop::collection::vec(1..=255u8, 0..4096), room in 1..4096usize) {
        let mut expected = text.clone();
        expected.reverse();
        expected.truncate(room - 1);
        prop_assert_eq!(reversed(&text, room), expected);
    }
}
