//! Filters one VM's lines out of the console. One serial line carries the consoles of all VMs and the logs of all
//! processes: serial-server puts a name before each line of a log, and of a console if there are several. When a
//! console's line has been silent (at a prompt, say), it ends that line and prints other output. If there are several
//! consoles, the rest of such a line is marked: `name| rest`; what several print alike is `name+name: line`.

/// What serial-server says when the user moves the input.
const MOVED: &str = "serial-server: input goes to ";

/// The VM whose shell is used, and all others. A VM's second console counts as a VM, with the name `NAME.hvc0`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Voice {
    /// The VM's name.
    own: String,
    /// All VMs. If there are several, their lines begin with their names.
    vms: Vec<String>,
    /// Processes, whose log lines begin with their name.
    processes: Vec<String>,
}

/// Where a line comes from.
enum LineKind<'a> {
    /// The VM: its text without the name, and the length of the name.
    Own(&'a [u8], usize),
    /// The same, of a line that other output interrupted.
    Rest(&'a [u8], usize),
    /// Any other VM or process.
    Foreign,
    /// Too short to tell.
    Unknown,
}

impl Voice {
    /// `vms` are the VMs of the system by their names; the first one has the keyboard. `processes` are those that log.
    pub fn new(vms: &[String], processes: Vec<String>) -> Self {
        Self { own: vms.first().cloned().unwrap_or_default(), vms: vms.to_vec(), processes }
    }

    /// All VMs, by their names.
    pub fn vms(&self) -> &[String] {
        &self.vms
    }

    /// The VM whose shell is used.
    pub fn own(&self) -> &str {
        &self.own
    }

    /// Whether that is a VM's second console.
    pub fn is_second(&self) -> bool {
        self.own.contains('.')
    }

    /// From now on, that is another one.
    pub fn listen_to(&mut self, vm: &str) {
        vm.clone_into(&mut self.own);
    }

    /// Whether several VMs share the console.
    pub fn is_shared(&self) -> bool {
        self.vms.len() > 1
    }

    /// The VM that gets the input according to the last word of serial-server in this output; an empty name if there are
    /// several.
    pub fn input_moved(&self, printed: &[u8]) -> Option<String> {
        let said = lines(printed, 0).filter_map(|(_, line)| line.strip_prefix(MOVED.as_bytes()));
        let last = said.filter(|line| line.ends_with(b"\n")).last()?;
        let vm = String::from_utf8_lossy(last).trim_end().to_owned();
        Some(if self.vms.contains(&vm) { vm } else { String::new() })
    }

    /// The VM's output from position `from` on. If other output interrupted its line and the line has not continued
    /// yet, this leaves out the line end.
    pub fn of(&self, printed: &[u8], from: usize) -> Vec<u8> {
        let mut heard = Vec::new();
        // The line end that serial-server printed before other output.
        let mut withheld = Vec::new();
        for (start, line) in lines(printed, line_start(printed, from)) {
            match self.kind(line) {
                LineKind::Own(text, name) => {
                    heard.append(&mut withheld);
                    heard.extend_from_slice(text.get(from.saturating_sub(start + name)..).unwrap_or_default());
                    uncolour(&mut heard, line);
                }
                LineKind::Rest(text, name) => {
                    // The line end before it was serial-server's, whether other output followed it or not.
                    if withheld.is_empty() && heard.ends_with(b"\r\n") {
                        heard.truncate(heard.len() - 2);
                    }
                    withheld.clear();
                    heard.extend_from_slice(text.get(from.saturating_sub(start + name)..).unwrap_or_default());
                    uncolour(&mut heard, line);
                }
                LineKind::Foreign => {
                    let end = heard.iter().rposition(|byte| !matches!(byte, b'\r' | b'\n')).map_or(0, |at| at + 1);
                    if withheld.is_empty() {
                        // One line end at most, since an empty line before it is the VM's own.
                        let keep = end.max(heard.len().saturating_sub(2));
                        withheld = heard.split_off(keep);
                    }
                }
                LineKind::Unknown => {}
            }
        }
        heard
    }

    /// Where the VM's last line begins, at or behind `from`.
    pub fn last_line(&self, printed: &[u8], from: usize) -> usize {
        let own = lines(printed, line_start(printed, from))
            .filter(|(_, line)| matches!(self.kind(line), LineKind::Own(..) | LineKind::Rest(..)));
        own.last().map_or(from, |(start, _)| start.max(from))
    }

    /// Whether the VM's process logged a reset of the guest, in a line that begins at `from` or later.
    pub fn was_reset(&self, printed: &[u8], from: usize) -> bool {
        self.logged(": reset", printed, from)
    }

    /// Whether the VM's process logged that the guest is off.
    pub fn is_off(&self, printed: &[u8], from: usize) -> bool {
        self.logged(" has powered off", printed, from)
    }

    /// Whether the VM's process logged `what` about its guest.
    fn logged(&self, what: &str, printed: &[u8], from: usize) -> bool {
        // A second console's name is that of its VM, a dot, and its own.
        let vm = self.own.split('.').next().unwrap_or_default();
        let log = format!("vmm-{vm}: ");
        let whole = |&(start, line): &(usize, &[u8])| start >= from && line.ends_with(b"\n");
        let mut lines = lines(printed, line_start(printed, from)).filter(whole);
        lines.any(|(_, line)| {
            let said = line.strip_prefix(log.as_bytes()).map(String::from_utf8_lossy);
            said.is_some_and(|said| said.contains(&format!("{vm}{what}")))
        })
    }

    fn kind<'a>(&self, line: &'a [u8]) -> LineKind<'a> {
        if self.is_shared() {
            return self.shared_kind(line);
        }
        if self.processes.iter().any(|name| after_name(line, name).is_some()) {
            LineKind::Foreign
        } else if self.processes.iter().any(|name| may_become(line, name)) {
            LineKind::Unknown
        } else {
            LineKind::Own(line, 0)
        }
    }
}

