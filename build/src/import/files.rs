//! The files of a capture, and places in them, since every number in the result and every error names the line that it
//! came from.

use std::ops::Range;
use std::path::Path;

use capdl_spec::host::{Mistake, Source};
use miette::{Context, IntoDiagnostic, Report, Result};

/// The user's files.
#[derive(Debug, Default)]
pub struct Files(Vec<Source>);

/// A line of one of the files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// The file, by its position.
    pub file: usize,
    /// Counted from 1.
    pub number: usize,
    span: Range<usize>,
}

impl Files {
    /// Files by their paths and their texts.
    pub fn new(files: impl IntoIterator<Item = Source>) -> Self {
        Self(files.into_iter().collect())
    }

    /// Reads them. A capture over a serial line may contain bytes that are not text; they are replaced.
    pub fn read<P: AsRef<Path>>(paths: &[P]) -> Result<Self> {
        let read = |path: &P| {
            let path = path.as_ref();
            let bytes = std::fs::read(path).into_diagnostic().wrap_err_with(|| {
                format!("cannot read {}: it should hold the output of `lspci -vv`", path.display())
            })?;
            Ok(Source { path: path.to_path_buf(), text: String::from_utf8_lossy(&bytes).into_owned() })
        };
        paths.iter().map(read).collect::<Result<_>>().map(Self)
    }

    /// All lines of all files, without their ends.
    pub fn lines(&self) -> impl Iterator<Item = (Line, &str)> {
        self.0.iter().enumerate().flat_map(|(file, source)| {
            let mut at = 0;
            source.text.split_inclusive('\n').enumerate().map(move |(number, text)| {
                let start = at;
                at += text.len();
                let text = text.trim_end();
                (Line { file, number: number + 1, span: start..start + text.len() }, text)
            })
        })
    }

    /// `board.txt:63`, for a comment.
    pub fn cite(&self, line: &Line) -> String {
        format!("{}:{}", self.name(line.file), line.number)
    }

    /// The names of all files.
    pub fn names(&self) -> String {
        (0..self.0.len()).map(|file| self.name(file)).collect::<Vec<_>>().join(", ")
    }

    /// An error that points at a line.
    pub fn mistake(&self, line: &Line, message: impl Into<String>, remedy: impl Into<String>) -> Report {
        match self.0.get(line.file) {
            Some(source) => Mistake::new(source, line.span.clone(), message, remedy).into(),
            None => miette::miette!(help = remedy.into(), "{}", message.into()),
        }
    }

    fn name(&self, file: usize) -> String {
        let path = self.0.get(file).map(|source| source.path.as_path());
        let name = path.and_then(|path| path.file_name().or(Some(path.as_os_str())));
        // The text becomes part of a comment, which a control character could end early.
        let name = name.unwrap_or_default().to_string_lossy();
        name.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
    }
}
