//! The ISO's loaders: by BIOS and by UEFI, from a CD and from a USB drive, on QEMU's Q35 board.

use capdl_spec::host;
use miette::{Result, ensure};

use super::components::verdict;
use super::q35::{self, until};
use crate::kernel;
use crate::qemu::{Loader, Machine, Options};
use crate::test::{Context, Group, Outcome, Test};

pub fn all() -> Vec<Test> {
    vec![
        Test::new(Group::Components, "an-iso-starts-by-uefi-from-cd", |context| starts(context, true, false)),
        Test::new(Group::Components, "an-iso-starts-by-uefi-from-usb", |context| starts(context, true, true)).long(),
        Test::new(Group::Components, "an-iso-starts-by-bios-from-cd", |context| starts(context, false, false)).long(),
        Test::new(Group::Components, "an-iso-starts-by-bios-from-usb", |context| starts(context, false, true)).long(),
    ]
}

fn starts(context: &Context, uefi: bool, usb: bool) -> Result<Outcome> {
    if let Some(skipped) = q35::skipped()? {
        return Ok(skipped);
    }
    let system = host::load(&context.project.root.join("tests/systems/q35-deadlines.toml"))?;
    let name = format!("q35-iso-{}-{}", if uefi { "uefi" } else { "bios" }, if usb { "usb" } else { "cd" });
    let iso = q35::iso(context, &name, system)?;
    let options = Options::new(&format!("test-{name}"), Loader::Iso { iso, uefi, usb });
    let mut machine = Machine::boot(&context.project, &options)?;
    let text = until(&mut machine, "client: verdict: ")?;
    // OVMF keeps pages from 8 MiB on, so the image, which used to follow the kernel, lies above them.
    let moved = text.contains("Moving loaded userland images to final location: from=0x900000 to=0x900000");
    ensure!(moved == uefi || kernel::are_own(), "where the image lies:\n{text}");
    Ok(Outcome::Passed(format!("{} checks", verdict(&text, "client")?)))
}
