//! Why Bochs did not start: its own message, and the part of the run that it concerns.

use super::log;
use super::{Options, last_lines};

/// Bochs's last message, and the remedy. `said` is its standard output and its log.
pub(super) fn explain(said: &str, ended: bool, options: &Options) -> (String, String) {
    let complaint = said.lines().filter_map(log::line).find(|line| line.level == 'p');
    let what = match &complaint {
        Some(line) => format!("Bochs refuses to start: {}", words(line.text)),
        None => {
            let state = if ended { "ended" } else { "is silent" };
            format!("Bochs {state} before the first instruction:\n{}", last_lines(said.as_bytes(), 12))
        }
    };
    let help = complaint.and_then(|line| help(line.device, line.text, options)).unwrap_or_else(|| {
        "bochs.out and bochs.log there have all of it; `cargo xtask doctor` shows whether Bochs and its BIOS packages are \
         installed"
            .to_owned()
    });
    (what, help)
}

/// Without the emphasis.
fn words(text: &str) -> &str {
    text.trim_start_matches(">>PANIC<<").trim()
}

/// The part of the run that a message concerns.
fn help(device: &str, text: &str, options: &Options) -> Option<String> {
    let about = |words: &[&str]| words.iter().any(|word| text.contains(word));
    if about(&["ROM image", "rom image"]) {
        return Some("`cargo xtask setup` installs Bochs and its BIOS packages".into());
    }
    if about(&["size' was set", "memory size", "allocate memory"]) {
        return Some(format!("the board was to have {} MiB of memory: give the VMs less", options.memory_mib));
    }
    if about(&["slot"]) {
        let cards = options.devices.cards.iter().map(|(slot, model)| format!("{} in slot {slot}", model.word()));
        let cards = cards.collect::<Vec<_>>().join(", ");
        return Some(format!("the description's `cards` under [emulator] put {cards}: choose another slot"));
    }
    if matches!(device, "HD" | "IMG") || about(&["disk image", "hard drive"]) {
        return Some(match &options.devices.disk {
            Some(disk) => format!("the disk is a copy of {}: is it a raw image of whole sectors?", disk.display()),
            None => format!("the only drive holds {}", options.iso.display()),
        });
    }
    if about(&["connect", "socket", "bind"]) {
        return Some("the console is a connection to this tool at 127.0.0.1: is something in its way?".into());
    }
    None
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use capdl_spec::host::CardModel;

    use super::*;

    fn options() -> Options {
        let mut options = Options::new("x", Path::new("/t/system.iso"));
        options.devices.disk = Some("/t/sysv.img".into());
        options.devices.cards = vec![(5, CardModel::Ne2k)];
        options.memory_mib = 2304;
        options
    }

    #[test]
    fn its_own_words_come_first_and_what_they_are_about_in_the_help() {
        for (line, what, about) in [
            (
                "00000000000p[HD    ] >>PANIC<< ata0-0: could not open hard drive image file 'disk.img'",
                "ata0-0: could not open hard drive image file 'disk.img'",
                "/t/sysv.img",
            ),
            (
                "00000000000p[IMG   ] >>PANIC<< size of disk image must be multiple of 512 bytes",
                "size of disk image must be multiple of 512 bytes",
                "/t/sysv.img",
            ),
            (
                "00000000000p[SIM   ] >>PANIC<< numerical parameter 'host_size' was set to 2304, which is out of range 1 to 2048",
                "numerical parameter 'host_size' was set to 2304",
                "2304 MiB",
            ),
            (
                "00000000000p[MEM0  ] >>PANIC<< ROM: couldn't open ROM image file '/usr/share/bochs/BIOS-bochs-latest'.",
                "ROM: couldn't open ROM image file",
                "xtask setup",
            ),
            (
                "00000000000p[PCI   ] >>PANIC<< Unknown plugin 'ne2k' at PCI slot #5",
                "'ne2k' at PCI slot #5",
                "ne2k in slot 5",
            ),
        ] {
            let said = format!("00000000000i[      ] reading configuration from bochsrc\n{line}\nother\n");
            let (text, help) = explain(&said, true, &options());
            assert!(text.starts_with("Bochs refuses to start: ") && text.contains(what), "{text}");
            assert!(help.contains(about), "{help}");
            assert!(!text.contains("PANIC"), "{text}");
        }
    }

    #[test]
    fn one_that_says_nothing_is_shown_with_its_last_lines() {
        let (text, help) = explain("one\ntwo\n", false, &options());
        assert_eq!(text, "Bochs is silent before the first instruction:\none\ntwo");
        assert!(help.contains("doctor"), "{help}");
    }
}
