//! A VM's lifecycle, as its managers see it. A manager and the vmm-server share a page and signal each other; there is no
//! call, since a vmm-server that runs its guest receives none, and neither waits for the other. The signal's capability is
//! the right, and the page says whose it is: each manager has one of its own.
//!
//! A manager asks for one thing at a time. What it writes before the last answer is there replaces the last request.
//! Either side may write anything at any time: a word that means nothing is an unknown verb, or no answer.

use core::fmt;

use mmio::Window;
use serde::{Deserialize, Serialize};

/// Bytes of the page.
pub const PAGE: u64 = 4096;
/// Offset of the word that the manager writes: a number, and a verb in the lowest byte.
const REQUEST: u64 = 0;
/// Offset of the word that the vmm-server answers with: the request's number, and an answer in the lowest byte.
const ANSWER: u64 = 64;
/// Offset of the word with the VM's state in the lowest byte, and in the others how often it was started.
const STATE: u64 = 128;

/// What a manager may ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verb {
    /// It does not run any more, as after a power-off.
    Stop = 1,
    /// It boots from its images.
    Start,
    /// Both.
    Reset,
    /// It does not run until it is resumed, and its board's clocks stand still.
    Pause,
    /// It runs on.
    Resume,
    /// Its power button is pressed: its system shuts down, if it wants to.
    Shutdown,
    /// Its sleep button is pressed, likewise.
    Sleep,
}

/// What has become of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It is done.
    Done = 1,
    /// It has no effect in the VM's state.
    NotNow,
    /// This manager may not ask for it.
    Refused,
    /// There is no such verb, or the VM's board has no such button.
    Unknown,
}

/// How a VM is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Its process has not begun to run it.
    Absent,
    /// It runs.
    Running,
    /// It waits to be resumed.
    Paused,
    /// It has powered off, or was stopped.
    Off,
    /// It cannot run.
    Failed,
}

impl Verb {
    /// All of them.
    pub const ALL: [Verb; 7] =
        [Verb::Stop, Verb::Start, Verb::Reset, Verb::Pause, Verb::Resume, Verb::Shutdown, Verb::Sleep];

    /// Its bit in what a manager may do.
    pub const fn bit(self) -> u8 {
        1 << self as u8
    }

    /// As descriptions and users write it.
    pub const fn word(self) -> &'static str {
        match self {
            Verb::Stop => "stop",
            Verb::Start => "start",
            Verb::Reset => "reset",
            Verb::Pause => "pause",
            Verb::Resume => "resume",
            Verb::Shutdown => "shutdown",
            Verb::Sleep => "sleep",
        }
    }

    fn of(byte: u8) -> Option<Verb> {
        Self::ALL.into_iter().find(|verb| *verb as u8 == byte)
    }
}

impl Answer {
    fn of(byte: u8) -> Option<Answer> {
        [Answer::Done, Answer::NotNow, Answer::Refused, Answer::Unknown].into_iter().find(|one| *one as u8 == byte)
    }
}

impl State {
    /// Whether a VM in this state does what the verb says.
    pub const fn allows(self, verb: Verb) -> bool {
        match verb {
            Verb::Stop | Verb::Reset => matches!(self, State::Running | State::Paused),
            Verb::Start => matches!(self, State::Off),
            Verb::Pause | Verb::Shutdown | Verb::Sleep => matches!(self, State::Running),
            Verb::Resume => matches!(self, State::Paused),
        }
    }

    fn of(byte: u8) -> State {
        let all = [State::Running, State::Paused, State::Off, State::Failed];
        all.into_iter().find(|state| *state as u8 == byte).unwrap_or(State::Absent)
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            State::Absent => "not there yet",
            State::Running => "running",
            State::Paused => "paused",
            State::Off => "off",
            State::Failed => "failed",
        })
    }
}

/// A word of the page. It is there: the page is larger.
fn read(page: &Window, at: u64) -> u64 {
    page.read_u64(at).unwrap_or(0)
}

fn write(page: &Window, at: u64, number: u64, byte: u8) {
    let written = page.write_u64(at, number << 8 | u64::from(byte));
    debug_assert!(written.is_ok());
}

/// Number and lowest byte of a word.
const fn parts(word: u64) -> (u64, u8) {
    (word >> 8, word as u8)
}

/// A VM, for its manager. After a request, the manager signals the vmm-server, and is signalled when there is an answer, or
/// another state.
#[derive(Clone, Debug)]
pub struct Vm {
    page: Window,
    number: u64,
}

impl Vm {
    /// The VM behind this page. Continues the numbers of a predecessor.
    pub fn new(page: Window) -> Self {
        Self { page, number: parts(read(&page, REQUEST)).0 }
    }

    /// Asks for something. The caller signals the vmm-server.
    pub fn ask(&mut self, verb: Verb) {
        self.number = (self.number + 1) & (u64::MAX >> 8);
        write(&self.page, REQUEST, self.number, verb as u8);
    }

    /// The answer to the last request, when it is there.
    pub fn answer(&self) -> Option<Answer> {
        let (number, answer) = parts(read(&self.page, ANSWER));
        if number == self.number { Answer::of(answer) } else { None }
    }

    /// Its state.
    pub fn state(&self) -> State {
        State::of(parts(read(&self.page, STATE)).1)
    }

    /// How often it was started, resets included.
    pub fn starts(&self) -> u64 {
        parts(read(&self.page, STATE)).0
    }
}

