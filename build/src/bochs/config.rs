//! The emulated board: writes Bochs's configuration file.
//!
//! An i440FX board with one core (by default a Haswell with VT-x and EPT), a CD-ROM with our ISO, and COM1. Its clock
//! counts emulated instructions only. See "bochsrc" in the Bochs user manual, chapter 4.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;

use capdl_spec::host::CardModel;

/// Emulated instructions per emulated second. More makes waiting cost more; less makes the timer interrupt more often.
pub const TICKS_PER_SECOND: u64 = 50_000_000;

/// 1 January 2000, 00:00 UTC: the start of the emulated clock in runs that repeat exactly.
pub const START_OF_TIME: u64 = 946_684_800;

/// The default processor of a board.
pub const HASWELL: &str = "corei7_haswell_4770";

/// The board's BIOS, in Debian's package bochsbios.
pub const BIOS: &str = "/usr/share/bochs/BIOS-bochs-latest";
/// The BIOS of its graphics card, in Debian's package vgabios.
pub const VGA_BIOS: &str = "/usr/share/bochs/VGABIOS-lgpl-latest";

/// Most memory of a board, in MiB: the BIOS's tables and PCI devices follow.
pub const MOST_MEMORY_MIB: u64 = 3072;
/// Most memory that Bochs keeps in the host's memory, in MiB; it keeps the rest in a file.
const MOST_HOST_MIB: u32 = 2048;

/// Where the console leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Serial {
    /// To our socket: input is possible, and arrives at ticks that depend on the host.
    Socket(SocketAddr),
    /// Into a file: no input, and every run repeats exactly.
    File(PathBuf),
}

/// How emulated time passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pace {
    /// As fast as the host can, and faster while the system is idle. Every run repeats exactly.
    Free,
    /// Starting at the host's date and never faster than its clock, for a person at the console: a second of `sleep`
    /// takes a second.
    RealTime,
}

/// What is plugged in.
#[derive(Debug, Clone, Default)]
pub struct Devices {
    /// The image of the first IDE controller's first disk. Each run gets a copy.
    pub disk: Option<PathBuf>,
    /// PCI cards: the slot (device number less one), and what is in it.
    pub cards: Vec<(u8, CardModel)>,
}

/// The hardware address of the card with a number, counted from 0 in the order of [`Devices::cards`].
pub fn mac(card: usize) -> String {
    format!("52:54:00:12:34:{:02x}", (0x56 + card) & 0xff)
}

/// The disk's file in a run's directory.
pub const DISK: &str = "disk.img";
/// The directory, in a run's, of the files that the network offers by TFTP.
pub const TFTP: &str = "tftp";
/// The configuration of the network in a run's directory, see [`VNET`].
pub const NETWORK: &str = "vnet.conf";
/// The log into which the network writes every packet.
pub const NETWORK_LOG: &str = "vnet.log";
/// What [`NETWORK`] holds.
pub const VNET: &str = "# vnet config\nhostname = bochs\npktlog = vnet.log\n";

/// A version of Bochs, major and minor number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Version(pub u32, pub u32);

/// The version in what `bochs-bin --help` prints: `Bochs x86 Emulator 2.7`.
pub fn version(help: &str) -> Option<Version> {
    let words = help.lines().find_map(|line| line.trim().strip_prefix("Bochs x86 Emulator "))?;
    let (major, minor) = words.split_whitespace().next()?.split_once('.')?;
    let minor = minor.split(|c: char| !c.is_ascii_digit()).next()?;
    Some(Version(major.parse().ok()?, minor.parse().ok()?))
}