impl Voice {
    /// The kind of a line whose label, if it is a VM's, is `name`, or `name+name`, and `: ` or `| `.
    fn shared_kind<'a>(&self, line: &'a [u8]) -> LineKind<'a> {
        let plain = without_colour(line);
        let Some(end) = plain.iter().position(|byte| !matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'+' | b'.'))
        else {
            // Only a line that is still arriving has no more than a name.
            return LineKind::Unknown;
        };
        let (names, text) = plain.split_at(end);
        let own = names.split(|byte| *byte == b'+').any(|name| name == self.own.as_bytes());
        match text {
            [b':' | b'|'] => LineKind::Unknown,
            [b':', b' ', text @ ..] if own => LineKind::Own(text, line.len() - text.len()),
            [b'|', b' ', text @ ..] if own => LineKind::Rest(text, line.len() - text.len()),
            _ => LineKind::Foreign,
        }
    }
}

/// A line without the colour that serial-server gives it, where a description asks for that: an SGR sequence before the
/// label.
fn without_colour(line: &[u8]) -> &[u8] {
    let Some(sequence) = line.strip_prefix(b"\x1b[") else { return line };
    match sequence.iter().position(|byte| !byte.is_ascii_digit()) {
        Some(end) if sequence.get(end) == Some(&b'm') => sequence.get(end + 1..).unwrap_or_default(),
        _ => &[],
    }
}

/// Takes the end of that colour away from what a line has added.
fn uncolour(heard: &mut Vec<u8>, line: &[u8]) {
    if line.starts_with(b"\x1b[") {
        for (end, plain) in [(&b"\x1b[m\n"[..], &b"\n"[..]), (b"\x1b[m\r\n", b"\r\n")] {
            if heard.ends_with(end) {
                heard.truncate(heard.len() - end.len());
                heard.extend_from_slice(plain);
            }
        }
    }
}

/// What follows `name: `.
fn after_name<'a>(line: &'a [u8], name: &str) -> Option<&'a [u8]> {
    line.strip_prefix(name.as_bytes())?.strip_prefix(b": ")
}

/// Whether a line that is still arriving may turn out to begin with `name: `.
fn may_become(line: &[u8], name: &str) -> bool {
    !line.is_empty() && line.len() < name.len() + 2 && format!("{name}: ").as_bytes().starts_with(line)
}

/// The lines from the one at `start` on, each with its position and its line end.
fn lines(printed: &[u8], start: usize) -> impl Iterator<Item = (usize, &[u8])> {
    let rest = printed.get(start..).unwrap_or_default();
    rest.split_inclusive(|byte| *byte == b'\n').scan(start, |at, line| {
        let here = *at;
        *at += line.len();
        Some((here, line))
    })
}

