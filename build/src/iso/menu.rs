//! The menus of the ISO's loaders, and the words that the kernel gets from them.
//!
//! Our kernel takes `console_port` and `console_divisor` in every build, from its first instruction on, and hands them on to
//! root-task; a debug kernel of others takes `console_port`. Each is left out where it says what the kernel does anyway.

use capdl_spec::host::{System, console};

/// The first UART of a PC.
pub const COM1: Console = Console { port: 0x3f8, baud: 115_200, divisor: 1 };
/// The second.
const COM2: Console = Console { port: 0x2f8, baud: 115_200, divisor: 1 };

/// The UART of the kernel's messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Console {
    /// Its first port.
    pub port: u16,
    /// Bits per second.
    pub baud: u32,
    /// Its clock by 16 and by those.
    pub divisor: u16,
}

/// What the menus are made for.
#[derive(Clone, Copy, Debug)]
pub struct Menu {
    /// The console of the description.
    pub console: Console,
    /// Whether the ISO has a debug kernel beside the other one.
    pub debug: bool,
    /// Whether ISOLINUX waits for a choice.
    pub waits: bool,
}

/// An entry.
struct Entry {
    /// What ISOLINUX's prompt takes.
    label: &'static str,
    /// What GRUB shows behind the product's name.
    about: String,
    kernel: &'static str,
    words: String,
    /// Where the kernel prints.
    console: Console,
}

impl Console {
    /// The one of a system.
    pub fn of(system: &System) -> Self {
        let board = system.board();
        Console { port: board.uart.ports.first, baud: board.baud, divisor: board.divisor() }
    }

    /// What the kernel is told of it.
    fn words(self) -> String {
        let port = (self.port != COM1.port).then(|| format!(" console_port={:#x}", self.port));
        let divisor = (self.divisor != COM1.divisor).then(|| format!(" console_divisor={}", self.divisor));
        [port, divisor].into_iter().flatten().collect()
    }

    /// Its name for people.
    fn name(self) -> String {
        console::com(self.port).map_or_else(|| format!("port {:#x}", self.port), str::to_owned)
    }

    /// What the screen says, since nothing of the system is to be seen there.
    fn hint(self) -> String {
        format!("Portcullis prints on {} at {} baud; this screen stays as it is.", self.name(), self.baud)
    }

    /// GRUB's command for it.
    fn grub(self) -> String {
        let unit = match console::com_number(self.port) {
            Some(number) => format!("--unit={}", number - 1),
            None => format!("--port={:#x}", self.port),
        };
        format!("serial {unit} --speed={}", self.baud)
    }
}

impl Menu {
    fn entries(&self) -> Vec<Entry> {
        let words = self.console.words();
        let other = if self.console.port == COM1.port { COM2 } else { COM1 };
        let console = self.console;
        let entry =
            |label, about: &str, kernel, words| Entry { label, about: about.to_owned(), kernel, words, console };
        let mut entries = vec![entry("portcullis", "", KERNEL, words.clone())];
        if self.debug {
            entries.push(entry("debug", ", debug kernel", DEBUG_KERNEL, words.clone()));
        }
        entries.push(entry("without-iommu", ", without the IOMMU", KERNEL, format!("{words} disable_iommu")));
        let about = format!(", the kernel's messages on {}", other.name());
        // The default is said, too: where the description has another console, it is not what the word's absence means.
        let words = format!(" console_port={:#x}", other.port);
        entries.push(Entry { console: other, ..entry("other-console", &about, KERNEL, words) });
        entries
    }

    /// ISOLINUX's. For a board the prompt is on the screen and on the console, and waits for two seconds; a key stops that, and so
    /// does noise on a serial line, so it never waits longer than a minute. Else the first entry starts at once, so that emulators
    /// need not wait.
    pub fn isolinux(&self) -> String {
        let wait = match self.waits {
            // In tenths of a second.
            true => {
                let Console { port, baud, .. } = self.console;
                let hint = self.console.hint();
                // The BIOS counts the time by the 8254, which not every board has running.
                format!(
                    "SERIAL {port:#x} {baud}\nSAY {hint}\nSAY It starts in 2 s, or with Enter; after another key, in 60 s.\nPROMPT 1\n\
                     TIMEOUT 20\nTOTALTIMEOUT 600\n"
                )
            }
            false => "PROMPT 0\nTIMEOUT 0\n".to_owned(),
        };
        let mut text = format!("{wait}DEFAULT portcullis\n");
        for Entry { label, kernel, words, .. } in self.entries() {
            text +=
                &format!("LABEL {label}\n  KERNEL mboot.c32\n  APPEND /boot/{kernel}{words} --- /boot/{ROOT_TASK}\n");
        }
        text
    }

