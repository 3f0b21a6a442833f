//! Connects a console to the user's terminal: every key goes to the guest, except those that leave.

use std::io::{IsTerminal, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::termios::{OptionalActions, tcgetattr, tcgetwinsize, tcsetattr};

use crate::interrupt;

/// Ctrl-], telnet's escape key, which no shell or editor uses.
pub const LEAVE: u8 = 0x1d;

/// How to leave, for the user.
pub const WAYS_OUT: &str = "Ctrl-], or Enter ~ . one after the other, leaves";

/// The terminal in raw mode. Dropping it restores the terminal; so does an interrupt of the tool.
pub struct Terminal(());

impl Terminal {
    /// Whether a user sits at a terminal.
    pub fn is_there() -> bool {
        std::io::stdin().is_terminal() && std::io::stdout().is_terminal()
    }

    /// Hands every key through unchanged, Ctrl-C included. `None` without a terminal.
    pub fn raw() -> Option<Self> {
        let stdin = rustix::stdio::stdin();
        let saved = tcgetattr(stdin).ok()?;
        let mut raw = saved.clone();
        interrupt::remember_terminal(saved);
        raw.make_raw();
        tcsetattr(stdin, OptionalActions::Now, &raw).ok()?;
        Some(Self(()))
    }

    /// The terminal's rows and columns, if known.
    pub fn size() -> Option<(u16, u16)> {
        let size = tcgetwinsize(rustix::stdio::stdout()).ok()?;
        (size.ws_row > 0 && size.ws_col > 0).then_some((size.ws_row, size.ws_col))
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        interrupt::restore_terminal();
    }
}

/// Whether to read keys from the terminal: only if it shows the console. In `cargo xtask run | less` the keys belong to
/// less.
pub fn may_read_keys() -> bool {
    reads_keys(std::io::stdin().is_terminal(), std::io::stdout().is_terminal())
}

/// Whether each is a terminal.
const fn reads_keys(input: bool, output: bool) -> bool {
    !input || output
}

/// The state of the user's input.
#[derive(Debug, Default)]
pub struct Forwarded {
    left: AtomicBool,
    typed: AtomicBool,
}

impl Forwarded {
    /// Whether the user has left.
    pub fn left(&self) -> bool {
        self.left.load(Ordering::Relaxed)
    }

    /// Whether the user has typed anything since the last call.
    pub fn typed(&self) -> bool {
        self.typed.swap(false, Ordering::Relaxed)
    }
}

/// Sends what the user types to the guest until the user leaves, or the input ends. The thread ends with the tool.
pub fn forward_keys(mut keyboard: TcpStream) -> Arc<Forwarded> {
    let forwarded = Arc::new(Forwarded::default());
    let state = Arc::clone(&forwarded);
    std::thread::spawn(move || {
        let mut stdin = std::io::stdin().lock();
        let mut buffer = [0; 256];
        let mut keys = Keys::default();
        loop {
            let count = stdin.read(&mut buffer).unwrap_or(0);
            state.typed.fetch_or(count > 0, Ordering::Relaxed);
            let (through, leave) = keys.take(buffer.get(..count).unwrap_or_default());
            if keyboard.write_all(&through).is_err() || count == 0 || leave {
                state.left.store(leave, Ordering::Relaxed);
                return;
            }
        }
    });
    forwarded
}

/// Progress through ssh's escape sequence Enter, `~`, `.`.
#[derive(Debug, Default, PartialEq, Eq)]
enum Keys {
    #[default]
    LineStart,
    /// A tilde that began a line waits for the next key.
    Tilde,
    InLine,
}

impl Keys {
    /// The keys that go through, and whether the user leaves after them.
    fn take(&mut self, typed: &[u8]) -> (Vec<u8>, bool) {
        let mut through = Vec::with_capacity(typed.len() + 1);
        for (at, &key) in typed.iter().enumerate() {
            let tilde = *self == Keys::Tilde;
            if key == LEAVE || is_encoded_leave(typed.get(at..).unwrap_or_default()) || (tilde && key == b'.') {
                return (through, true);
            }
            if tilde && key != b'~' {
                through.push(b'~');
            }
            *self = match key {
                b'~' if *self == Keys::LineStart => Keys::Tilde,
                b'\r' | b'\n' => Keys::LineStart,
                _ => Keys::InLine,
            };
            if *self != Keys::Tilde {
                through.push(key);
            }
        }
        (through, false)
    }
}

/// Whether these keys begin with Ctrl-] as terminals send it that encode modified keys: `ESC [ 93 ; 5 u` (CSI u; the 5 has
/// 64 and 128 more under Caps Lock and Num Lock, and `:1` may follow it), or xterm's `ESC [ 27 ; 5 ; 93 ~`.
fn is_encoded_leave(keys: &[u8]) -> bool {
    let Some(sequence) = keys.strip_prefix(b"\x1b[") else { return false };
    let Some(end) = sequence.iter().position(|byte| (0x40..0x7f).contains(byte)) else { return false };
    let (parameters, last) = sequence.split_at(end);
    let parameters = std::str::from_utf8(parameters).unwrap_or_default();
    let is_control = |modifiers: &str| {
        let number = modifiers.strip_suffix(":1").unwrap_or(modifiers).parse::<u32>();
        number.is_ok_and(|number| number > 0 && (number - 1) & !(64 | 128) == 4)
    };
    match (parameters.split(';').collect::<Vec<_>>().as_slice(), last.first()) {
        (["93", modifiers], Some(b'u')) | (["27", modifiers, "93"], Some(b'~')) => is_control(modifiers),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(typed: &[u8]) -> (Vec<u8>, bool) {
        Keys::default().take(typed)
    }

    #[test]
    fn a_pager_has_the_keys_to_itself() {
        assert!(!reads_keys(true, false), "run | less");
        assert!(reads_keys(true, true) && reads_keys(false, true) && reads_keys(false, false));
    }

    #[test]
    fn keys_before_the_leaving_key_still_go_through() {
        assert_eq!(take(b"ls\x1d"), (b"ls".to_vec(), true));
        assert_eq!(take(b"ls\x03"), (b"ls\x03".to_vec(), false));
    }

    #[test]
    fn terminals_that_encode_modified_keys_can_leave() {
        for sequence in ["\x1b[93;5u", "\x1b[93;69u", "\x1b[93;133:1u", "\x1b[27;5;93~"] {
            assert_eq!(take(format!("a{sequence}").as_bytes()), (b"a".to_vec(), true), "{sequence:?}");
        }
        for sequence in
            ["\x1b[93;1u", "\x1b[93;7u", "\x1b[93;5:3u", "\x1b[9;5u", "\x1b[93;5", "\x1b[A", "\x1b", "\x1b[;u"]
        {
            assert_eq!(take(sequence.as_bytes()), (sequence.as_bytes().to_vec(), false), "{sequence:?}");
        }
    }

    #[test]
    fn a_tilde_and_a_dot_at_a_lines_start_leave() {
        assert_eq!(take(b"~."), (vec![], true));
        assert_eq!(take(b"ls\r~.x"), (b"ls\r".to_vec(), true));
        let mut keys = Keys::default();
        for (typed, through, leaves) in [("a\r", "a\r", false), ("~", "", false), (".", "", true)] {
            assert_eq!(keys.take(typed.as_bytes()), (through.as_bytes().to_vec(), leaves), "{typed:?}");
        }
    }

    #[test]
    fn any_other_tilde_is_the_guests() {
        for (typed, through) in
            [("cd ~.", "cd ~."), ("~/x\r", "~/x\r"), ("~~.", "~."), ("~\r~x", "~\r~x"), ("\r\r~~", "\r\r~")]
        {
            assert_eq!(take(typed.as_bytes()), (through.as_bytes().to_vec(), false), "{typed:?}");
        }
    }
}
