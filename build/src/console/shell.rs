//! Types commands at a guest's shell and reads the answers.
//!
//! A command is typed between two echoes of a mark. The typed line spells the mark with quotes in it, so the terminal's
//! echo of the line is never taken for the mark itself, however the line is wrapped. The second mark carries the exit
//! status. When the prompt comes back without it, the shell gave the line up (a syntax error) or is another one (after a
//! reboot).

use std::time::{Duration, Instant};

use super::{Console, Failure, find};

/// What a command answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// What it printed, with plain line ends.
    pub output: String,
    /// Its exit status; `None` when the shell came back without telling it.
    pub status: Option<u32>,
}

/// The longest line that is typed: busybox's line editor takes no more than 1,024 characters.
pub const LONGEST: usize = 900;

impl Console {
    /// Waits for a shell's prompt: a last line that ends in `# ` or `$ `, or an initramfs's `(initramfs) `. A guest that asks
    /// who logs in is told `root`, once.
    pub fn wait_for_prompt(&mut self, limit: Duration) -> Result<(), Failure> {
        let deadline = Instant::now() + limit;
        let asks = |fresh: &[u8]| last_line(fresh).ends_with(b"login: ");
        let logged_out = self.wait_until(limit, |fresh| match prompt(fresh) {
            Some(_) => Some(false),
            None => asks(fresh).then_some(true),
        })?;
        if !logged_out {
            return Ok(());
        }
        self.skip();
        self.send(b"root\r")?;
        self.wait_until(deadline.saturating_duration_since(Instant::now()), |fresh| prompt(fresh).map(|_| ()))
    }

    /// Waits for the prompt, types a command, and returns its answer.
    pub fn shell(&mut self, command: &str, limit: Duration) -> Result<Answer, Failure> {
        let prompt = self.wait_until(limit, prompt)?;
        // Any that was seen before counts: a shell that is started anew is back at its first directory.
        if !self.prompts.contains(&prompt) {
            self.prompts.push(prompt);
        }
        self.skip();
        self.commands += 1;
        let mark = format!("mark-{}-", self.commands);
        self.send(typed_line(&mark, command).as_bytes())?;
        let answer = self.wait_until(limit, |fresh| answer(fresh, &mark, &self.prompts))?;
        self.skip_to_prompt();
        Ok(answer)
    }

    /// Leaves the cursor before the last line, so that a prompt that is there already is seen next time.
    fn skip_to_prompt(&mut self) {
        let transcript = self.transcript();
        self.cursor = transcript.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1).max(self.cursor);
    }
}

/// The line to type: `echo mark-"1-"; eval 'COMMAND'; echo mark-"1-"$?` and Return.
///
/// `eval` keeps a command that ends in `&` or a comment from swallowing the second mark.
fn typed_line(mark: &str, command: &str) -> String {
    let spelled = mark.replacen('-', "-\"\"", 1);
    format!("echo {spelled}; eval '{}'; echo {spelled}$?\r", command.replace('\'', r"'\''"))
}

/// The prompt at the end of what was printed, if it is one.
fn prompt(printed: &[u8]) -> Option<Vec<u8>> {
    let line = without_escapes(last_line(printed));
    let is_prompt = line.ends_with(b"# ") || line.ends_with(b"$ ") || line == b"(initramfs) ";
    is_prompt.then_some(line)
}

/// What follows the last line end.
fn last_line(printed: &[u8]) -> &[u8] {
    let start = printed.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    printed.get(start..).unwrap_or_default()
}

/// A line without control sequences (ECMA-48, 5.4): busybox asks where the cursor is after each prompt (`ESC [ 6 n`),
/// and some prompts are coloured.
fn without_escapes(line: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(line.len());
    let mut rest = line;
    while let Some((first, behind)) = rest.split_first() {
        if let Some(sequence) = rest.strip_prefix(b"\x1b[") {
            let end = sequence.iter().position(|byte| (0x40..0x7f).contains(byte)).map_or(sequence.len(), |at| at + 1);
            rest = sequence.get(end..).unwrap_or_default();
        } else {
            plain.push(*first);
            rest = behind;
        }
    }
    plain
}

