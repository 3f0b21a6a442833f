//! The server's answers to commands. They are lines of its own, as a log's are, but never lost.

use core::fmt;

use heapless::{String, Vec};

use super::{Debug, Hardware, Server};
use crate::commands::{self, Order, Typed};
use crate::mixer::MAX_SOURCES;
use crate::set::Set;

/// Longest list of consoles in a line.
const LIST: usize = 200;

const HELP: [&str; 11] = [
    "at the start of a line, @ is a command:",
    "  @0 ... @9        type at this VM; @NAME and Enter, too",
    "  @m 0 1, Enter    type at several VMs, lines that are the same are printed once; @m, Enter: at all",
    "  @@               an @ for the VM",
    "  @NAME stop       stops this VM, if the console manages it; start, reset, pause, resume, state, too",
    "  @NAME shutdown   presses its power button, likewise; sleep, too",
    "  @d, Enter        debug mode: 0 off, 1 control characters are visible, 2 and typed bytes",
    "  @w 24 80, Enter  the window's rows and columns, for second consoles",
    "  @s, Enter        the kernel's threads (debug kernels)",
    "  @?               this help",
    "the VMs:",
];

impl<H: Hardware> Server<H> {
    pub(super) fn obey(&mut self, typed: &Typed) {
        let numbers: Vec<usize, MAX_SOURCES> = self.mixer.consoles().iter().collect();
        match typed {
            Typed::Digit(digit) => match numbers.get(usize::from(*digit)) {
                Some(&console) => self.move_input(Set::of(console)),
                None => self.say(format_args!("there is no VM {digit}: type @? for help")),
            },
            Typed::Help => self.help(),
            Typed::Nothing => {
                if let Some(own) = self.mixer.own() {
                    own.end_line();
                }
            }
            Typed::Word(word) => {
                let sources = self.mixer.sources();
                let names = numbers.iter().filter_map(|&n| sources.get(n)).map(|source| source.name.as_str()).collect();
                let order = commands::order(word, &names);
                drop(names);
                match order {
                    Ok(Order::Input(set)) => {
                        self.move_input(set.iter().filter_map(|number| numbers.get(number).copied()).collect());
                    }
                    Ok(Order::Debug) => self.next_debug(),
                    Ok(Order::Window { rows, columns }) => self.resize(rows, columns),
                    Ok(Order::Scheduler) => {
                        self.say(format_args!("the kernel's threads:"));
                        self.dump = true;
                    }
                    Ok(Order::Help) => self.help(),
                    Ok(Order::Vm { console, verb }) => {
                        let console = numbers.get(console).copied().map_or(Set::NONE, Set::of);
                        let name = self.names(console);
                        self.manage(&name, verb);
                    }
                    Err(wrong) => self.say(format_args!("{wrong}")),
                }
            }
        }
    }

    fn move_input(&mut self, input: Set) {
        self.mixer.set_input(input);
        let names = self.names(input);
        let once = if input.len() > 1 { "; lines that are the same are printed once" } else { "" };
        self.say(format_args!("input goes to {names}{once}"));
    }

    /// Tells all consoles the window's size, by the word of their rings. A UART has no register for it, so only guests with
    /// second consoles learn of it.
    fn resize(&mut self, rows: u16, columns: u16) {
        for (stream, input) in self.inputs.iter_mut().enumerate() {
            if let Some(input) = input {
                input.set_word(u32::from(rows) << 16 | u32::from(columns));
                self.hardware.signal(stream);
            }
        }
        self.say(format_args!("second consoles have {rows} rows and {columns} columns"));
    }

    fn help(&mut self) {
        for line in HELP {
            self.say(format_args!("{line}"));
        }
        for (number, n) in self.mixer.consoles().iter().enumerate() {
            let name = self.names(Set::of(n));
            let here = if self.mixer.input().contains(Set::of(n)) { ", which gets the input" } else { "" };
            self.say(format_args!("  {number}  {name}{here}"));
        }
    }

    fn next_debug(&mut self) {
        let (next, said) = match self.debug {
            Debug::Off => (Debug::Visible, "1, control characters are visible"),
            Debug::Visible => (Debug::Typed, "2, and typed bytes"),
            Debug::Typed => (Debug::Off, "0"),
        };
        self.debug = next;
        self.mixer.visible = next != Debug::Off;
        self.say(format_args!("debug mode {said}"));
    }

    pub(super) fn tell_typed(&mut self, byte: u8) {
        if self.debug == Debug::Typed {
            self.say(format_args!("typed {byte:#04x}"));
        }
    }

    /// Prints the kernel's threads: the line before has ended.
    pub(super) fn dump_now(&mut self) {
        self.dump = false;
        if !self.hardware.dump_scheduler() {
            self.say(format_args!("this kernel does not list them: a debug build of a current seL4 does"));
        }
    }

    /// Ceases to wait for consoles that take no input.
    pub(super) fn give_up(&mut self, deaf: Set) {
        self.deaf = self.deaf.and(deaf);
        let names = self.names(deaf);
        self.say(format_args!("{names} has not taken its input for a while: more is dropped until it does"));
    }

    pub(super) fn show(&mut self, bytes: &[u8]) {
        if let Some(own) = self.mixer.own() {
            own.add(bytes);
        }
    }

    pub(super) fn say(&mut self, line: fmt::Arguments) {
        if let Some(own) = self.mixer.own() {
            own.say(line);
        }
    }

    /// The names of consoles.
    fn names(&mut self, consoles: Set) -> String<LIST> {
        let mut names = String::new();
        for n in consoles.iter() {
            let Some(source) = self.mixer.sources().get(n) else { continue };
            let separator = if names.is_empty() { "" } else { ", " };
            // What does not fit is left out.
            let _ = names.push_str(separator).and_then(|()| names.push_str(&source.name));
        }
        names
    }
}
