//! What a user types to the server itself: `@` at the start of a line, and what follows. It reads keys and words; what
//! they do is `server`'s.

use core::fmt;

use heapless::{String, Vec};
use layout::limits::MAX_NAME;

use proto::lifecycle::Verb;

use crate::mixer::MAX_SOURCES;
use crate::set::Set;

/// Longest word of a command: the name of a VM, or a list of numbers or names.
const LONGEST: usize = 4 * MAX_NAME;

const ENTER: u8 = b'\r';
const LINE_FEED: u8 = b'\n';
const CTRL_C: u8 = 0x03;
const CTRL_D: u8 = 0x04;
const CTRL_U: u8 = 0x15;
const CTRL_Z: u8 = 0x1a;
const ESCAPE: u8 = 0x1b;
const BACKSPACE: u8 = 0x08;
const DELETE: u8 = 0x7f;

/// Where the typing is.
#[derive(Debug, Default)]
enum State {
    /// At the start of a line.
    #[default]
    LineStart,
    /// In a line for a console.
    InLine,
    /// Behind an `@` that began a line, in a word that Enter ends.
    Word(String<LONGEST>),
}

/// What a key does.
#[derive(Debug, PartialEq, Eq)]
pub enum Key {
    /// It goes to the consoles that are typed at.
    Through(u8),
    /// It belongs to a command, and appears as these bytes.
    Shown(Vec<u8, 3>),
    /// It ends a command.
    Run(Typed),
}

/// A command as typed.
#[derive(Debug, PartialEq, Eq)]
pub enum Typed {
    /// `@` and a digit.
    Digit(u8),
    /// `@?`.
    Help,
    /// `@`, a word, and Enter. It is on the screen already.
    Word(String<LONGEST>),
    /// It was given up.
    Nothing,
}

/// Reads keys.
#[derive(Debug, Default)]
pub struct Keys(State);

impl Keys {
    /// Takes a key.
    pub fn take(&mut self, key: u8) -> Key {
        match &mut self.0 {
            State::Word(word) => match (word.is_empty(), key) {
                (true, b'@') => {
                    self.0 = State::InLine;
                    Key::Through(b'@')
                }
                (true, b'0'..=b'9') => self.run(Typed::Digit(key - b'0')),
                (true, b'?') => self.run(Typed::Help),
                (_, ENTER | LINE_FEED) => {
                    let word = core::mem::take(word);
                    self.run(Typed::Word(word))
                }
                (_, CTRL_C | CTRL_D | CTRL_U | CTRL_Z | ESCAPE) => self.run(Typed::Nothing),
                (_, BACKSPACE | DELETE) if word.len() <= 1 => self.run(Typed::Nothing),
                (_, BACKSPACE | DELETE) => {
                    word.pop();
                    shown(b"\x08 \x08")
                }
                // The word begins on a line of the server's own, with the key that began it.
                (true, b' '..=b'~') if word.push(key.into()).is_ok() => shown(&[b'@', key]),
                (false, b' '..=b'~') if word.push(key.into()).is_ok() => shown(&[key]),
                _ => shown(b""),
            },
            State::LineStart if key == b'@' => {
                self.0 = State::Word(String::new());
                shown(b"")
            }
            _ => {
                let ends = matches!(key, ENTER | LINE_FEED | CTRL_C | CTRL_D | CTRL_Z);
                self.0 = if ends { State::LineStart } else { State::InLine };
                Key::Through(key)
            }
        }
    }

    fn run(&mut self, typed: Typed) -> Key {
        self.0 = State::LineStart;
        Key::Run(typed)
    }
}

fn shown(bytes: &[u8]) -> Key {
    Key::Shown(Vec::from_slice(bytes).unwrap_or_default())
}

/// What a word asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Typing at these consoles, by number.
    Input(Set),
    /// The next mode for finding faults.
    Debug,
    /// The size of the window, for consoles that can be told.
    Window { rows: u16, columns: u16 },
    /// The kernel's list of threads.
    Scheduler,
    /// Help.
    Help,
    /// A VM's lifecycle: what it is to do, or how it is.
    Vm { console: usize, verb: Option<Verb> },
}