    /// GRUB's, on the screen and on the console.
    pub fn grub(&self) -> String {
        // With the payload `text` the screen keeps its text; else GRUB makes it black for a kernel that does not draw.
        let mut text = self.console.grub()
            + "\nterminal_input console serial\nterminal_output console serial\nset timeout=2\nset gfxpayload=text\n";
        for Entry { about, kernel, words, console, .. } in self.entries() {
            let hint = console.hint();
            text += &format!(
                "menuentry \"Portcullis{about}\" {{\n    multiboot2 /boot/{kernel}{words}\n    module2 /boot/{ROOT_TASK}\n    \
                 echo \"{hint}\"\n}}\n"
            );
        }
        text
    }
}

/// The kernel in the ISO's folder `boot`.
pub const KERNEL: &str = "kernel";
/// The debug kernel beside it.
pub const DEBUG_KERNEL: &str = "kernel-debug";
/// The root task's image.
pub const ROOT_TASK: &str = "root-task";

#[cfg(test)]
mod tests {
    use super::*;

    const USUAL: Menu = Menu { console: COM1, debug: false, waits: false };

    fn entries(menu: &str, start: &str) -> Vec<String> {
        menu.split(start).skip(1).map(str::to_owned).collect()
    }

    fn both(menu: Menu) -> [Vec<String>; 2] {
        [entries(&menu.isolinux(), "LABEL "), entries(&menu.grub(), "menuentry ")]
    }

    #[test]
    fn the_default_comes_first_and_tells_the_kernel_nothing() {
        for entries in both(USUAL) {
            assert_eq!(entries.len(), 3, "{entries:?}");
            assert!(["/boot/kernel\n", "/boot/kernel ---"].iter().any(|end| entries[0].contains(end)), "{entries:?}");
            assert!(entries[1].contains("/boot/kernel disable_iommu"), "{entries:?}");
            assert!(entries[2].contains("/boot/kernel console_port=0x2f8"), "{entries:?}");
        }
        assert!(USUAL.grub().starts_with("serial --unit=0 --speed=115200\n"));
    }

    #[test]
    fn the_console_of_the_description_is_in_every_entry_but_that_of_the_other() {
        let menu = Menu { console: Console { port: 0x2f8, baud: 9600, divisor: 12 }, debug: true, waits: true };
        for entries in both(menu) {
            let (other, rest) = entries.split_last().unwrap();
            assert_eq!(rest.len(), 3);
            assert!(rest.iter().all(|entry| entry.contains(" console_port=0x2f8 console_divisor=12")), "{rest:?}");
            assert!(rest[1].contains("/boot/kernel-debug "), "{rest:?}");
            assert!(other.contains(" console_port=0x3f8") && !other.contains("divisor"), "{other}");
        }
        assert!(menu.grub().starts_with("serial --unit=1 --speed=9600\n"), "{}", menu.grub());
        assert!(menu.grub().contains("messages on COM1\""), "{}", menu.grub());
    }

    #[test]
    fn a_boards_menu_waits_on_the_screen_and_on_the_console() {
        let menu = Menu { console: Console { port: 0x2f8, baud: 9600, divisor: 12 }, debug: true, waits: true };
        let start = "SERIAL 0x2f8 9600\nSAY Portcullis prints on COM2 at 9600 baud; this screen stays as it is.\n\
                     SAY It starts in 2 s, or with Enter; after another key, in 60 s.\nPROMPT 1\nTIMEOUT 20\nTOTALTIMEOUT 600\nDEFAULT portcullis\n";
        assert!(menu.isolinux().starts_with(start), "{}", menu.isolinux());
        let grub = entries(&menu.grub(), "menuentry ");
        assert!(grub[0].contains("echo \"Portcullis prints on COM2 at 9600 baud;"), "{grub:?}");
        assert!(grub[3].contains("echo \"Portcullis prints on COM1 at 115200 baud;"), "{grub:?}");
        assert!(USUAL.isolinux().starts_with("PROMPT 0\nTIMEOUT 0\nDEFAULT portcullis\n"));
    }

    #[test]
    fn a_uart_on_a_card_has_its_port() {
        let menu = Menu { console: Console { port: 0xe000, ..COM1 }, debug: false, waits: false };
        assert!(menu.grub().starts_with("serial --port=0xe000 --speed=115200\n"));
        assert!(menu.isolinux().contains("/boot/kernel console_port=0xe000 ---"));
    }
}
