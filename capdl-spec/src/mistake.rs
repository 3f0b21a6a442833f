//! What is wrong with a description: where, what, and what to do about it. A description's mistakes are reported all at
//! once, except that the first mistake of form (not TOML, an unknown key, a wrong type) hides the rest.

use core::{fmt, ops::Range};

use miette::{Diagnostic, LabeledSpan, NamedSource, SourceCode};

use crate::system::Source;

/// One mistake.
#[derive(Debug)]
pub struct Mistake {
    /// What is wrong.
    pub message: String,
    /// Where, in bytes of the description.
    pub span: Range<usize>,
    /// What to do.
    pub remedy: String,
    file: NamedSource<String>,
}

/// All that is wrong with a description.
#[derive(Debug)]
pub struct Mistakes(pub Vec<Mistake>);

impl Mistake {
    /// A mistake in this file.
    pub fn new(source: &Source, span: Range<usize>, message: impl Into<String>, remedy: impl Into<String>) -> Self {
        let file = NamedSource::new(source.path.to_string_lossy(), source.text.clone()).with_language("TOML");
        Mistake { message: message.into(), span, remedy: remedy.into(), file }
    }

    /// The line it is on, from 1.
    pub fn line(&self) -> usize {
        let text = self.file.inner().as_bytes();
        1 + text.iter().take(self.span.start).filter(|&&byte| byte == b'\n').count()
    }

    /// Turns the parser's message into ours. Messages of this crate carry their remedy on a second line; those about
    /// unknown words list the known ones in backquotes, and the nearest becomes the remedy.
    pub(crate) fn of_form(source: &Source, error: &toml::de::Error) -> Self {
        let span = error.span().unwrap_or(0..0);
        let text = error.message();
        if let Some((message, remedy)) = text.split_once('\n') {
            return Self::new(source, span, message, remedy);
        }
        let words: Vec<&str> = text.split('`').skip(1).step_by(2).collect();
        match words.split_first() {
            Some((wrong, known)) if text.starts_with("unknown field") => {
                Self::new(source, span, format!("unknown key `{wrong}`"), nearest(wrong, known))
            }
            Some((wrong, known)) if text.starts_with("unknown variant") => {
                Self::new(source, span, format!("unknown word `{wrong}`"), nearest(wrong, known))
            }
            Some((key, _)) if text.starts_with("missing field") => {
                Self::new(source, span, format!("`{key}` is missing"), example(key))
            }
            _ => Self::new(source, span, text, "see systems/minimal.toml for a description that is well formed"),
        }
    }
}

/// The word of `known` that `wrong` was meant to be, if one is close enough.
pub fn close<'a>(wrong: &str, known: &[&'a str]) -> Option<&'a str> {
    let scores = known.iter().map(|word| (strsim::jaro_winkler(wrong, word), *word));
    let (score, word) = scores.max_by(|a, b| a.0.total_cmp(&b.0))?;
    (score > 0.8).then_some(word)
}

/// The remedy for a word that is none of `known`.
pub(crate) fn nearest(wrong: &str, known: &[&str]) -> String {
    match close(wrong, known) {
        Some(word) => format!("did you mean `{word}`?"),
        None => format!("known here: {}", known.join(", ")),
    }
}

/// The remedy for a key that is missing.
fn example(key: &str) -> String {
    let line = match key {
        "board" => "board = \"bochs\"",
        "name" => "name = \"linux\"",
        "memory" => "memory = \"128 MiB\"",
        "kernel" => "kernel = \"debian-686\"",
        "image" => "image = \"./component.elf\"",
        _ => return "add it".to_string(),
    };
    format!("add a line such as: {line}")
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
        Some(&self.file)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let label = LabeledSpan::new_with_span(Some("here".to_string()), self.span.clone());
        Some(Box::new(core::iter::once(label)))
    }
}

impl Mistakes {
    /// Plain text, two lines per mistake: `FILE:LINE: MESSAGE` and `  REMEDY`.
    pub fn plain(&self) -> String {
        let line = |m: &Mistake| format!("{}:{}: {}\n  {}\n", m.file.name(), m.line(), m.message, m.remedy);
        self.0.iter().map(line).collect()
    }
}

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the description has {} mistakes", self.0.len())
    }
}

impl std::error::Error for Mistakes {}

impl Diagnostic for Mistakes {
    fn related<'a>(&'a self) -> Option<Box<dyn Iterator<Item = &'a dyn Diagnostic> + 'a>> {
        Some(Box::new(self.0.iter().map(|mistake| mistake as &dyn Diagnostic)))
    }
}