/// The settings that differ between runs.
#[derive(Debug, Clone)]
pub struct Board {
    /// What it boots from.
    pub iso: PathBuf,
    /// Whether it boots as a disk instead of a CD; then there is no other disk.
    pub as_disk: bool,
    /// Its memory, in MiB.
    pub memory_mib: u32,
    /// Its processor, as Bochs calls it.
    pub processor: String,
    /// The version of Bochs that reads the file.
    pub version: Version,
    /// Where the console leads.
    pub serial: Serial,
    /// The number of the COM port that is the console.
    pub com: u8,
    /// Its clock.
    pub pace: Pace,
    /// What is plugged in.
    pub devices: Devices,
    /// Further lines.
    pub extra: Vec<String>,
}

/// The text of the configuration file.
pub fn bochsrc(board: &Board) -> String {
    let (memory, path, processor) = (board.memory_mib, board.iso.display(), &board.processor);
    let iso = if board.as_disk {
        format!("ata0-master: type=disk, path=\"{path}\", mode=volatile, translation=auto\nboot: disk")
    } else {
        format!("ata1-master: type=cdrom, path=\"{path}\", status=inserted\nboot: cdrom")
    };
    let host = memory.min(MOST_HOST_MIB);
    let console = match &board.serial {
        Serial::Socket(address) => format!("mode=socket-client, dev={address}"),
        Serial::File(path) => format!("mode=file, dev={}", path.display()),
    };
    let clock = match board.pace {
        Pace::Free => format!("sync=none, time0={START_OF_TIME}"),
        Pace::RealTime => "sync=slowdown, time0=utc".to_owned(),
    };
    let slots: String =
        board.devices.cards.iter().map(|(slot, model)| format!(", slot{slot}={}", model.word())).collect();
    // On skylake and later models Linux trusts CPUID leaf 0x15, and the emulated TSC runs at another rate. The rfb
    // display works without a client if it does not wait for one; Debian's Bochs has no display "none".
    let mut text = format!(
        "config_interface: textconfig\n\
         display_library: rfb, options=\"timeout=0\"\n\
         cpu: model={processor}, count=1, ips={TICKS_PER_SECOND}, reset_on_triple_fault=0, ignore_bad_msrs=1\n\
         memory: guest={memory}, host={host}\n\
         romimage: file={BIOS}, options=fastboot\n\
         vgaromimage: file={VGA_BIOS}\n\
         vga: extension=vbe, update_freq=5, realtime=0\n\
         pci: enabled=1, chipset=i440fx{slots}\n\
         clock: {clock}\n\
         ata0: enabled=1, ioaddr1=0x1f0, ioaddr2=0x3f0, irq=14\n\
         ata1: enabled=1, ioaddr1=0x170, ioaddr2=0x370, irq=15\n\
         {iso}\n\
         com{}: enabled=1, {console}\n\
         log: bochs.log\n\
         panic: action=fatal\n\
         error: action=report\n\
         info: action=report\n\
         debug: action=ignore, unmapped=report\n\
         sound: driver=dummy\n\
         speaker: enabled=0\n\
         plugin_ctrl: speaker=0, gameport=0, parallel=0\n\
         mouse: enabled=0\n",
        board.com
    );
    // Writing to a String cannot fail.
    if board.devices.disk.is_some() {
        let _ = writeln!(text, "ata0-master: type=disk, path=\"{DISK}\", mode=flat, translation=auto");
    }
    for line in cards(&board.devices.cards, board.version).iter().chain(&board.extra) {
        let _ = writeln!(text, "{line}");
    }
    text
}

