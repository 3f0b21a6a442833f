//! Reads Bochs's log: why the run ended, at which tick, and the marks that a system wrote.
//!
//! A line is a tick count of at least eleven digits, a letter for the level (i, d, e, p), a device in brackets and a
//! text. Text that a system writes to port 0x402, up to a newline, becomes such a line from the device "BIOS".

/// One line of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line<'a> {
    /// Emulated instructions since power-on.
    pub ticks: u64,
    /// `p` for a panic, `e` for an error, `i` for information, `d` for debugging.
    pub level: char,
    /// The device that logs it.
    pub device: &'a str,
    /// The message.
    pub text: &'a str,
}

/// Reads one line; `None` for one in another form (a dump of registers, say).
pub fn line(text: &str) -> Option<Line<'_>> {
    let level_at = text.find(|c: char| !c.is_ascii_digit()).filter(|at| *at >= 11)?;
    let (ticks, rest) = text.split_at(level_at);
    let mut characters = rest.chars();
    let level = characters.next()?;
    let (device, text) = characters.as_str().strip_prefix('[')?.split_once(']')?;
    Some(Line { ticks: ticks.parse().ok()?, level, device: device.trim(), text: text.trim() })
}

/// How a run of the emulator ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    /// The system powered the board off (`Shutdown` on port 0x8900).
    PowerOff,
    /// The system powered the board off because something had failed (`FShutdown` there).
    Failed,
    /// The emulator cannot go on: after a triple fault, say. The text is Bochs's.
    Panic(String),
    /// Bochs refused to start or was killed. Its exit status.
    Died(String),
}

/// In a line about a byte on port 0x8900; the byte follows, in hexadecimal digits.
const WRITTEN: &str = "8-bit write to 8900 = ";

/// What the log says about the end: a panic line, if there is one.
pub fn ending(log: &str) -> Option<Ending> {
    let panic = log.lines().filter_map(line).find(|line| line.level == 'p')?;
    if panic.text.contains("Shutdown port: shutdown requested") {
        // The log has all bytes but the last of `Shutdown`. A guest may have written others to this port long before.
        let lines = log.lines().rev().filter_map(line).filter(|line| line.level == 'd');
        let mut bytes = lines.filter_map(|line| Some(line.text.split_once(WRITTEN)?.1));
        let failed = bytes.nth("Shutdow".len()) == Some("46");
        return Some(if failed { Ending::Failed } else { Ending::PowerOff });
    }
    let text = format!("{} (tick {}, {})", panic.text, panic.ticks, panic.device);
    Some(Ending::Panic(if panic.text.contains("exception with no resolution") {
        format!("triple fault on the emulated board: {text}")
    } else {
        text
    }))
}

/// The tick of the last line.
pub fn last_tick(log: &str) -> u64 {
    log.lines().filter_map(line).map(|line| line.ticks).max().unwrap_or(0)
}

/// The lines that the system wrote to port 0x402, each with its tick.
pub fn marks(log: &str) -> Vec<(u64, String)> {
    let lines = log.lines().filter_map(line).filter(|line| line.device == "BIOS" && line.level == 'i');
    lines.map(|line| (line.ticks, line.text.to_owned())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "\
00000000000i[      ] BXSHARE not set. using compile time default '/usr/share/bochs'
00163925740e[CPU0  ] INVEPT: invalid EPTPTR value !
00170000000i[BIOS  ] guest 0: first entry
00180000000p[UNMAP ] >>PANIC<< Shutdown port: shutdown requested
00180000000i[CPU0  ] CPU is in long mode (active)
| RAX=0000000000000000  RBX=0000000000000000
";

    #[test]
    fn a_power_off_is_no_panic() {
        assert_eq!(ending(LOG), Some(Ending::PowerOff));
        assert_eq!(last_tick(LOG), 180_000_000);
    }

    #[test]
    fn a_failure_is_a_byte_right_before_the_switch_and_no_other_byte() {
        // The prefix is there in Bochs 2.7, and not in 3.0.
        for (what, bytes, expected) in [
            ("unmapped: 8-bit write to 8900", "FShutdow", Ending::Failed),
            ("8-bit write to 8900", "FShutdow", Ending::Failed),
            ("8-bit write to 8900", "SShutdow", Ending::PowerOff),
            ("8-bit write to 8900", "FFxShutdow", Ending::PowerOff),
            ("8-bit write to 0890", "FShutdow", Ending::PowerOff),
        ] {
            let lines: String =
                bytes.bytes().map(|byte| format!("00170000000d[UNMAP ] {what} = {byte:02x}\n")).collect();
            assert_eq!(ending(&(lines + LOG)), Some(expected), "{what}: {bytes}");
        }
    }

    #[test]
    fn a_mark_has_its_tick() {
        assert_eq!(marks(LOG), [(170_000_000, "guest 0: first entry".to_owned())]);
    }

    #[test]
    fn a_triple_fault_is_called_one() {
        let log = "00001234567p[CPU0  ] >>PANIC<< exception(): 3rd (13) exception with no resolution\n";
        let Some(Ending::Panic(text)) = ending(log) else { panic!("not a panic") };
        assert!(text.starts_with("triple fault") && text.contains("tick 1234567"), "{text}");
    }

    #[test]
    fn ticks_may_outgrow_eleven_digits() {
        assert_eq!(line("123456789012i[BIOS  ] x").unwrap().ticks, 123_456_789_012);
    }

    #[test]
    fn other_text_is_no_line() {
        for text in ["", "| RAX=0", "0016392574", "00163925740", "00163925740e", "00163925740e[CPU0"] {
            assert_eq!(line(text), None, "{text}");
        }
    }
}
