//! Colours the lines of VMs that share a console, by their labels, for the user's terminal. Nothing else is changed.

use std::io::{self, IsTerminal as _, Write};

/// SGR sequences (ECMA-48, 8.3.117) by VM, and for lines that several print alike: those that serial-server uses where a
/// description asks it for colours.
const COLOURS: [&str; 10] = [
    "\x1b[32m", "\x1b[33m", "\x1b[36m", "\x1b[35m", "\x1b[31m", "\x1b[92m", "\x1b[93m", "\x1b[96m", "\x1b[95m",
    "\x1b[91m",
];
const TOGETHER: &str = "\x1b[97m";
/// What a label ends with: of a line, and of the rest of one.
const ENDS: [&str; 2] = [": ", "| "];
const NO_COLOUR: &[u8] = b"\x1b[m";

/// Whether to colour what goes to standard output: not for a file or a pipe, nor where NO_COLOR is set.
pub fn wanted() -> bool {
    is_wanted(io::stdout().is_terminal(), std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty()))
}

const fn is_wanted(terminal: bool, no_colour: bool) -> bool {
    terminal && !no_colour
}

/// Passes on what it is given, in colours.
pub struct Paint<W> {
    into: W,
    vms: Vec<String>,
    /// The beginning of a line that may become a label; `None` behind it.
    start: Option<Vec<u8>>,
    coloured: bool,
}

impl<W: Write> Paint<W> {
    /// For the VMs of these names.
    pub fn new(into: W, vms: &[String]) -> Self {
        Self { into, vms: vms.to_vec(), start: Some(Vec::new()), coloured: false }
    }

    fn paint(&mut self, byte: u8, out: &mut Vec<u8>) {
        if let Some(mut start) = self.start.take() {
            start.push(byte);
            match self.label(&start) {
                Label::Colour(colour) => {
                    out.extend_from_slice(colour.as_bytes());
                    self.coloured = true;
                }
                Label::Maybe => {
                    self.start = Some(start);
                    return;
                }
                Label::No => {}
            }
            // A line end among it is its last byte.
            start.pop();
            out.append(&mut start);
        }
        if byte == b'\n' {
            if std::mem::take(&mut self.coloured) {
                out.extend_from_slice(NO_COLOUR);
            }
            self.start = Some(Vec::new());
        }
        out.push(byte);
    }

    /// Judges the beginning of a line: `first: `, `first| ` or `first+second: `.
    fn label(&self, start: &[u8]) -> Label {
        let start = String::from_utf8_lossy(start);
        let names: Vec<&str> = start.split('+').collect();
        let Some((last, before)) = names.split_last() else { return Label::No };
        let vm = |name: &str| self.vms.iter().position(|vm| vm == name);
        if !before.iter().all(|name| vm(name).is_some()) {
            return Label::No;
        }
        match ENDS.iter().find_map(|end| last.strip_suffix(end)).and_then(vm) {
            Some(number) if before.is_empty() => Label::Colour(COLOURS[number % COLOURS.len()]),
            Some(_) => Label::Colour(TOGETHER),
            None => {
                let begins = |vm: &String| ENDS.iter().any(|end| format!("{vm}{end}").starts_with(last));
                if self.vms.iter().any(begins) { Label::Maybe } else { Label::No }
            }
        }
    }
}

/// What the beginning of a line is.
enum Label {
    /// A label of this colour.
    Colour(&'static str),
    /// Too short to tell.
    Maybe,
    /// None.
    No,
}

impl<W: Write> Write for Paint<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut out = Vec::with_capacity(bytes.len() * 2);
        for &byte in bytes {
            self.paint(byte, &mut out);
        }
        self.into.write_all(&out)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.into.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn painted(printed: &str) -> String {
        let mut whole = Paint::new(Vec::new(), &["first".into(), "first-b".into()]);
        whole.write_all(printed.as_bytes()).unwrap();
        let mut pieces = Paint::new(Vec::new(), &["first".into(), "first-b".into()]);
        for byte in printed.bytes() {
            pieces.write_all(&[byte]).unwrap();
        }
        assert_eq!(whole.into, pieces.into);
        String::from_utf8(whole.into).unwrap()
    }

    #[test]
    fn lines_have_the_colour_of_their_vm() {
        assert_eq!(
            painted("first: a\r\nfirst-b: b\r\nfirst| c: d"),
            "\x1b[32mfirst: a\r\x1b[m\n\x1b[33mfirst-b: b\r\x1b[m\n\x1b[32mfirst| c: d"
        );
        assert_eq!(painted("first+first-b: a\r\n"), "\x1b[97mfirst+first-b: a\r\x1b[m\n");
    }

    #[test]
    fn all_else_stays_as_it_is() {
        for printed in
            ["first\r\n", "\r\n\n", "irq-server: first: x\r\n", "first-c: x\r\n", "+first: x\r\n", "first:x\r\n"]
        {
            assert_eq!(painted(printed), printed);
        }
        assert_eq!(painted("\x1b[32mfirst: a\r\x1b[m\n"), "\x1b[32mfirst: a\r\x1b[m\n", "it is coloured already");
    }

    #[test]
    fn files_and_those_who_refuse_get_no_colours() {
        assert!(is_wanted(true, false) && !is_wanted(false, false) && !is_wanted(true, true));
    }
}
