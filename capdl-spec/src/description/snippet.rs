//! The lines that are shown around a mistake: no line is wider than a terminal, and characters that would move the
//! cursor or hide text are escaped.

use core::ops::Range;

use miette::{MietteError, MietteSpanContents, SourceCode, SourceSpan, SpanContents};

/// How many characters of a line are shown, and how many of them come before the mistake.
const WIDTH: usize = 100;
const BEFORE: usize = 40;

/// The lines around a mistake.
#[derive(Debug)]
pub(crate) struct Snippet {
    file: String,
    text: String,
    /// Of the first line of `text`, from 0.
    line: usize,
    /// In `text`.
    label: Range<usize>,
    /// Where the mistake begins in its line of the description, in bytes.
    column: usize,
}

impl Snippet {
    /// The line that `span` begins in, with the lines before and after it.
    pub fn new(file: &str, text: &str, span: &Range<usize>) -> Self {
        let start = span.start.min(text.len());
        let number = text.as_bytes().iter().take(start).filter(|&&byte| byte == b'\n').count();
        let first = number.saturating_sub(1);
        let mut snippet = Snippet { file: file.to_string(), text: String::new(), line: first, label: 0..0, column: 0 };
        let mut at = 0;
        for (n, line) in text.split_inclusive('\n').enumerate().take(number + 2) {
            let inside = start.saturating_sub(at)..span.end.saturating_sub(at).min(line.trim_end().len());
            at += line.len();
            match n {
                _ if n < first => {}
                _ if n == number => {
                    let begin = snippet.text.len();
                    let (shown, label) = clip(line.trim_end(), &inside);
                    snippet.text += &shown;
                    snippet.label = begin + label.start..begin + label.end;
                    snippet.column = inside.start;
                    snippet.text.push('\n');
                }
                _ => {
                    snippet.text += &clip(line.trim_end(), &(0..0)).0;
                    snippet.text.push('\n');
                }
            }
        }
        if snippet.text.is_empty() {
            snippet.text.push('\n');
        }
        snippet
    }

    /// What is wrong, in bytes of the snippet.
    pub fn label(&self) -> Range<usize> {
        self.label.clone()
    }

    /// The file's name.
    pub fn file(&self) -> &str {
        &self.file
    }
}

impl SourceCode for Snippet {
    fn read_span<'a>(
        &'a self,
        span: &SourceSpan,
        before: usize,
        after: usize,
    ) -> Result<Box<dyn SpanContents<'a> + 'a>, MietteError> {
        let inner = self.text.read_span(span, before, after)?;
        // miette asks for the mistake alone, without context, to learn where it is.
        let column = if before == 0 { self.column } else { inner.column() };
        let (file, line) = (self.file.clone(), inner.line() + self.line);
        let contents =
            MietteSpanContents::new_named(file, inner.data(), *inner.span(), line, column, inner.line_count());
        Ok(Box::new(contents))
    }
}

/// A line as it is shown, and the position in it of a range of the original bytes.
fn clip(line: &str, range: &Range<usize>) -> (String, Range<usize>) {
    let target = line.char_indices().take_while(|(at, _)| *at < range.start).count();
    let skipped = if line.chars().count() > WIDTH { target.saturating_sub(BEFORE) } else { 0 };
    let mut shown = if skipped == 0 { String::new() } else { "…".to_string() };
    let mut label = None;
    let mut end = None;
    let mut chars = line.char_indices().skip(skipped);
    for (at, c) in chars.by_ref().take(WIDTH) {
        if at >= range.start {
            label.get_or_insert(shown.len());
        }
        if at >= range.end {
            end.get_or_insert(shown.len());
        }
        match c {
            '\t' => shown.push(' '),
            _ => shown += &printable(c.encode_utf8(&mut [0; 4])),
        }
    }
    let (label, end) = (label.unwrap_or(shown.len()), end.unwrap_or(shown.len()));
    if chars.next().is_some() {
        shown.push('…');
    }
    (shown, label..end.max(label))
}

/// Makes text of unknown origin safe for a terminal: escapes control characters, and those that reorder or hide text,
/// as Rust does. Line ends stay.
pub fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        let hidden =
            matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}');
        match c {
            '\n' => shown.push(c),
            _ if c.is_control() || hidden => shown.extend(c.escape_default()),
            _ => shown.push(c),
        }
    }
    shown
}

/// How many characters of a quotation are shown.
const QUOTED: usize = 64;

/// A sentence that is safe for a terminal, with quotations in backquotes cut so that each fits on a line.
pub(crate) fn sentence(text: &str) -> String {
    let cut = |part: &str, most: usize| match part.char_indices().nth(most) {
        Some((at, _)) => format!("{}…", part.get(..at).unwrap_or_default()),
        None => part.to_string(),
    };
    let parts: Vec<String> = text.split('`').map(|part| cut(&printable(part), QUOTED.max(part_limit(text)))).collect();
    cut(&parts.join("`"), 8 * WIDTH)
}

/// Sentences of this crate may be longer than a quotation: those that quote little are left whole.
fn part_limit(text: &str) -> usize {
    if text.len() < 8 * QUOTED { text.len() } else { QUOTED }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_line_is_shown_whole() {
        let snippet = Snippet::new("x", "a = 1\nb = two\nc = 3\nd = 4\n", &(10..13));
        assert_eq!((snippet.text.as_str(), snippet.line, snippet.column), ("a = 1\nb = two\nc = 3\n", 0, 4));
        assert_eq!(&snippet.text[snippet.label()], "two");
    }

    #[test]
    fn of_a_long_line_what_is_around_the_mistake_is_shown() {
        let line = format!("{} = \"{}\"\n", "k".repeat(300), "é".repeat(3000));
        let snippet = Snippet::new("x", &line, &(303..line.len() - 1));
        assert!(snippet.text.chars().count() < WIDTH + 4, "{}", snippet.text);
        assert!(snippet.text[snippet.label()].starts_with("\"éé"), "{}", snippet.text);
    }

    #[test]
    fn a_mistake_that_spans_lines_is_shown_at_its_first() {
        let snippet = Snippet::new("x", "[a]\nb = 1\nc = 2\n", &(0..15));
        assert_eq!(&snippet.text[snippet.label()], "[a]");
    }

    #[test]
    fn at_the_end_and_in_nothing_there_is_a_place_too() {
        for (text, span) in [("", 0..0), ("a", 1..1), ("a\n", 2..2), ("a\n", 7..9)] {
            let snippet = Snippet::new("x", text, &span);
            assert!(snippet.label().end <= snippet.text.len(), "{text:?} {span:?}");
        }
    }

    #[test]
    fn what_moves_the_cursor_is_written_as_an_escape() {
        assert_eq!(printable("a\x08b\x1b[31m\u{202e}c\n"), "a\\u{8}b\\u{1b}[31m\\u{202e}c\n");
        assert_eq!(printable("Müller 𝄞"), "Müller 𝄞");
        let snippet = Snippet::new("x", "a = \"\x08\x08\x08\"\n", &(4..9));
        assert_eq!(&snippet.text[snippet.label()], "\"\\u{8}\\u{8}\\u{8}\"");
    }

    #[test]
    fn a_long_quotation_is_cut_and_its_sentence_is_not() {
        let said = sentence(&format!("`{}` is not a name", "x".repeat(1 << 20)));
        assert!(said.ends_with("x…` is not a name") && said.len() < 100, "{said}");
        let said = sentence("`./a\x08b` does not exist");
        assert_eq!(said, "`./a\\u{8}b` does not exist");
    }
}
