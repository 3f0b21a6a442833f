//! Counts exits by reason; the log lists the counters when the guest powers off.

/// Counters: more than there are basic exit reasons, and a power of two, so that indexing needs no bounds check. A
/// higher reason shares a counter with a lower one.
const REASONS: usize = 128;

/// Counters.
pub struct Tally {
    exits: [u64; REASONS],
    signals: u64,
}

impl Tally {
    /// All zero.
    pub const fn new() -> Self {
        Self { exits: [0; REASONS], signals: 0 }
    }

    /// Counts an exit; returns how many of its kind there were.
    #[inline]
    pub fn exit(&mut self, reason: u32) -> u64 {
        let count = &mut self.exits[reason as usize % REASONS];
        *count = count.wrapping_add(1);
        *count
    }

    /// Counts a signal: it ends a run of the guest, as an exit does.
    pub fn signal(&mut self) {
        self.signals += 1;
    }

    /// Prints the counters that are not zero, most frequent first, by the reasons' numbers and names.
    pub fn log(&self) {
        let total: u64 = self.exits.iter().sum();
        log::info!("{total} exits, {} signals", self.signals);
        let mut listed = [false; REASONS];
        loop {
            let most = self.exits.iter().enumerate().filter(|&(reason, &count)| count > 0 && !listed[reason]);
            let Some((reason, count)) = most.max_by_key(|&(_, &count)| count) else { break };
            listed[reason] = true;
            log::info!("  {count:>8} {}", name(reason));
        }
    }
}

/// Names of the reasons that occur (SDM volume 3, Appendix C).
fn name(reason: usize) -> &'static str {
    match reason {
        0 => "exception or NMI",
        2 => "triple fault",
        7 => "interrupt window",
        9 => "task switch",
        10 => "CPUID",
        11 => "GETSEC",
        12 => "HLT",
        13 => "INVD",
        14 => "INVLPG",
        15 => "RDPMC",
        18 => "VMCALL",
        19..=27 | 50 | 53 | 59 => "VMX instruction",
        28 => "control register",
        29 => "debug register",
        30 => "I/O instruction",
        31 => "RDMSR",
        32 => "WRMSR",
        33 | 34 | 41 => "failed entry",
        36 => "MWAIT",
        39 => "MONITOR",
        48 => "EPT violation",
        52 => "preemption timer",
        54 => "WBINVD",
        55 => "XSETBV",
        _ => "other",
    }
}