/// A line per card. Bochs numbers the cards of each model separately. There is one network, to which the first card is
/// connected; the others have no cable.
fn cards(cards: &[(u8, CardModel)], version: Version) -> Vec<String> {
    let line = |(index, (_, model)): (usize, &(u8, CardModel))| {
        let number = cards[..index].iter().filter(|(_, other)| other == model).count();
        let network = match index {
            0 => format!("ethmod=vnet, ethdev=\"{TFTP}\", script=\"{NETWORK}\""),
            _ => "ethmod=null, ethdev=none".to_owned(),
        };
        let kind = match (model, number, version) {
            (CardModel::E1000, ..) => "",
            // For all cards but the first, Bochs 3.0 counts the type's names from `isa` on, so `isa` selects "pci"
            // (iodev/network/ne2k.cc, ne2k_init_options).
            (CardModel::Ne2k, 1.., Version(3, 0)) => ", type=isa",
            (CardModel::Ne2k, ..) => ", type=pci",
        };
        format!("{}: card={number}, enabled=1{kind}, mac={}, {network}", model.word(), mac(index))
    };
    cards.iter().enumerate().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn board(serial: Serial) -> Board {
        Board {
            iso: "/t/system.iso".into(),
            as_disk: false,
            memory_mib: 512,
            processor: HASWELL.to_owned(),
            version: Version(2, 7),
            serial,
            com: 1,
            pace: Pace::Free,
            devices: Devices::default(),
            extra: vec!["com4: enabled=1".into()],
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
    fn a_large_board_is_not_all_in_the_hosts_memory() {
        let mut board = board(Serial::File("serial.txt".into()));
        assert!(bochsrc(&board).contains("\nmemory: guest=512, host=512\n"));
        board.memory_mib = 3072;
        assert!(bochsrc(&board).contains("\nmemory: guest=3072, host=2048\n"));
    }

    #[test]
    fn further_devices_come_last() {
        assert!(bochsrc(&board(Serial::File("serial.txt".into()))).ends_with("\ncom4: enabled=1\n"));
    }

    #[test]
    fn a_console_on_com2_leaves_com1_to_nobody() {
        let text = bochsrc(&Board { com: 2, ..board(Serial::File("serial.txt".into())) });
        assert!(text.contains("\ncom2: enabled=1, mode=file, dev=serial.txt\n") && !text.contains("com1:"), "{text}");
    }

    #[test]
    fn a_card_is_in_its_slot_and_only_the_first_has_a_cable() {
        let mut board = board(Serial::File("serial.txt".into()));
        board.devices.cards = vec![(2, CardModel::E1000), (3, CardModel::Ne2k), (4, CardModel::E1000)];
        let text = bochsrc(&board);
        assert!(text.contains("\npci: enabled=1, chipset=i440fx, slot2=e1000, slot3=ne2k, slot4=e1000\n"), "{text}");
        assert!(text.contains("\ne1000: card=0, enabled=1, mac=52:54:00:12:34:56, ethmod=vnet, "), "{text}");
        assert!(text.contains("\nne2k: card=0, enabled=1, type=pci, mac=52:54:00:12:34:57, ethmod=null, "), "{text}");
        assert!(text.contains("\ne1000: card=1, enabled=1, mac=52:54:00:12:34:58, ethmod=null, "), "{text}");
    }

    #[test]
    fn a_second_ne2k_is_on_the_pci_bus_of_either_bochs() {
        let two = [(1, CardModel::Ne2k), (5, CardModel::Ne2k)];
        let of = |version| cards(&two, version).join("\n");
        assert!(of(Version(2, 7)).contains("ne2k: card=1, enabled=1, type=pci,"));
        assert!(of(Version(3, 0)).contains("ne2k: card=1, enabled=1, type=isa,"));
        assert!(of(Version(3, 0)).contains("ne2k: card=0, enabled=1, type=pci,"));
    }

    #[test]
    fn the_version_is_in_what_bochs_prints() {
        assert_eq!(version("=====\n            Bochs x86 Emulator 2.7\n   Built"), Some(Version(2, 7)));
        assert_eq!(version("  Bochs x86 Emulator 3.0.devel\n"), Some(Version(3, 0)));
        assert_eq!(version("no emulator"), None);
    }

    #[test]
    fn a_disk_is_the_runs_own_copy() {
        let mut board = board(Serial::File("serial.txt".into()));
        assert!(!bochsrc(&board).contains("ata0-master"));
        board.devices.disk = Some("/cache/sysv.img".into());
        assert!(bochsrc(&board).contains("\nata0-master: type=disk, path=\"disk.img\", mode=flat, translation=auto\n"));
    }
}
