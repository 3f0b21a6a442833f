//! Types commands at a guest's shell and reads the answers.
//!
//! A command is typed between two echoes of a mark. The typed line spells the mark with quotes in it, so the terminal's
//! echo of the line is never taken for the mark itself, however the line is wrapped. The first mark carries the shell's
//! process number, the second the exit status. If the prompt comes back without the second mark, the shell gave up the
//! line (a syntax error), or it is another shell, which its process number shows.
//!
//! A prompt is expected at the end of the VM's output (see `voice`). A kernel message may follow it; so after a while
//! of silence this types Return, and the shell prints its prompt again.

use std::thread;
use std::time::{Duration, Instant};

use super::{Console, Failure, PAUSE, Printed, find, lock, report};
use crate::guest::initramfs::PROMPT;

/// What a command answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Its output, with plain line ends.
    pub output: String,
    /// How it ended.
    pub status: Status,
}

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// With this exit status.
    Exit(u32),
    /// The same shell came back without running the line to its end: a syntax error.
    Refused,
    /// Another shell came: the command ended the first one, or it was killed.
    ShellEnded,
}

/// The longest line to type: busybox's line editor takes at most 1,024 characters.
pub const LONGEST: usize = 900;

/// Silence after which this types Return: if a prompt seems to be hidden, and if there was none at all. A guest that
/// has not reached its shell yet reads it later as an empty line.
const HIDDEN: Duration = Duration::from_secs(2);
const NEVER_SEEN: Duration = Duration::from_secs(15);
/// How often this checks for silence.
const LOOK: Duration = Duration::from_millis(200);

/// Linux's message when it halts after a panic.
const PANICKED: &[u8] = b"---[ end Kernel panic";
/// Linux's messages when it powers off or halts on request.
const SWITCHED_OFF: [&[u8]; 2] = [b"reboot: Power down", b"reboot: System halted"];

impl Console {
    /// Waits for a shell's prompt: a last line that ends in `# ` or `$ `, or an initramfs's `(initramfs) `. Answers a
    /// login prompt with `root`, once.
    pub fn wait_for_prompt(&mut self, limit: Duration) -> Result<(), Failure> {
        let deadline = Instant::now() + limit;
        let asks = |heard: &[u8]| last_line(heard).ends_with(b"login: ");
        let logged_out = self.hear(limit, silence, |heard| match prompt(heard) {
            Some(_) => Some(false),
            None => asks(heard).then_some(true),
        })?;
        if !logged_out {
            return Ok(());
        }
        self.skip();
        self.send(b"root\r")?;
        let left = deadline.saturating_duration_since(Instant::now());
        self.hear(left, silence, |heard| prompt(heard).map(|_| ()))
    }

    /// Waits for the prompt, types a command, and returns its answer.
    pub fn shell(&mut self, command: &str, limit: Duration) -> Result<Answer, Failure> {
        let prompt = self.hear(limit, silence, prompt)?;
        // Any earlier prompt counts, since a restarted shell is back in its first directory.
        if !self.prompts.contains(&prompt) {
            self.prompts.push(prompt);
        }
        self.skip();
        let mark = self.next_mark();
        self.send(typed_line(&mark, command).as_bytes())?;
        let known = self.prompts.clone();
        let hides = |heard: &[u8]| hides_one_of(heard, &mark, &known).then_some(HIDDEN);
        let (output, process, status) = self.hear(limit, hides, |heard| answer(heard, &mark, &known))?;
        self.skip_to_prompt();
        let status = match status {
            Some(status) => Status::Exit(status),
            None if self.process(limit)? == process => Status::Refused,
            None => Status::ShellEnded,
        };
        Ok(Answer { output, status })
    }

    /// Takes a terminal's rows and columns, and types them, once a shell waits: a serial line does not carry the size. The
    /// default guest's shell understands `stty`; for a second console, serial-server takes it.
    pub fn tell_size(&mut self, size: &mut Option<(u16, u16)>) {
        let is_second = self.voice.is_second();
        let waits = |prompt: Vec<u8>| is_second || prompt == PROMPT.as_bytes();
        if size.is_some()
            && prompt(&self.heard()).is_some_and(waits)
            && let Some((rows, columns)) = size.take()
        {
            let typed = match is_second {
                true => format!("@w {rows} {columns}\r"),
                false => format!("stty rows {rows} cols {columns}\r"),
            };
            let _ = self.send(typed.as_bytes());
        }
    }

    /// Whether Linux has printed, since the last command was typed, that it powers off or halts on request.
    pub fn switched_off(&self) -> bool {
        let heard = self.heard();
        SWITCHED_OFF.iter().any(|text| find(&heard, text).is_some())
    }