/// Where the line begins in which `at` is.
fn line_start(printed: &[u8], at: usize) -> usize {
    printed.get(..at).unwrap_or(printed).iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn two() -> Voice {
        Voice::new(&["first".into(), "second".into()], vec!["irq-server".into(), "vmm-first".into()])
    }

    fn alone() -> Voice {
        Voice::new(&["linux".into()], vec!["irq-server".into(), "vmm-linux".into()])
    }

    fn heard(voice: &Voice, printed: &str, from: usize) -> String {
        String::from_utf8(voice.of(printed.as_bytes(), from)).unwrap()
    }

    #[test]
    fn of_two_vms_the_first_is_heard_without_its_name() {
        let printed = "second: a\r\nfirst: mark-1-\r\nsecond: mark-1-7\r\nirq-server: x\r\nfirst: mark-1-0\r\n";
        assert_eq!(heard(&two(), printed, 0), "mark-1-\r\nmark-1-0\r\n");
    }

    #[test]
    fn others_that_break_into_a_prompt_do_not_end_it() {
        assert_eq!(heard(&two(), "first: portcullis:/# \r\nsecond: x\r\n", 0), "portcullis:/# ");
        assert_eq!(heard(&two(), "first: portcullis:/# \r\nsecond: x\r\nfirst: ls", 0), "portcullis:/# \r\nls");
        assert_eq!(heard(&two(), "first: portcullis:/# \r\nsecond: x\r\nfirst| ls", 0), "portcullis:/# ls");
        assert_eq!(heard(&two(), "first: a\r\nfirst| b\r\n", 0), "ab\r\n", "other output may be a kernel's");
        assert_eq!(heard(&alone(), "portcullis:/# \r\nirq-server: 2 lines\r\n", 0), "portcullis:/# ");
        assert_eq!(heard(&alone(), "portcullis:/# \r\nirq-server: a\r\nirq-server: b\r\n", 0), "portcullis:/# ");
    }

    #[test]
    fn a_position_in_the_middle_of_a_line_keeps_what_follows_it() {
        let printed = "first: portcullis:/# echo\r\nfirst: x\r\n";
        assert_eq!(heard(&two(), printed, "first: portcullis:/# ".len()), "echo\r\nx\r\n");
        assert_eq!(heard(&two(), printed, 3), "portcullis:/# echo\r\nx\r\n");
        assert_eq!(heard(&alone(), "abc\r\ndef\r\n", 1), "bc\r\ndef\r\n");
    }

    #[test]
    fn what_several_print_alike_is_heard_too() {
        assert_eq!(heard(&two(), "second: c\r\nsecond+first: a\r\nfirst+second| b\r\n", 0), "ab\r\n");
    }

    #[test]
    fn colours_of_the_server_are_not_heard() {
        let printed = "\x1b[32mfirst: \x1b[1ma\r\x1b[m\n\x1b[33msecond: b\r\x1b[m\n\x1b[32mfirst: #";
        assert_eq!(heard(&two(), printed, 0), "\x1b[1ma\r\n#");
    }

    #[test]
    fn the_input_is_where_the_server_said_last() {
        let said = |printed: &str| two().input_moved(printed.as_bytes());
        assert_eq!(said("first: x\r\n"), None);
        let moved = "serial-server: input goes to second\r\n";
        assert_eq!(said(moved).as_deref(), Some("second"));
        assert_eq!(said(&format!("{moved}serial-server: input goes to fir")).as_deref(), Some("second"));
        assert_eq!(said(&format!("{moved}first: serial-server: input goes to first\r\n")).as_deref(), Some("second"));
        assert_eq!(said("serial-server: input goes to first, second; lines\r\n").as_deref(), Some(""));
    }

    #[test]
    fn half_a_name_is_not_taken_for_text() {
        assert_eq!(heard(&two(), "first: a\r\nfirst:", 0), "a\r\n");
        assert_eq!(heard(&alone(), "a\r\nirq-ser", 0), "a\r\n");
        assert_eq!(heard(&alone(), "a\r\nirq-serious", 0), "a\r\nirq-serious");
    }

    #[test]
    fn the_last_line_is_the_vms_own() {
        let printed = b"first: a\r\nfirst: portcullis:/# \r\nsecond: x\r\nsecond: y\r\n";
        assert_eq!(two().last_line(printed, 0), 10);
        assert_eq!(two().last_line(printed, 12), 12);
    }

    #[test]
    fn a_reset_of_the_vm_is_logged_by_its_process() {
        assert!(two().is_off(b"vmm-first: first has powered off\r\n", 0));
        assert!(!two().is_off(b"vmm-second: second has powered off\r\n", 0));
        assert!(two().was_reset(b"first: x\r\nvmm-first: warning: first: reset after a triple fault at 0x0\r\n", 3));
        assert!(!two().was_reset(b"vmm-first: first: reset by the guest", 0), "still arriving");
        assert!(!two().was_reset(b"vmm-first: first: reset by the guest\r\n", 22), "before");
        assert!(!two().was_reset(b"second: vmm-first: first: reset by the guest\r\nvmm-second: second: reset\r\n", 0));
    }
}
