//! The exits of a boot, from the emulator's own log: with `debug: cpu0=report` it has a line for each,
//!
//! ```text
//! 00120516068d[CPU0  ] VMEXIT reason = 30 (I/O Instruction) qualification=0x710000
//! ```
//!
//! so this can count them up to a given tick, and by port. vmm-server's own counts run until the guest powers off.
//! Reasons and qualifications are those of the SDM, volume 3, Appendix C and section 28.2.1.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead as _, BufReader};

use miette::{IntoDiagnostic, Result, miette};

use super::row::{Row, Rows, Unit};
use super::script::{Run, SHELL_MARK};
use crate::bochs::log;

/// Exit reasons, and their rows' names.
const REASONS: [(u32, &str); 11] = [
    (0, "exception"),
    (1, "interrupt"),
    (7, "window"),
    (10, "cpuid"),
    (12, "halt"),
    (28, "control"),
    (29, "debug"),
    (31, "rdmsr"),
    (32, "wrmsr"),
    (48, "memory"),
    (52, "timer"),
];
const IO: u32 = 30;
/// Exits that the kernel handles itself: the first use of a vector register, and the host's own interrupts.
const OF_THE_KERNEL: [u32; 2] = [0, 1];
/// The log's first line of seL4's own code: the loader runs in 32-bit mode.
const LONG_MODE: &str = "long mode activated";
/// The row of the time from seL4's entry to the guest's first instruction.
pub const START_UP: &str = "sel4_to_guest";
/// Ports that get rows.
const BUSIEST: usize = 10;

/// The lines that a script writes to the emulator's log before and after it sleeps, which takes this many seconds.
const SLEEP: [&str; 2] = ["asleep", "awake"];
const SECONDS: u64 = 10;

/// The rows of a watched run: exits from the guest's first instruction to its first script (`boot_exits` are those that
/// vmm-server handles), the time from seL4's first instruction to the guest's, and exits of the sleeping guest. `width` is
/// part of their names. Deletes the log, which is large and not needed any more.
pub fn rows(run: &Run, width: &str) -> Result<Vec<Row>> {
    let path = run.dir.join("bochs.log");
    let (shell, [asleep, awake]) = (run.mark(SHELL_MARK)?, [run.mark(SLEEP[0])?, run.mark(SLEEP[1])?]);
    let (mut boot, mut idle, mut kernel) = (Counts::default(), Counts::default(), None);
    for text in BufReader::new(File::open(&path).into_diagnostic()?).split(b'\n') {
        let text = text.into_diagnostic()?;
        let text = String::from_utf8_lossy(&text);
        let Some(line) = log::line(&text) else { continue };
        if (run.entry..=shell).contains(&line.ticks) {
            boot.add(line.text);
        } else if (asleep..=awake).contains(&line.ticks) {
            idle.add(line.text);
        } else if kernel.is_none() && line.text == LONG_MODE {
            kernel = Some(line.ticks);
        }
    }
    std::fs::remove_file(&path).into_diagnostic()?;
    let kernel = kernel.ok_or_else(|| miette!("the emulator does not tell when seL4 begins"))?;
    let mut rows = boot.rows(&format!("boot{width}")).0;
    rows.push(Row::single(&format!("{START_UP}{width}"), run.entry.saturating_sub(kernel), Unit::Ticks));
    rows.push(Row::single(&format!("idle{width}_exits_per_second"), idle.answered() / SECONDS, Unit::Exits));
    Ok(rows)
}

/// Exits by reason, and those for ports by port.
#[derive(Debug, Default)]
struct Counts {
    reasons: BTreeMap<u32, u64>,
    ports: BTreeMap<u16, u64>,
}

impl Counts {
    /// Counts a line, if it reports an exit.
    fn add(&mut self, text: &str) {
        let Some((reason, qualification)) = exit(text) else { return };
        *self.reasons.entry(reason).or_default() += 1;
        if reason == IO {
            *self.ports.entry((qualification >> 16) as u16).or_default() += 1;
        }
    }

    /// Exits for a reason.
    fn of(&self, reason: u32) -> u64 {
        self.reasons.get(&reason).copied().unwrap_or(0)
    }

    /// Exits that vmm-server handles.
    fn answered(&self) -> u64 {
        self.reasons.values().sum::<u64>() - OF_THE_KERNEL.map(|reason| self.of(reason)).iter().sum::<u64>()
    }

    /// `what` is what all names begin with.
    fn rows(&self, what: &str) -> Rows {
        let row = |name: String, count: u64| Row::single(&name, count, Unit::Exits);
        let of = |reason: u32| self.of(reason);
        let all: u64 = self.reasons.values().sum();
        let mut rows = vec![row(format!("{what}_exits"), self.answered()), row(format!("{what}_exits_io"), of(IO))];
        for (reason, name) in REASONS {
            rows.push(row(format!("{what}_exits_{name}"), of(reason)));
        }
        let known: u64 = REASONS.iter().map(|(reason, _)| of(*reason)).sum();
        rows.push(row(format!("{what}_exits_other"), all - known - of(IO)));
        let mut ports: Vec<(u16, u64)> = self.ports.iter().map(|(port, count)| (*port, *count)).collect();
        ports.sort_by_key(|(port, count)| (u64::MAX - count, *port));
        rows.extend(ports.iter().take(BUSIEST).map(|(port, count)| row(format!("{what}_port_{port:#x}"), *count)));
        Rows(rows)
    }
}

/// Basic exit reason and qualification in a line's text.
fn exit(text: &str) -> Option<(u32, u64)> {
    let (reason, rest) = text.strip_prefix("VMEXIT reason = ")?.split_once(' ')?;
    let (_, qualification) = rest.rsplit_once("qualification=0x")?;
    Some((reason.parse().ok()?, u64::from_str_radix(qualification.trim(), 16).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exits_are_counted_by_reason_and_by_port() {
        let mut counts = Counts::default();
        for text in [
            "VMEXIT reason = 30 (I/O Instruction) qualification=0x710008",
            "VMEXIT: I/O port 0x0071",
            "VMEXIT reason = 30 (I/O Instruction) qualification=0x200000",
            "VMEXIT reason = 30 (I/O Instruction) qualification=0x200000",
            "VMEXIT reason = 1 (External Interrupt) qualification=0x0",
            "VMEXIT reason = 16 (RDTSC) qualification=0x0",
            "VMEXIT to x86-64 host",
        ] {
            counts.add(text);
        }
        let rows = counts.rows("boot");
        let count = |name: &str| rows.get(name).map(|row| row.median);
        assert_eq!((count("boot_exits"), count("boot_exits_io")), (Some(4), Some(3)));
        assert_eq!((count("boot_exits_interrupt"), count("boot_exits_other")), (Some(1), Some(1)));
        assert_eq!((count("boot_port_0x20"), count("boot_port_0x71")), (Some(2), Some(1)));
        assert!(
            rows.0.iter().position(|row| row.name == "boot_port_0x20")
                < rows.0.iter().position(|row| row.name == "boot_port_0x71")
        );
    }
}
