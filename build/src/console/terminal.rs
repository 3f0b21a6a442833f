//! Joins a console to the user's terminal: every key goes to the guest, but one, which leaves.

use std::io::{IsTerminal, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::termios::{OptionalActions, tcgetattr, tcsetattr};

use crate::interrupt;

/// Ctrl-], as telnet has it: no shell or editor uses it.
pub const LEAVE: u8 = 0x1d;

/// Its name, for the user.
pub const LEAVE_NAME: &str = "Ctrl-]";

/// The terminal in raw mode. Dropped, it is restored (and also when the tool is interrupted).
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
}

impl Drop for Terminal {
    fn drop(&mut self) {
        interrupt::restore_terminal();
    }
}

/// Sends what the user types to the guest until the leaving key is pressed, or the input ends. Answers whether that has
/// happened. The thread ends with the tool.
pub fn forward_keys(mut keyboard: TcpStream) -> Arc<AtomicBool> {
    let left = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&left);
    std::thread::spawn(move || {
        let mut stdin = std::io::stdin().lock();
        let mut buffer = [0; 256];
        loop {
            let count = stdin.read(&mut buffer).unwrap_or(0);
            let typed = buffer.get(..count).unwrap_or_default();
            let (keys, leave) = until_leave(typed);
            if keyboard.write_all(keys).is_err() || count == 0 || leave {
                flag.store(leave, Ordering::Relaxed);
                return;
            }
        }
    });
    left
}

/// The keys before the leaving key, and whether it is among them.
fn until_leave(typed: &[u8]) -> (&[u8], bool) {
    match typed.iter().position(|byte| *byte == LEAVE) {
        Some(at) => (typed.get(..at).unwrap_or_default(), true),
        None => (typed, false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_before_the_leaving_key_still_go_through() {
        assert_eq!(until_leave(b"ls\x1d"), (&b"ls"[..], true));
        assert_eq!(until_leave(b"ls\x03"), (&b"ls\x03"[..], false));
    }
}
