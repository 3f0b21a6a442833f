//! What is wrong with a description: where, what, and what to do about it. A description's mistakes are reported all at
//! once, except that the first mistake of form (not TOML, an unknown key, a wrong type; see `form`) hides the rest.

use core::{fmt, ops::Range};

use miette::{Diagnostic, LabeledSpan, SourceCode};

use crate::description::{
    snippet::{Snippet, printable, sentence},
    text::Source,
};

/// How many mistakes of a description are shown: a screenful.
const SHOWN: usize = 3;

/// One mistake.
#[derive(Debug)]
pub struct Mistake {
    /// What is wrong.
    pub message: String,
    /// Where, in bytes of the description.
    pub span: Range<usize>,
    /// What to do.
    pub remedy: String,
    line: usize,
    snippet: Snippet,
}

/// All that is wrong with a description.
#[derive(Debug)]
pub struct Mistakes(pub Vec<Mistake>);

impl Mistake {
    /// A mistake in this file.
    pub fn new(source: &Source, span: Range<usize>, message: impl Into<String>, remedy: impl Into<String>) -> Self {
        let file = printable(&source.path.to_string_lossy());
        let snippet = Snippet::new(&file, &source.text, &span);
        let line = 1 + source.text.as_bytes().iter().take(span.start).filter(|&&byte| byte == b'\n').count();
        Mistake { message: sentence(&message.into()), span, remedy: sentence(&remedy.into()), line, snippet }
    }

    /// The line it is on, from 1.
    pub fn line(&self) -> usize {
        self.line
    }
}

/// The word of `known` that is closest to `wrong`, if close enough.
pub fn close<'a>(wrong: &str, known: &[&'a str]) -> Option<&'a str> {
    // No known word is as long, and comparing takes time proportional to the product of the lengths.
    const LONGEST: usize = 64;
    if wrong.len() > LONGEST {
        return None;
    }
    let scores = known.iter().map(|word| (strsim::jaro_winkler(wrong, word), *word));
    let (score, word) = scores.max_by(|a, b| a.0.total_cmp(&b.0))?;
    (score > 0.8).then_some(word)
}

/// The remedy for a word that is not in `known`.
pub(crate) fn nearest(wrong: &str, known: &[&str]) -> String {
    match close(wrong, known) {
        Some(word) => format!("did you mean `{word}`?"),
        None => format!("known here: {}", known.join(", ")),
    }
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Mistake {}

impl Diagnostic for Mistake {
    fn help(&self) -> Option<Box<dyn fmt::Display + '_>> {
        Some(Box::new(&self.remedy))
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        Some(&self.snippet)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let label = LabeledSpan::new_with_span(Some("here".to_string()), self.snippet.label());
        Some(Box::new(core::iter::once(label)))
    }
}

impl Mistakes {
    /// As an error to be shown: a single mistake needs no heading.
    pub fn report(mut self) -> miette::Report {
        if self.0.len() == 1 { self.0.remove(0).into() } else { self.into() }
    }

    /// Plain text, two lines per mistake: `FILE:LINE: MESSAGE` and `  REMEDY`.
    pub fn plain(&self) -> String {
        let line = |m: &Mistake| format!("{}:{}: {}\n  {}\n", m.snippet.file(), m.line(), m.message, m.remedy);
        self.0.iter().map(line).collect()
    }
}

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.len() {
            count if count > SHOWN => write!(f, "the description has {count} mistakes, of which these are {SHOWN}"),
            count => write!(f, "the description has {count} mistakes"),
        }
    }
}

impl std::error::Error for Mistakes {}

impl Diagnostic for Mistakes {
    fn related<'a>(&'a self) -> Option<Box<dyn Iterator<Item = &'a dyn Diagnostic> + 'a>> {
        Some(Box::new(self.0.iter().take(SHOWN).map(|mistake| mistake as &dyn Diagnostic)))
    }
}