/// In place of a verb: how the VM is.
const STATE: &str = "state";

/// Why a word is no order.
#[derive(Debug, PartialEq, Eq)]
pub enum Wrong<'a> {
    /// It is no command, and no console has this name.
    Word(&'a str),
    /// No console has this name or number.
    Console(&'a str),
}

impl fmt::Display for Wrong<'_> {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Word(word) => write!(f, "invalid command @{word}: type @? for help"),
            Self::Console(name) => write!(f, "there is no VM {name}: type @? for help"),
        }
    }
}

/// Reads a word. A console's name comes before a command that looks the same.
pub fn order<'a>(word: &'a str, names: &Vec<&str, MAX_SOURCES>) -> Result<Order, Wrong<'a>> {
    let word = word.trim();
    let named = |name: &str| names.iter().position(|other| *other == name);
    if let Some(console) = named(word) {
        return Ok(Order::Input(Set::of(console)));
    }
    match word {
        "" => return Err(Wrong::Word(word)),
        "d" => return Ok(Order::Debug),
        "s" => return Ok(Order::Scheduler),
        "h" | "help" => return Ok(Order::Help),
        "m" => return Ok(Order::Input((0..names.len()).collect())),
        _ => {}
    }
    if let Some(size) = word.strip_prefix("w ") {
        let mut numbers = size.split_whitespace().map(str::parse);
        return match (numbers.next(), numbers.next(), numbers.next()) {
            (Some(Ok(rows)), Some(Ok(columns)), None) => Ok(Order::Window { rows, columns }),
            _ => Err(Wrong::Word(word)),
        };
    }
    if let Some((name, verb)) = word.split_once(' ').and_then(|(name, last)| Some((name, verb(last.trim())?))) {
        return match named(name) {
            Some(console) => Ok(Order::Vm { console, verb }),
            None => Err(Wrong::Console(name)),
        };
    }
    // `@m 0 1`, `@m01`, `@m first second`.
    let list = word.strip_prefix('m').filter(|list| list.starts_with(|c: char| c == ' ' || c.is_ascii_digit()));
    let mut input = Set::NONE;
    for name in list.ok_or(Wrong::Word(word))?.split([' ', ',']).filter(|name| !name.is_empty()) {
        match named(name) {
            Some(console) => input = input.and(Set::of(console)),
            None => {
                for digit in name.chars() {
                    let console = digit.to_digit(10).map(|digit| digit as usize);
                    let console = console.filter(|console| *console < names.len()).ok_or(Wrong::Console(name))?;
                    input = input.and(Set::of(console));
                }
            }
        }
    }
    if input == Set::NONE { Err(Wrong::Word(word)) } else { Ok(Order::Input(input)) }
}