    /// The shell's process number.
    fn process(&mut self, limit: Duration) -> Result<u32, Failure> {
        let mark = self.next_mark();
        self.skip();
        self.send(format!("echo {}$$\r", spelled(&mark)).as_bytes())?;
        let number = self.hear(limit, |_| None, |heard| number_after(heard, &mark).map(|(number, _)| number))?;
        self.skip_to_prompt();
        Ok(number)
    }

    fn next_mark(&mut self) -> String {
        self.commands += 1;
        format!("mark-{}-", self.commands)
    }

    /// Waits until `judge`, given the VM's output after the cursor, returns an answer. `patience` says after how much
    /// silence to type Return. If the guest stops or is reset meanwhile, there is no answer.
    fn hear<T>(
        &mut self,
        limit: Duration,
        patience: impl Fn(&[u8]) -> Option<Duration>,
        judge: impl Fn(&[u8]) -> Option<T>,
    ) -> Result<T, Failure> {
        let deadline = Instant::now() + limit;
        let (mut seen, mut since) = (0, Instant::now());
        loop {
            let (length, quiet) = {
                let state = lock(&self.printed);
                let heard = self.voice.of(&state.bytes, self.cursor);
                if let Some(answer) = judge(&heard) {
                    return Ok(answer);
                }
                self.trouble(&heard, &state)?;
                (state.bytes.len(), patience(&heard))
            };
            if length != seen {
                (seen, since) = (length, Instant::now());
            } else if quiet.is_some_and(|quiet| since.elapsed() >= quiet) {
                self.send(b"\r")?;
                since = Instant::now();
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Failure::TimedOut);
            }
            self.wait_for_more(length, left.min(LOOK));
            // Collects single bytes, so that `judge` runs on larger pieces.
            thread::sleep(PAUSE);
        }
    }

    /// Why there will be no answer, if the guest stopped or was reset.
    fn trouble(&self, heard: &[u8], state: &Printed) -> Result<(), Failure> {
        if find(heard, PANICKED).is_some() {
            return Err(Failure::Panicked);
        }
        if self.voice.was_reset(&state.bytes, self.cursor) {
            return Err(Failure::Reset);
        }
        if self.watch && !report::failures(&state.bytes).is_empty() {
            return Err(Failure::Reported);
        }
        if state.ended {
            return Err(Failure::Ended);
        }
        if self.voice.is_off(&state.bytes, self.cursor) { Err(Failure::Off) } else { Ok(()) }
    }

    fn heard(&self) -> Vec<u8> {
        self.voice.of(&self.transcript(), self.cursor)
    }

    /// Leaves the cursor before the VM's last line, so that the next wait sees a prompt that is there already.
    fn skip_to_prompt(&mut self) {
        self.cursor = self.voice.last_line(&self.transcript(), self.cursor);
    }
}

/// The line to type: `echo mark-"1-"$$; eval 'COMMAND'; echo mark-"1-"$?` and Return.
///
/// `eval` keeps a command that ends in `&` or a comment from swallowing the second mark.
fn typed_line(mark: &str, command: &str) -> String {
    let spelled = spelled(mark);
    format!("echo {spelled}$$; eval '{}'; echo {spelled}$?\r", command.replace('\'', r"'\''"))
}

/// A mark as typed, with quotes in it.
fn spelled(mark: &str) -> String {
    mark.replacen('-', "-\"\"", 1)
}

/// How long to wait for a prompt at the end, given what was printed.
fn silence(heard: &[u8]) -> Option<Duration> {
    let hidden = heard.split(|byte| *byte == b'\n').any(|line| {
        let line = without_escapes(line);
        let start = line.get(..60).unwrap_or(&line);
        [&b"# "[..], b"$ ", b"login: ", b"(initramfs) "].iter().any(|end| find(start, end).is_some())
    });
    Some(if hidden { HIDDEN } else { NEVER_SEEN })
}

/// Whether a line after the mark begins with a known prompt and continues with other text.
fn hides_one_of(heard: &[u8], mark: &str, known: &[Vec<u8>]) -> bool {
    let Some((_, body)) = number_after(heard, mark) else { return false };
    let mut lines = body.split(|byte| *byte == b'\n').map(without_escapes);
    lines.any(|line| known.iter().any(|prompt| line.len() > prompt.len() && line.starts_with(prompt)))
}

/// The number after a mark, and the rest. `None` if the output ends with the number, since more digits may follow.
fn number_after<'a>(heard: &'a [u8], mark: &str) -> Option<(u32, &'a [u8])> {
    let rest = heard.get(find(heard, mark.as_bytes())? + mark.len()..)?;
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    rest.get(digits)?;
    let (number, rest) = rest.split_at_checked(digits)?;
    Some((std::str::from_utf8(number).ok()?.parse().ok()?, rest))
}

/// The prompt at the end of the output, if there is one.
fn prompt(printed: &[u8]) -> Option<Vec<u8>> {
    let line = without_escapes(last_line(printed));
    let is_prompt = line.ends_with(b"# ") || line.ends_with(b"$ ") || line == b"(initramfs) ";
    is_prompt.then_some(line)
}

