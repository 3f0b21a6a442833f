//! Text that is not TOML: what the user probably meant by the line, and how to write that.

use core::ops::Range;

use crate::description::keys::{KEYS, Key};

/// What is wrong and what to do, where the parser stopped with this message of its own.
pub(super) fn explain(text: &str, span: &Range<usize>, message: &str) -> (String, String) {
    let line = StopLine::at(text, span.start);
    let known = if message.contains("duplicate key") {
        let key = text.get(span.clone()).unwrap_or("the key").trim();
        Some((format!("`{key}` is written already"), "a key stands once in its table: leave one of the two out".into()))
    } else {
        json(text)
            .or_else(|| line.typographic())
            .or_else(|| line.other_language())
            .or_else(|| line.assignment(message))
            .or_else(|| line.odd_quotes())
    };
    known.or_else(|| by_message(message)).unwrap_or_else(|| (message.to_string(), fallback(message).to_string()))
}

fn json(text: &str) -> Option<(String, String)> {
    let remedy = "copy systems/minimal.toml and change it";
    text.trim_start().starts_with('{').then(|| ("a description is TOML, not JSON".into(), remedy.into()))
}

/// The remedy for a message that needs no other words.
pub(super) fn fallback(message: &str) -> &'static str {
    if message.contains("control") || message.contains("invalid basic string") {
        "a text stands in quotes on one line; other characters than printable ones are written as \\uXXXX"
    } else {
        "see systems/minimal.toml for a description that is well formed"
    }
}

/// The meaning of the parser's messages where the line itself does not show it: a part of the message, what is wrong,
/// and the remedy.
const MESSAGES: &[(&[&str], &str, &str)] = &[
    (
        &["missing comma", "extra assignment"],
        "a comma is missing",
        "entries of a list or a table in braces are separated by commas",
    ),
    (&["unclosed array table"], "this heading has no end", "a heading has as many ] as [, like [[vm]]"),
    (&["unclosed table"], "this heading has no end", "a heading has as many ] as [, like [policy]"),
    (&["unclosed array"], "the list that begins here has no end", "write a ] behind its last entry"),
    (
        &["inline table"],
        "this is no entry of a table in braces",
        "a table in braces is { KEY = VALUE, KEY = VALUE }, with a } at its end",
    ),
    (
        &["missing assignment", "key with no value"],
        "there is no = between a key and its value",
        "write KEY = VALUE, such as memory = \"128 MiB\"",
    ),
    (
        &["array opening", "table open", "key-value pair"],
        "a key or a heading belongs here",
        "write KEY = VALUE or [[vm]]; a list begins with [ and ends with ], on one line or on several",
    ),
    (
        &["cannot extend"],
        "what is before the last dot has a value already, and is no table",
        "write the key without a dot, below the heading of its table",
    ),
    (&["keys cannot be empty"], "there is no key before the =", "write KEY = VALUE, such as memory = \"128 MiB\""),
    (
        &["unexpected key or value"],
        "something is left over behind a value or a heading",
        "leave it out: a line has one key and its value, and brackets are in pairs",
    ),
    (
        &["must be quoted"],
        "this is no value",
        "write a text in quotes, a number, true or false, a list in [ ], or a table in { }",
    ),
];

fn by_message(message: &str) -> Option<(String, String)> {
    let fits = |(pieces, ..): &&(&[&str], &str, &str)| pieces.iter().any(|piece| message.contains(piece));
    MESSAGES.iter().find(fits).map(|(_, wrong, remedy)| (wrong.to_string(), remedy.to_string()))
}

/// The line in which the parser stopped.
struct StopLine<'a> {
    /// The line without surrounding blanks and comment.
    text: &'a str,
    /// The piece between separators in which the parser stopped.
    piece: &'a str,
    /// The entry of a table in braces, or the whole line, that the piece is the value of.
    key: Option<&'a str>,
}