/// A manager, for the vmm-server of its VM.
#[derive(Clone, Debug)]
pub struct Manager {
    page: Window,
    may: u8,
    /// The number of the last request that was taken.
    taken: u64,
    /// How often predecessors have started the VM.
    starts: u64,
}

impl Manager {
    /// The manager behind this page, which may ask for the verbs of these bits. What it asked of a predecessor counts as
    /// taken, whether it was carried out or not.
    pub fn new(page: Window, may: u8) -> Self {
        Self { page, may, taken: parts(read(&page, REQUEST)).0, starts: parts(read(&page, STATE)).0 }
    }

    /// Takes a new request; an error is the answer to one that the manager may not make.
    pub fn take(&mut self) -> Option<Result<Verb, Answer>> {
        let (number, verb) = parts(read(&self.page, REQUEST));
        if number == self.taken {
            return None;
        }
        self.taken = number;
        Some(match Verb::of(verb) {
            Some(verb) if self.may & verb.bit() != 0 => Ok(verb),
            Some(_) => Err(Answer::Refused),
            None => Err(Answer::Unknown),
        })
    }

    /// Whether the request that was taken last has no answer.
    pub fn is_owed(&self) -> bool {
        parts(read(&self.page, ANSWER)).0 != self.taken
    }

    /// Answers the request that was taken last.
    pub fn answer(&self, answer: Answer) {
        write(&self.page, ANSWER, self.taken, answer as u8);
    }

    /// Shows the VM's state, and how often this process has started it.
    pub fn show(&self, state: State, starts: u64) {
        write(&self.page, STATE, self.starts.wrapping_add(starts), state as u8);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::vec;

    fn page() -> Window {
        Window::leak(vec![0; PAGE as usize].leak())
    }

    fn both(may: u8) -> (Vm, Manager) {
        let page = page();
        (Vm::new(page), Manager::new(page, may))
    }

    #[test]
    fn a_request_is_taken_once_and_answered() {
        let (mut vm, mut manager) = both(0xff);
        assert_eq!(manager.take(), None);
        for verb in Verb::ALL {
            vm.ask(verb);
            assert_eq!(vm.answer(), None, "{verb:?}");
            assert_eq!((manager.take(), manager.take()), (Some(Ok(verb)), None));
            manager.answer(Answer::Done);
            assert_eq!(vm.answer(), Some(Answer::Done));
        }
    }

    #[test]
    fn what_a_manager_may_not_do_is_refused_one_verb_at_a_time() {
        for allowed in Verb::ALL {
            let (mut vm, mut manager) = both(allowed.bit());
            for verb in Verb::ALL {
                vm.ask(verb);
                let expected = if verb == allowed { Ok(verb) } else { Err(Answer::Refused) };
                assert_eq!(manager.take(), Some(expected), "{allowed:?} allows {verb:?}");
            }
        }
    }

    #[test]
    fn neither_side_repeats_what_a_predecessor_has_done() {
        let page = page();
        let mut vm = Vm::new(page);
        vm.ask(Verb::Reset);
        let mut manager = Manager::new(page, 0xff);
        assert_eq!((manager.take(), manager.is_owed()), (None, true));
        manager.answer(Answer::NotNow);
        assert_eq!((vm.answer(), manager.is_owed()), (Some(Answer::NotNow), false));
        let mut successor = Vm::new(page);
        successor.ask(Verb::Stop);
        assert_eq!(manager.take(), Some(Ok(Verb::Stop)));
    }

    #[test]
    fn a_state_is_shown_with_its_starts() {
        let (vm, manager) = both(0);
        assert_eq!((vm.state(), vm.starts()), (State::Absent, 0));
        for state in [State::Running, State::Paused, State::Off, State::Failed] {
            manager.show(state, 1000);
            assert_eq!((vm.state(), vm.starts()), (state, 1000));
        }
    }

    #[test]
    fn starts_count_on_when_the_process_is_restarted() {
        let page = page();
        Manager::new(page, 0).show(State::Running, 3);
        Manager::new(page, 0).show(State::Running, 1);
        assert_eq!(Vm::new(page).starts(), 4);
    }

    #[test]
    fn a_state_allows_what_changes_it() {
        let allowed = |state: State| Verb::ALL.into_iter().filter(|verb| state.allows(*verb)).collect::<vec::Vec<_>>();
        let running = [Verb::Stop, Verb::Reset, Verb::Pause, Verb::Shutdown, Verb::Sleep];
        assert_eq!(allowed(State::Running), running);
        assert_eq!(allowed(State::Paused), [Verb::Stop, Verb::Reset, Verb::Resume]);
        assert_eq!(allowed(State::Off), [Verb::Start]);
        assert!(allowed(State::Absent).is_empty() && allowed(State::Failed).is_empty());
    }

    proptest! {
        #[test]
        fn a_page_may_hold_anything(words in any::<[u64; 3]>()) {
            let page = page();
            let (mut vm, mut manager) = (Vm::new(page), Manager::new(page, 0x12));
            for (at, word) in [REQUEST, ANSWER, STATE].into_iter().zip(words) {
                page.write_u64(at, word).unwrap();
            }
            if let Some(Ok(verb)) = manager.take() {
                prop_assert!(0x12 & verb.bit() != 0);
            }
            prop_assert_eq!(manager.take(), None);
            let _ = (vm.answer(), vm.state(), vm.starts());
            vm.ask(Verb::Reset);
            let _ = vm.answer();
        }
    }
}