/// The text after the last line end.
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

/// The answer, once it is complete: what the command printed, the number of the shell that ran it, and its exit status,
/// or `None` where the prompt came back without one.
fn answer(heard: &[u8], mark: &str, known_prompts: &[Vec<u8>]) -> Option<(String, u32, Option<u32>)> {
    let (process, rest) = number_after(heard, mark)?;
    let body_start = rest.iter().position(|byte| *byte == b'\n')? + 1;
    let body = rest.get(body_start..)?;
    if let Some(end) = find(body, mark.as_bytes()) {
        let (status, _) = number_after(body, mark)?;
        return Some((plain(body.get(..end)?), process, Some(status)));
    }
    let last = last_line(body);
    let is_prompt = known_prompts.contains(&without_escapes(last));
    let before = body.get(..body.len() - last.len()).unwrap_or_default();
    is_prompt.then(|| (plain(before), process, None))
}

fn plain(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).replace("\r\n", "\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prompts() -> Vec<Vec<u8>> {
        vec![PROMPT.into()]
    }

    #[test]
    fn the_typed_line_does_not_contain_the_mark() {
        let line = typed_line("mark-1-", "echo 'a b' # c");
        assert!(!line.contains("mark-1-"), "{line}");
        assert_eq!(line, "echo mark-\"\"1-$$; eval 'echo '\\''a b'\\'' # c'; echo mark-\"\"1-$?\r");
    }

    #[test]
    fn an_answer_lies_between_the_marks() {
        let printed =
            b"echo mark-\"\"1-$$; eval 'uname -rm'; ech\r\r\no mark-\"\"1-$?\r\nmark-1-40\r\n6.1.0 i686\r\nmark-1-0\r\n";
        assert_eq!(answer(printed, "mark-1-", &prompts()), Some(("6.1.0 i686\n".into(), 40, Some(0))));
    }

    #[test]
    fn output_without_a_line_end_does_not_hide_the_mark() {
        let printed = b"mark-2-40\r\nabcmark-2-127\r\n";
        assert_eq!(answer(printed, "mark-2-", &prompts()), Some(("abc".into(), 40, Some(127))));
    }

    #[test]
    fn an_answer_that_is_still_arriving_is_not_taken() {
        let whole = b"mark-1-40\r\nx\r\nmark-1-12\r\n";
        for length in 0..whole.len() - 1 {
            assert_eq!(answer(&whole[..length], "mark-1-", &prompts()), None, "{length}");
        }
    }

    #[test]
    fn a_shell_that_comes_back_without_the_mark_has_no_status() {
        let printed = b"mark-1-40\r\n-sh: syntax error: unterminated quoted string\r\nportcullis:/# ";
        assert_eq!(answer(printed, "mark-1-", &prompts()).unwrap().2, None);
    }

    #[test]
    fn a_prompt_is_a_last_line_that_ends_in_one() {
        assert_eq!(prompt(b"Welcome\r\nportcullis:/# ").as_deref(), Some(PROMPT.as_bytes()));
        assert_eq!(prompt(b"user@guest:~$ ").as_deref(), Some(&b"user@guest:~$ "[..]));
        assert_eq!(prompt(b"# \r\n[    0.1] Linux"), None);
        assert_eq!(prompt(b""), None);
    }

    #[test]
    fn what_a_prompt_asks_the_terminal_is_no_part_of_it() {
        assert_eq!(prompt(b"\x1b[1;32mportcullis:/# \x1b[6n").as_deref(), Some(PROMPT.as_bytes()));
        let printed = b"mark-1-40\r\n-sh: syntax error\r\nportcullis:/# \x1b[6n";
        assert_eq!(answer(printed, "mark-1-", &prompts()).unwrap().2, None);
    }

    #[test]
    fn return_is_pressed_sooner_where_a_prompt_is_hidden() {
        assert_eq!(silence(b"Welcome\r\nportcullis:/# [    7.9] a late kernel message\r\n"), Some(HIDDEN));
        assert_eq!(silence(b"guest login: [    7.9] late\r\n"), Some(HIDDEN));
        assert_eq!(silence(b"Decompressing Linux... Parsing ELF... done.\r\n"), Some(NEVER_SEEN));
    }

    #[test]
    fn a_prompt_may_be_hidden_behind_a_command_that_was_given_up() {
        let mark = "mark-1-";
        assert!(hides_one_of(b"mark-1-40\r\nsyntax error\r\nportcullis:/# [ 9.1] late\r\n", mark, &prompts()));
        assert!(!hides_one_of(b"mark-1-40\r\nsyntax error\r\nportcullis:/# ", mark, &prompts()), "it is there");
        assert!(!hides_one_of(b"portcullis:/# echo mark-\"\"1-$$\r\nmark-1-40\r\nx\r\n", mark, &prompts()));
    }
}