impl<'a> StopLine<'a> {
    fn at(text: &'a str, at: usize) -> Self {
        let at = (0..=at.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        let (before, behind) = text.split_at(at);
        let start = before.rfind('\n').map_or(0, |end| end + 1);
        let end = at + behind.find('\n').unwrap_or(behind.len());
        let line = without_comment(text.get(start..end).unwrap_or_default());
        let at = (at - start).min(line.len());
        let (before, behind) = line.split_at(at);
        let from = before.rfind(['[', '{', ',', '=']).map_or(0, |separator| separator + 1);
        let to = at + behind.find([']', '}', ',']).unwrap_or(behind.len());
        let head = before.get(..from).unwrap_or_default().trim_end_matches([' ', '[', '\t']);
        let key = head.strip_suffix('=').map(|head| head.rsplit(['{', ',', '[']).next().unwrap_or(head).trim());
        StopLine { text: line.trim(), piece: line.get(from..to).unwrap_or_default().trim(), key }
    }

    /// Quotes that a word processor has made.
    fn typographic(&self) -> Option<(String, String)> {
        const QUOTES: [char; 8] = ['“', '”', '„', '‘', '’', '«', '»', '‟'];
        let quote = self.text.chars().find(|c| QUOTES.contains(c))?;
        let plain = self.text.replace(QUOTES, "\"");
        Some((format!("`{quote}` is no quotation mark of TOML"), format!("write plain ones: {plain}")))
    }

    /// A line in the syntax of other languages.
    fn other_language(&self) -> Option<(String, String)> {
        let text = self.text;
        let say = |wrong: &str, remedy: String| Some((wrong.to_string(), remedy));
        if text.starts_with("//") || text.starts_with("/*") || text.starts_with(';') || text.starts_with("--") {
            return say("this is no comment", "a comment begins with #".into());
        }
        let separated = |text: &'a str| {
            let (key, value) = text.split_at(text.find([':', '='])?);
            let written = key.trim().starts_with(|c: char| c.is_ascii_alphabetic());
            Some((key.trim(), value.strip_prefix(':')?.trim())).filter(|(key, _)| written && is_key(key))
        };
        if let Some((key, value)) = separated(text).or_else(|| separated(self.piece)) {
            return say("a key and its value are separated by =", format!("write {}", assignment(key, value)));
        }
        let inner = text.trim_matches(['[', ']', '(', ')', ';', ',', '.', '=', ' ']);
        if (text.starts_with(['[', '(']) || text.ends_with(']')) && is_key(inner) {
            let wrong = "this is no heading of a table";
            return say(
                wrong,
                "a heading is alone on its line, like [[vm]] for a list of tables, or [policy] for one".into(),
            );
        }
        if text.contains('=') || !is_key(text.split_whitespace().next().unwrap_or_default()) {
            return None;
        }
        let example = known(text).map_or("memory = \"128 MiB\"", |key| key.example);
        say("this line has no value", format!("write KEY = VALUE, such as {example}; a comment begins with #"))
    }

    /// A quotation mark that is alone in its line.
    fn odd_quotes(&self) -> Option<(String, String)> {
        let odd = self.text.matches('"').count() % 2 == 1;
        let remedy = "a text has one at its beginning and one at its end, on the same line";
        odd.then(|| ("a quotation mark in this line is alone".into(), remedy.into()))
    }

    /// A key whose value is not well formed.
    fn assignment(&self, message: &str) -> Option<(String, String)> {
        let (left, right) = self.text.split_once('=').unwrap_or(("", self.text));
        let (left, right) = (left.trim(), right.trim());
        // The value goes to the end of the line, or is one of several in the line.
        let alone = is_key(left) && !right.starts_with(['[', '{']);
        let key = if alone { left } else { self.key.unwrap_or(left) };
        let piece = if alone { right } else { self.piece };
        if piece.is_empty() {
            let example = known(key).map_or("memory = \"128 MiB\"", |key| key.example);
            return alone.then(|| (format!("`{key}` has no value"), format!("write for example: {example}")));
        }
        if piece.starts_with(['"', '\'']) {
            return if alone { quoted(key, piece, message) } else { None };
        }
        if message.contains("comma") || message.contains("extra assignment") || message.contains("unclosed") {
            return None;
        }
        is_key(key).then(|| bare(key, piece, alone))
    }
}

/// A value that begins with a quotation mark.
fn quoted(key: &str, value: &str, message: &str) -> Option<(String, String)> {
    let mark = value.chars().next()?;
    let inner = value.get(1..)?;
    if mark == '"' && inner.contains('\\') && !message.contains("newline") {
        let remedy = "a path has / between its folders; a \\ itself is written \\\\";
        return Some(("a \\ in a text begins an escape, and this is none".into(), remedy.into()));
    }
    match inner.find(mark) {
        None => {
            Some((format!("the text of `{key}` has no end"), format!("write {key} = {mark}{inner}{mark}, on one line")))
        }
        Some(end) => {
            let rest = inner.get(end + 1..)?.trim();
            let whole = inner.get(..end)?;
            let remedy = format!("leave it out, and nothing else behind the value: {key} = {mark}{whole}{mark}");
            (!rest.is_empty()).then(|| (format!("`{rest}` stands behind the value of `{key}`"), remedy))
        }
    }
}