/// The answer, once it is complete.
fn answer(printed: &[u8], mark: &str, known_prompts: &[Vec<u8>]) -> Option<Answer> {
    let first = find(printed, mark.as_bytes())? + mark.len();
    let rest = printed.get(first..)?;
    let body_start = rest.iter().position(|byte| *byte == b'\n')? + 1;
    let body = rest.get(body_start..)?;
    if let Some(end) = find(body, mark.as_bytes()) {
        let after = body.get(end + mark.len()..)?;
        let digits = after.iter().take_while(|byte| byte.is_ascii_digit()).count();
        // Without a byte behind them, more digits may follow.
        after.get(digits)?;
        let status = std::str::from_utf8(after.get(..digits)?).ok()?.parse().ok()?;
        return Some(Answer { output: plain(body.get(..end)?), status: Some(status) });
    }
    let last = last_line(body);
    let is_prompt = known_prompts.contains(&without_escapes(last));
    let before = body.get(..body.len() - last.len()).unwrap_or_default();
    is_prompt.then(|| Answer { output: plain(before), status: None })
}

fn plain(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).replace("\r\n", "\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROMPT: &[u8] = b"portcullis:/# ";

    fn prompts() -> Vec<Vec<u8>> {
        vec![PROMPT.to_vec()]
    }

    #[test]
    fn the_typed_line_does_not_contain_the_mark() {
        let line = typed_line("mark-1-", "echo 'a b' # c");
        assert!(!line.contains("mark-1-"), "{line}");
        assert_eq!(line, "echo mark-\"\"1-; eval 'echo '\\''a b'\\'' # c'; echo mark-\"\"1-$?\r");
    }

    #[test]
    fn an_answer_lies_between_the_marks() {
        let printed =
            b"echo mark-\"\"1-; eval 'uname -rm'; ech\r\r\no mark-\"\"1-$?\r\nmark-1-\r\n6.1.0 i686\r\nmark-1-0\r\n";
        let wanted = Answer { output: "6.1.0 i686\n".into(), status: Some(0) };
        assert_eq!(answer(printed, "mark-1-", &prompts()), Some(wanted));
    }

    #[test]
    fn output_without_a_line_end_does_not_hide_the_mark() {
        let wanted = Answer { output: "abc".into(), status: Some(127) };
        assert_eq!(answer(b"mark-2-\r\nabcmark-2-127\r\n", "mark-2-", &prompts()), Some(wanted));
    }

    #[test]
    fn an_answer_that_is_still_arriving_is_not_taken() {
        let whole = b"mark-1-\r\nx\r\nmark-1-12\r\n";
        for length in 0..whole.len() - 1 {
            assert_eq!(answer(&whole[..length], "mark-1-", &prompts()), None, "{length}");
        }
    }

    #[test]
    fn a_shell_that_comes_back_without_the_mark_has_no_status() {
        let printed = b"mark-1-\r\n-sh: syntax error: unterminated quoted string\r\nportcullis:/# ";
        assert_eq!(answer(printed, "mark-1-", &prompts()).unwrap().status, None);
    }

    #[test]
    fn a_prompt_is_a_last_line_that_ends_in_one() {
        assert_eq!(prompt(b"Welcome\r\nportcullis:/# ").as_deref(), Some(PROMPT));
        assert_eq!(prompt(b"user@guest:~$ ").as_deref(), Some(&b"user@guest:~$ "[..]));
        assert_eq!(prompt(b"# \r\n[    0.1] Linux"), None);
        assert_eq!(prompt(b""), None);
    }

    #[test]
    fn what_a_prompt_asks_the_terminal_is_no_part_of_it() {
        assert_eq!(prompt(b"\x1b[1;32mportcullis:/# \x1b[6n").as_deref(), Some(PROMPT));
        let printed = b"mark-1-\r\n-sh: syntax error\r\nportcullis:/# \x1b[6n";
        assert_eq!(answer(printed, "mark-1-", &prompts()).unwrap().status, None);
    }
}
