//! The emulated board: writes Bochs's configuration file.
//!
//! An i440FX board with one Haswell core (VT-x with EPT), a CD-ROM with our ISO and COM1. Time is counted in emulated
//! instructions alone. See "bochsrc" in the Bochs user manual, chapter 4.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;

/// Emulated instructions per emulated second. More makes waiting cost more; less makes the timer interrupt more often.
pub const TICKS_PER_SECOND: u64 = 50_000_000;

/// 1 January 2000, 00:00 UTC: where the emulated clock starts when runs are to be the same.
pub const START_OF_TIME: u64 = 946_684_800;

/// Where COM1 leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Serial {
    /// To a listener of ours: input is possible, and arrives at ticks that depend on the host.
    Socket(SocketAddr),
    /// Into a file: no input, and every run is the same.
    File(PathBuf),
}

/// How emulated time passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pace {
    /// As fast as the host can, and an idle system's time even faster. Every run is the same.
    Free,
    /// Starting at the host's date and never faster than its clock, for a person at the console: a second of `sleep`
    /// takes a second.
    RealTime,
}

/// What differs between runs.
#[derive(Debug, Clone)]
pub struct Board {
    /// What it boots from.
    pub iso: PathBuf,
    /// Its memory, in MiB.
    pub memory_mib: u32,
    /// COM1.
    pub serial: Serial,
    /// Its clock.
    pub pace: Pace,
    /// Further lines, for devices (a disk, a network card).
    pub extra: Vec<String>,
}

/// The text of the configuration file.
pub fn bochsrc(board: &Board) -> String {
    let (memory, iso) = (board.memory_mib, board.iso.display());
    let com1 = match &board.serial {
        Serial::Socket(address) => format!("mode=socket-client, dev={address}"),
        Serial::File(path) => format!("mode=file, dev={}", path.display()),
    };
    let clock = match board.pace {
        Pace::Free => format!("sync=none, time0={START_OF_TIME}"),
        Pace::RealTime => "sync=slowdown, time0=utc".to_owned(),
    };
    // With skylake and later models Linux believes CPUID leaf 0x15, which the emulated TSC does not follow.
    // The rfb display needs no client when it need not wait for one; Debian has no display "none".
    let mut text = format!(
        "config_interface: textconfig\n\
         display_library: rfb, options=\"timeout=0\"\n\
         cpu: model=corei7_haswell_4770, count=1, ips={TICKS_PER_SECOND}, reset_on_triple_fault=0, ignore_bad_msrs=1\n\
         memory: guest={memory}, host={memory}\n\
         romimage: file=/usr/share/bochs/BIOS-bochs-latest, options=fastboot\n\
         vgaromimage: file=/usr/share/bochs/VGABIOS-lgpl-latest\n\
         vga: extension=vbe, update_freq=5, realtime=0\n\
         pci: enabled=1, chipset=i440fx\n\
         clock: {clock}\n\
         ata0: enabled=1, ioaddr1=0x1f0, ioaddr2=0x3f0, irq=14\n\
         ata1: enabled=1, ioaddr1=0x170, ioaddr2=0x370, irq=15\n\
         ata1-master: type=cdrom, path=\"{iso}\", status=inserted\n\
         boot: cdrom\n\
         com1: enabled=1, {com1}\n\
         log: bochs.log\n\
         panic: action=fatal\n\
         error: action=report\n\
         info: action=report\n\
         debug: action=ignore\n\
         sound: driver=dummy\n\
         speaker: enabled=0\n\
         plugin_ctrl: speaker=0, gameport=0, parallel=0\n\
         mouse: enabled=0\n"
    );
    for line in &board.extra {
        // Writing to a String cannot fail. A second `pci:` line replaces the first.
        let _ = writeln!(text, "{line}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn board(serial: Serial) -> Board {
        Board {
            iso: "/t/system.iso".into(),
            memory_mib: 512,
            serial,
            pace: Pace::Free,
            extra: vec!["com2: enabled=1".into()],
        }
    }

    #[test]
    fn an_interactive_console_is_a_socket() {
        let text = bochsrc(&board(Serial::Socket(([127, 0, 0, 1], 4000).into())));
        assert!(text.contains("\ncom1: enabled=1, mode=socket-client, dev=127.0.0.1:4000\n"), "{text}");
    }

    #[test]
    fn time_comes_from_instructions_alone() {
        let text = bochsrc(&board(Serial::File("serial.txt".into())));
        assert!(text.contains("\nclock: sync=none, time0=946684800\n"), "{text}");
        assert!(text.contains("ips=50000000"), "{text}");
    }

    #[test]
    fn further_devices_come_last() {
        assert!(bochsrc(&board(Serial::File("serial.txt".into()))).ends_with("\ncom2: enabled=1\n"));
    }
}