/// A value without quotation marks.
fn bare(key: &str, value: &str, alone: bool) -> (String, String) {
    let write = |value: &str| if alone { format!("{key} = {value}") } else { value.to_string() };
    let lower = value.to_ascii_lowercase();
    let number = value.strip_prefix(['+', '-']).unwrap_or(value);
    let example = known(key).map_or("", |key| key.example);
    let of_numbers = !example.is_empty() && !example.contains('"');
    match lower.as_str() {
        "true" | "yes" | "on" if of_numbers => {
            return (format!("`{value}` is no value"), format!("write {}", write("true")));
        }
        "false" | "no" | "off" if of_numbers => {
            return (format!("`{value}` is no value"), format!("write {}", write("false")));
        }
        "none" | "null" | "nil" => return (format!("`{value}` is no value"), format!("leave `{key}` out")),
        _ => {}
    }
    if of_numbers && number.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        let remedy = format!("a hexadecimal number begins with 0x, like 0x{number}; a decimal one not with 0");
        return (format!("`{value}` is no number"), remedy);
    }
    let unquoted = value.trim_matches(['"', '\'']);
    (
        format!("the value of `{key}` is not in quotes"),
        format!("put it in quotes: {}", write(&format!("\"{unquoted}\""))),
    )
}

/// The corrected value: a text gets quotes.
fn assignment(key: &str, value: &str) -> String {
    let plain = value.starts_with(['"', '\'', '[', '{']) || value.parse::<i64>().is_ok();
    match (value.is_empty(), known(key)) {
        (true, Some(key)) => key.example.to_string(),
        (true, None) => format!("{key} = VALUE"),
        _ if plain || value == "true" || value == "false" => format!("{key} = {value}"),
        _ => format!("{key} = \"{value}\""),
    }
}

fn known(name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.name == name)
}

/// Whether it is a bare key of TOML.
fn is_key(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.'))
}

/// A line up to the first # outside a text.
fn without_comment(line: &str) -> &str {
    let mut open = None;
    for (at, c) in line.char_indices() {
        match (c, open) {
            ('#', None) => return line.get(..at).unwrap_or(line),
            ('"' | '\'', None) => open = Some(c),
            (_, Some(mark)) if c == mark => open = None,
            _ => {}
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The remedy for a line that the parser refuses at `at`.
    fn remedy(line: &str, at: &str, message: &str) -> String {
        let start = line.find(at).expect("it is in the line");
        explain(line, &(start..start + 1), message).1
    }

    #[test]
    fn what_a_line_means_is_written_out() {
        for (line, at, said) in [
            ("memory = 128 MiB # of RAM", "128", "put it in quotes: memory = \"128 MiB\""),
            ("pci_devices = [{ address = 00:01.1, dma = \"trusted\" }]", "00:01", "put it in quotes: \"00:01.1\""),
            ("services = [\"timer\", serial]", "serial", "put it in quotes: \"serial\""),
            ("memory: 128 MiB", ":", "write memory = \"128 MiB\""),
            ("slot: 2", ":", "write slot = 2"),
            ("pci_enumerate = Yes", "Yes", "write pci_enumerate = true"),
            ("initrd = null", "null", "leave `initrd` out"),
            ("name = \"linux", "\"", "write name = \"linux\", on one line"),
        ] {
            assert_eq!(remedy(line, at, "expected something"), said, "{line}");
        }
    }

    #[test]
    fn a_mark_in_a_text_begins_no_comment() {
        assert_eq!(without_comment("a = \"#1\" # one"), "a = \"#1\" ");
        assert_eq!(without_comment("a = '\"#' # one"), "a = '\"#' ");
    }

    #[test]
    fn any_line_and_place_has_an_answer() {
        for line in ["", "=", "==", "\"", "a = \"", "[", "{", "a = [", "é = “", "a = é é", "#", "a=[{b=", "'\\"] {
            for at in 0..=line.len() + 1 {
                let (wrong, remedy) = explain(line, &(at..at + 1), "expected something");
                assert!(!wrong.is_empty() && !remedy.is_empty(), "{line} {at}");
            }
        }
    }
}
