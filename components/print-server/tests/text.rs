//! Strings as the other end leaves them, and what is printed.

use channel::Dataport;
use mmio::Window;
use print_server::Text;

fn printed(bytes: &[u8]) -> Vec<String> {
    let dataport = Dataport::new(Window::leak(vec![0; 4096].leak()), true);
    dataport.write(0, bytes).unwrap();
    Text::read(&dataport).lines().map(|line| line.to_string()).collect()
}

#[test]
fn a_string_ends_with_a_nul_or_with_the_dataport() {
    assert_eq!(printed(b"hello\0world"), ["hello"]);
    assert_eq!(printed(&[b'x'; 4096]), ["x".repeat(4096)]);
}

#[test]
fn lines_are_printed_one_by_one() {
    assert_eq!(printed(b"hello\n\nworld\n"), ["hello", "", "world"]);
    assert_eq!(printed(b""), [""]);
}

#[test]
fn no_letter_is_a_command_to_a_terminal() {
    assert_eq!(printed(b"\x1b[2Jhi\r\x07 \xc3\xa4 \xff"), ["\\u{1b}[2Jhi\\r\\u{7} \u{e4} \u{fffd}"]);
}
