//! Edits as pages show them: without line numbers, so that they still apply when the file changes elsewhere.

use miette::{Result, ensure, miette};

/// Applies a hunk to a text, which has to contain the hunk's kept and removed lines exactly once.
pub fn apply(text: &str, hunk: &str) -> Result<String> {
    let (mut old, mut new) = (String::new(), String::new());
    for line in hunk.lines() {
        let (sign, rest) = line.split_at_checked(1).unwrap_or((" ", ""));
        match sign {
            "-" => old += &format!("{rest}\n"),
            "+" => new += &format!("{rest}\n"),
            " " => {
                old += &format!("{rest}\n");
                new += &format!("{rest}\n");
            }
            _ => return Err(miette!("a line of an edit begins with neither space, - nor +: {line}")),
        }
    }
    ensure!(!old.is_empty(), "an edit that does not say where:\n{hunk}");
    // Only whole lines match: the first begins the text, or follows a line end.
    let mut places =
        text.match_indices(&old).map(|(at, _)| at).filter(|at| *at == 0 || text.as_bytes().get(at - 1) == Some(&b'\n'));
    match (places.next(), places.next()) {
        (Some(at), None) => Ok(format!("{}{new}{}", &text[..at], &text[at + old.len()..])),
        (None, _) => Err(miette!("these lines are not there:\n{old}")),
        (Some(_), Some(_)) => Err(miette!("these lines are there more than once:\n{old}")),
    }
}

/// Whether a hunk changes nothing, and so is a quotation.
pub fn quotes(hunk: &str) -> bool {
    hunk.lines().all(|line| !line.starts_with(['-', '+']))
}

#[cfg(test)]
mod tests {
    use super::{apply, quotes};

    #[test]
    fn a_hunk_of_lines_that_stay_is_a_quotation() {
        assert!(quotes(" a\n -b\n\n"));
        assert!(!quotes(" a\n-b\n") && !quotes(" a\n+b\n"));
        assert_eq!(apply("a\nb\n", " b\n").unwrap(), "a\nb\n");
    }

    #[test]
    fn lines_stay_go_and_come() {
        assert_eq!(apply("a\nb\nc\n", " a\n-b\n+x\n+y\n").unwrap(), "a\nx\ny\nc\n");
        assert_eq!(apply("a\n\nb\n", " a\n\n+x\n").unwrap(), "a\n\nx\nb\n");
    }

    #[test]
    fn a_place_that_is_not_there_or_there_twice_is_an_error() {
        assert!(apply("ab\n", " b\n+x\n").is_err(), "half a line");
        assert!(apply("a\na\n", " a\n+x\n").is_err());
        assert!(apply("a\n", "+x\n").is_err());
    }
}
