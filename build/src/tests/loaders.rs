//! The ISO's loaders: by BIOS and by UEFI, from a CD and from a USB drive, on QEMU's Q35 board.

use std::path::{Path, PathBuf};

use capdl_spec::host;
use miette::{IntoDiagnostic, Result, ensure};

use super::components::verdict;
use super::q35::{self, until};
use super::screen;
use crate::qemu::{Loader, Machine, Options};
use crate::test::{Context, Group, Outcome, Test, passed};
use crate::{iso, kernel, project};

pub fn all() -> Vec<Test> {
    vec![
        Test::new(Group::Components, "an-iso-starts-by-uefi-from-cd", |context| starts(context, true, false)),
        Test::new(Group::Components, "an-iso-starts-by-uefi-from-usb", |context| starts(context, true, true)),
        Test::new(Group::Components, "an-iso-starts-by-bios-from-cd", |context| starts(context, false, false)).long(),
        Test::new(Group::Components, "an-iso-starts-by-bios-from-usb", |context| starts(context, false, true)).long(),
        Test::new(Group::Components, "an-entry-is-chosen-on-the-console-by-bios", chosen).long(),
    ]
}

fn starts(context: &Context, uefi: bool, usb: bool) -> Result<Outcome> {
    if let Some(skipped) = q35::skipped()? {
        return Ok(skipped);
    }
    let system = host::load(&context.project.root.join("tests/systems/q35-deadlines.toml"))?;
    let name = format!("q35-iso-{}-{}", if uefi { "uefi" } else { "bios" }, if usb { "usb" } else { "cd" });
    let iso = q35::iso(context, &name, system)?;
    let mut options = Options::new(&format!("test-{name}"), Loader::Iso { iso, uefi, usb });
    let decoy = decoy(&context.folder(&format!("{name}-iommu"))?)?;
    options.disk = Some((format!("snapshot=on,file={}", decoy.display()), "DECOY"));
    options.devices = vec!["VGA".into()];
    let mut machine = Machine::boot(&context.project, &options)?;
    let text = until(&mut machine, "client: verdict: ")?;
    if uefi {
        ensure!(text.contains("Portcullis prints on COM1 at 115200 baud;"), "no hint:\n{text}");
        ensure!(!screen::is_black(&mut machine)?, "the screen does not keep the loader's text");
    }
    // OVMF keeps pages from 8 MiB on, so the image, which used to follow the kernel, lies above them.
    let moved = text.contains("Moving loaded userland images to final location: from=0x900000 to=0x900000");
    ensure!(moved == uefi || kernel::are_own(), "where the image lies:\n{text}");
    Ok(Outcome::Passed(format!("{} checks", verdict(&text, "client")?)))
}

/// At the prompt of a board's ISO the console takes an entry's word.
fn chosen(context: &Context) -> Result<Outcome> {
    if let Some(skipped) = q35::skipped()? {
        return Ok(skipped);
    }
    let system = host::load(&context.project.root.join("tests/systems/q35-deadlines.toml"))?;
    let iso = q35::iso_for_a_board(context, "q35-menu", system)?;
    let mut machine =
        Machine::boot(&context.project, &Options::new("test-q35-menu", Loader::Iso { iso, uefi: false, usb: false }))?;
    machine.console.expect("boot: ", q35::LIMIT).into_diagnostic()?;
    machine.console.send(b"debug\r").into_diagnostic()?;
    let text = until(&mut machine, "client: verdict: ")?;
    ensure!(text.contains("Loading /boot/kernel-debug... ok"), "another entry:\n{text}");
    verdict(&text, "client")?;
    passed()
}

/// A disk that looks like an ISO to a loader which searches for one, as a guest may write it.
fn decoy(dir: &Path) -> Result<PathBuf> {
    let (menu, disk) = (dir.join("decoy.cfg"), dir.join("decoy.img"));
    project::write(&menu, b"serial\nterminal_output serial\necho the guest has taken over\nsleep 1000\n")?;
    let _ = std::fs::remove_file(&disk);
    let files = ["boot/grub/grub.cfg", "boot/root-task", "boot/kernel"].map(|name| (menu.as_path(), name));
    iso::fat(&disk, &["boot", "boot/grub"], &files)?;
    Ok(disk)
}
