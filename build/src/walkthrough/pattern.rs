//! Compares an answer with a page. `…` stands for any text, and alone on a line for any lines.

const ANY: &str = "…";

/// Whether the whole answer matches. White space at the ends of lines does not count.
pub fn matches(pattern: &str, answer: &str) -> bool {
    let (pattern, answer): (Vec<&str>, Vec<&str>) = (lines(pattern), lines(answer));
    glob(
        &pattern,
        &answer,
        |one| *one == ANY,
        |pattern, line| {
            let (pattern, line): (Vec<char>, Vec<char>) = (pattern.chars().collect(), line.chars().collect());
            glob(&pattern, &line, |one| *one == '…', |a, b| a == b)
        },
    )
}

fn lines(text: &str) -> Vec<&str> {
    let mut lines: Vec<&str> = text.lines().map(str::trim_end).collect();
    while lines.last().is_some_and(|line| line.is_empty()) {
        lines.pop();
    }
    lines
}

/// Matches a sequence against one with wildcards; on a mismatch, the last wildcard takes one more element.
fn glob<T>(pattern: &[T], given: &[T], any: impl Fn(&T) -> bool, same: impl Fn(&T, &T) -> bool) -> bool {
    let (mut p, mut g) = (0, 0);
    let mut wildcard = None;
    while let Some(item) = given.get(g) {
        match pattern.get(p) {
            Some(one) if any(one) => {
                p += 1;
                wildcard = Some((p, g));
            }
            Some(one) if same(one, item) => (p, g) = (p + 1, g + 1),
            _ => match &mut wildcard {
                Some((behind, from)) => {
                    *from += 1;
                    (p, g) = (*behind, *from);
                }
                None => return false,
            },
        }
    }
    pattern.iter().skip(p).all(any)
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn any_text_and_any_lines() {
        assert!(matches("a\nb", "a  \nb\n\n"));
        assert!(!matches("a", "a\nb") && !matches("a\nb", "a"));
        assert!(matches("…\nb", "x\ny\nb") && matches("…\nb", "b") && matches("a\n…", "a\nx"));
        assert!(!matches("…\nb", "x\nb\ny"));
        assert!(matches("in …/target, 5…", "in /a/b/target, 5.2 s") && !matches("in …/target", "in /a"));
        assert!(matches("…\nx1\n…\nx2", "x1\nx1\ny\nx2\nx2"));
    }
}
