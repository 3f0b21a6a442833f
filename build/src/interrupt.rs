//! Cleans up when the tool is interrupted: ends emulators that it started, and leaves the terminal's raw mode.
//!
//! SIGINT, SIGTERM and SIGHUP end the tool. An emulator runs in its own process group, which a terminal's Ctrl-C does
//! not reach, so this kills the group by its id.

use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};

use rustix::process::{Pid, Signal};
use rustix::termios::Termios;

#[derive(Default)]
struct Pending {
    groups: Vec<Pid>,
    terminal: Option<Termios>,
}

static PENDING: LazyLock<Mutex<Pending>> = LazyLock::new(Mutex::default);

/// Ends the tool at SIGINT, SIGTERM and SIGHUP: kills what it started, restores the terminal, exits with 130.
pub fn install() {
    // An error means that a handler is installed already, which can only be this one.
    let _ = ctrlc::set_handler(|| {
        clean_up();
        std::process::exit(130);
    });
}

/// Kills every remaining process group and restores the terminal.
pub fn clean_up() {
    let mut pending = pending();
    for group in pending.groups.drain(..) {
        let _ = rustix::process::kill_process_group(group, Signal::KILL);
    }
    if let Some(saved) = pending.terminal.take() {
        let _ = rustix::termios::tcsetattr(rustix::stdio::stdin(), rustix::termios::OptionalActions::Now, &saved);
    }
}

/// Remembers a process group to kill.
pub fn remember_group(group: Pid) {
    pending().groups.push(group);
}

/// Kills a process group and forgets it.
pub fn kill_group(group: Pid) {
    let mut pending = pending();
    let before = pending.groups.len();
    pending.groups.retain(|other| *other != group);
    // Only a group that was not yet forgotten: its id may belong to another process by now.
    if pending.groups.len() < before {
        let _ = rustix::process::kill_process_group(group, Signal::KILL);
    }
}

/// Remembers the terminal settings to restore.
pub fn remember_terminal(saved: Termios) {
    pending().terminal = Some(saved);
}

/// Restores the terminal settings now.
pub fn restore_terminal() {
    let saved = pending().terminal.take();
    if let Some(saved) = saved {
        let _ = rustix::termios::tcsetattr(rustix::stdio::stdin(), rustix::termios::OptionalActions::Now, &saved);
    }
}

fn pending() -> MutexGuard<'static, Pending> {
    PENDING.lock().unwrap_or_else(PoisonError::into_inner)
}
