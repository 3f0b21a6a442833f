//! Functions that an IOMMU does not keep apart, on QEMU's Q35 board (tests/systems/q35-groups.toml): pci-server finds by the
//! bridges which cards are one group, and lets a confined one become bus master only if the description trusts it with
//! the others.

use capdl_spec::host::{self, Mistakes, Source};
use miette::{Result, ensure};

use super::components::{lines, verdict};
use super::q35::{self, until};
use crate::project;
use crate::test::{Context, Group, Outcome, Test};

/// The tests of this file.
pub fn all() -> Vec<Test> {
    vec![Test::new(Group::Components, "a-group-has-one-owner", groups)]
}

/// Two root ports in one device, and a card behind each; and a bridge to conventional PCI, with two cards behind it.
const DEVICES: [&str; 7] = [
    "pcie-root-port,id=first,addr=4.0,multifunction=on,chassis=1",
    "pcie-root-port,id=second,addr=4.1,chassis=2",
    "e1000e,bus=first,romfile=",
    "e1000e,bus=second,romfile=",
    "pcie-pci-bridge,id=third,addr=5.0",
    "e1000,bus=third,addr=1.0,romfile=",
    "e1000,bus=third,addr=2.0,romfile=",
];

/// What the description trusts the card with, and what pci-server says of it then.
const TRUSTS: &str = "access = \"mediated\", group = \"trusted\"";
const TRUSTED: &str = "`01:00.0` reaches `02:00.0` of `other` past the IOMMU: the description trusts it";
const REFUSED: &str =
    "`01:00.0` (01:00.0) does not become bus master: `02:00.0` (02:00.0) of `other` is in the same group, at 00:04.0";
/// And of the card behind the bridge, which no build trusts.
const BEHIND: &str =
    "`03:01.0` (03:01.0) does not become bus master: `03:02.0` (03:02.0) of `other` is in the same group, at 00:05.0";

/// It cannot do DMA anyway.
const CONVENTIONAL: &str =
    "`03:01.0` (03:01.0) is on conventional PCI, behind a bridge that does its DMA: the IOMMU may refuse it";

fn groups(context: &Context) -> Result<Outcome> {
    if let Some(skipped) = q35::skipped()? {
        return Ok(skipped);
    }
    let text = boot(context, false)?;
    for said in [REFUSED, BEHIND, CONVENTIONAL] {
        ensure!(lines(&text, "pci-server").any(|line| line.ends_with(said)), "no line `{said}`:\n{text}");
    }
    // The card's owner expects that it is no bus master.
    let checks = verdict(&text, "confined")?;
    let text = boot(context, true)?;
    ensure!(lines(&text, "pci-server").any(|line| line.ends_with(TRUSTED)), "no line `{TRUSTED}`:\n{text}");
    ensure!(verdict(&text, "confined").is_err(), "the trusted card is no bus master:\n{text}");
    Ok(Outcome::Passed(format!("{checks} checks")))
}

/// Boots until the first card's owner has tried to make it bus master.
fn boot(context: &Context, trusted: bool) -> Result<String> {
    let path = context.project.root.join("tests/systems/q35-groups.toml");
    let mut text = String::from_utf8_lossy(&project::read(&path)?).into_owned();
    if trusted {
        text = text.replacen("access = \"mediated\"", TRUSTS, 1);
    }
    let system = host::parse(Source { path, text }).map_err(Mistakes::report)?;
    let mut machine = q35::boot(context, "q35-groups", system, |_, options| {
        options.devices = DEVICES.map(str::to_owned).into();
        Ok(())
    })?;
    until(&mut machine, "confined: verdict: ")
}
