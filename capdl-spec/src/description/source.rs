//! A description as text: reads it from a file, and reports files that hold no description.

use std::{fs::File, io::Read, path::Path};

use crate::description::{
    file,
    mistake::{Mistake, Mistakes},
    snippet::printable,
    text::Source,
};

/// Bytes of the longest description. This project's systems have one or two thousand.
const LONGEST: usize = 1 << 20;

/// A description cannot be read at all.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
#[error("cannot read {path}: it {why}")]
#[diagnostic(help("descriptions are the systems/NAME.toml files"))]
struct Unreadable {
    path: String,
    why: String,
}

impl Source {
    /// Reads a description.
    pub fn read(path: &Path) -> miette::Result<Source> {
        let unreadable = |why| Unreadable { path: printable(&path.to_string_lossy()), why };
        let mut bytes = Vec::new();
        // `of` reports an empty description, with what belongs in it.
        if !path.metadata().is_ok_and(|about| about.is_file() && about.len() == 0) {
            file::examine(path).map_err(unreadable)?;
            let file = File::open(path).and_then(|file| file.take(LONGEST as u64 + 1).read_to_end(&mut bytes));
            file.map_err(|error| unreadable(format!("fails: {error}")))?;
        }
        Source::of(path, &bytes).map_err(Mistakes::report)
    }

    /// The text in a file's bytes, which has to be UTF-8.
    pub fn of(path: &Path, bytes: &[u8]) -> Result<Source, Mistakes> {
        let path = path.to_path_buf();
        let mistake = |source: &Source, span, message: &str, remedy| {
            Err(Mistakes(vec![Mistake::new(source, span, message, remedy)]))
        };
        let whole = |text: &str| Source { path: path.clone(), text: text.to_string() };
        if bytes.len() > LONGEST {
            let message = format!("the file is longer than {LONGEST} bytes, which no description needs");
            return mistake(&whole(""), 0..0, &message, "descriptions are the systems/NAME.toml files");
        }
        let utf16 = bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]);
        if utf16 || bytes.iter().take(64).filter(|&&byte| byte == 0).count() > 8 {
            let remedy = "save it as UTF-8; PowerShell: Set-Content -Encoding utf8";
            return mistake(&whole(""), 0..0, "the description is UTF-16, not UTF-8", remedy);
        }
        match core::str::from_utf8(bytes) {
            Ok(text) if text.trim().is_empty() => {
                let remedy = "copy systems/minimal.toml and change it";
                mistake(&whole(""), 0..0, "the description is empty", remedy)
            }
            Ok(text) => Ok(whole(text)),
            Err(error) => {
                let at = error.valid_up_to();
                let byte = bytes.get(at).copied().unwrap_or_default();
                let source = whole(&String::from_utf8_lossy(bytes));
                let message = format!("the byte {byte:#04x} here is not UTF-8");
                let remedy = "save it as UTF-8: iconv -f latin1 -t utf8";
                // The replacement character takes three bytes in place of one.
                mistake(&source, at..at + 3, &message, remedy)
            }
        }
    }
}