/// A verb, or the question for the state.
fn verb(word: &str) -> Option<Option<Verb>> {
    if word == STATE {
        return Some(None);
    }
    Verb::ALL.into_iter().find(|verb| verb.word() == word).map(Some)
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::{string::String as Text, vec::Vec as List};

    /// What goes through, and what is run.
    fn type_in(keys: &mut Keys, typed: &str) -> (Text, List<Typed>) {
        let (mut through, mut run) = (List::new(), List::new());
        for key in typed.bytes() {
            match keys.take(key) {
                Key::Through(byte) => through.push(byte),
                Key::Run(command) => run.push(command),
                Key::Shown(_) => {}
            }
        }
        (Text::from_utf8(through).unwrap(), run)
    }

    fn word(text: &str) -> Typed {
        Typed::Word(text.try_into().unwrap())
    }

    #[test]
    fn an_at_sign_is_a_command_at_the_start_of_a_line_only() {
        for (typed, through, command) in [
            ("@1", "", Some(Typed::Digit(1))),
            ("ls\r@1x", "ls\rx", Some(Typed::Digit(1))),
            ("a@1", "a@1", None),
            ("\x03@?", "\x03", Some(Typed::Help)),
            ("sleep\x1a@0", "sleep\x1a", Some(Typed::Digit(0))),
            ("\n@2", "\n", Some(Typed::Digit(2))),
            ("@@home\r", "@home\r", None),
            ("@@@1", "@@1", None),
            ("@second\rls", "ls", Some(word("second"))),
            ("@sed\x7fcond\r", "", Some(word("second"))),
            ("@x\x03ls", "ls", Some(Typed::Nothing)),
            ("@\x7fls", "ls", Some(Typed::Nothing)),
            ("@\r", "", Some(word(""))),
        ] {
            assert_eq!(
                type_in(&mut Keys::default(), typed),
                (through.into(), command.into_iter().collect()),
                "{typed:?}"
            );
        }
    }

    #[test]
    fn behind_a_command_a_line_begins() {
        let (through, run) = type_in(&mut Keys::default(), "@1@0@m 0 1\r@@x");
        assert_eq!((&*through, run), ("@x", std::vec![Typed::Digit(1), Typed::Digit(0), word("m 0 1")]));
    }

    #[test]
    fn a_word_is_shown_as_it_is_typed() {
        let mut keys = Keys::default();
        let shown: List<u8> = "@se\x7f\x1f"
            .bytes()
            .flat_map(|key| match keys.take(key) {
                Key::Shown(bytes) => bytes.to_vec(),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(shown, b"@se\x08 \x08");
    }

    #[test]
    fn an_endless_word_ends_at_enter() {
        let (through, run) = type_in(&mut Keys::default(), &std::format!("@{}\rls", "x".repeat(1000)));
        assert_eq!((&*through, run), ("ls", std::vec![word(&"x".repeat(LONGEST))]));
    }

    #[test]
    fn words_are_names_lists_or_letters() {
        let names = Vec::from_slice(&["first", "second", "m0", "d"]).unwrap();
        let input = |consoles: &[usize]| Ok(Order::Input(consoles.iter().copied().collect()));
        for (word, meant) in [
            ("second", input(&[1])),
            (" second ", input(&[1])),
            ("d", input(&[3])),
            ("m0", input(&[2])),
            ("m", input(&[0, 1, 2, 3])),
            ("m 0 1", input(&[0, 1])),
            ("m0 1", input(&[0, 1])),
            ("m01", input(&[0, 1])),
            ("m first,3", input(&[0, 3])),
            ("s", Ok(Order::Scheduler)),
            ("w 24 80", Ok(Order::Window { rows: 24, columns: 80 })),
            ("w  65535  0", Ok(Order::Window { rows: 65535, columns: 0 })),
            ("w 24", Err(Wrong::Word("w 24"))),
            ("w 24 80 1", Err(Wrong::Word("w 24 80 1"))),
            ("w 24 65536", Err(Wrong::Word("w 24 65536"))),
            ("w 24 -1", Err(Wrong::Word("w 24 -1"))),
            ("w", Err(Wrong::Word("w"))),
            ("help", Ok(Order::Help)),
            ("second stop", Ok(Order::Vm { console: 1, verb: Some(Verb::Stop) })),
            ("second  resume", Ok(Order::Vm { console: 1, verb: Some(Verb::Resume) })),
            ("d state", Ok(Order::Vm { console: 3, verb: None })),
            ("m0 reset", Ok(Order::Vm { console: 2, verb: Some(Verb::Reset) })),
            ("third pause", Err(Wrong::Console("third"))),
            ("second sing", Err(Wrong::Word("second sing"))),
            ("", Err(Wrong::Word(""))),
            ("x", Err(Wrong::Word("x"))),
            ("secnod", Err(Wrong::Word("secnod"))),
            ("mfirst", Err(Wrong::Word("mfirst"))),
            ("m 0 4", Err(Wrong::Console("4"))),
            ("m ,", Err(Wrong::Word("m ,"))),
            ("m third", Err(Wrong::Console("third"))),
        ] {
            assert_eq!(order(word, &names), meant, "{word:?}");
        }
        let names = Vec::from_slice(&["first"]).unwrap();
        assert_eq!(order("d", &names), Ok(Order::Debug));
    }
}
