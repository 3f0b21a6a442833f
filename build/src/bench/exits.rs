//! The rows of single exits: the floor (tests/kernel/src/floor.rs), guests that measure, of 32 bits (tests/guests/bench.c) and
//! in long mode (long-bench.c), and a component that calls a server (tests/components/src/bench.rs). Three short boots, all
//! exactly repeatable.

use std::time::Duration;

use miette::{IntoDiagnostic, Result, ensure, miette};

use super::row::Rows;
use crate::bochs::log::Ending;
use crate::bochs::{Machine, Options, last_lines};
use crate::guest::tiny;
use crate::kernel::Build;
use crate::test::Context;
use crate::{image, iso, project};

/// How long a boot may take on a busy machine.
const LIMIT: Duration = Duration::from_secs(300);

/// The rows' names, in the order of measurement.
pub const NAMES: [&str; 40] = [
    "floor",
    "floor_write",
    "floor_long",
    "floor_long_write",
    "ipc_call",
    "cpuid",
    "in_unhandled",
    "out_unhandled",
    "uart_lsr",
    "rtc",
    "pit_read",
    "pit_running",
    "pic_mask",
    "pci_addr",
    "pci_data",
    "rdmsr",
    "mmio_read",
    "mmio_write",
    "mediated_port",
    "mediated_mmio",
    "direct_port",
    "direct_mmio",
    "virtqueue",
    "halt_wake",
    "inject_eoi",
    "device_irq",
    "device_irq_eoi",
    "cpuid_long",
    "in_unhandled_long",
    "out_unhandled_long",
    "uart_lsr_long",
    "rtc_long",
    "pit_read_long",
    "pit_running_long",
    "pic_mask_long",
    "pci_addr_long",
    "pci_data_long",
    "rdmsr_long",
    "mmio_read_long",
    "mmio_write_long",
];

/// What the name of a row ends with, if the guest is in long mode.
pub const LONG: &str = "_long";

/// Measures them, on the release kernel.
pub fn measure(context: &Context) -> Result<Rows> {
    let mut rows = Rows::printed(&floor(context)?);
    rows.0.extend(Rows::printed(&guest(context, "bench", DEVICES)?).0);
    // A kernel without guests of 64 bits has no floor for them.
    let with_long = rows.get("floor_long").is_some();
    if with_long {
        rows.0.extend(Rows::printed(&guest(context, "long-bench", "")?).0);
    }
    let names: Vec<&str> = rows.0.iter().map(|row| row.name.as_str()).collect();
    let expected: Vec<&str> = NAMES.into_iter().filter(|name| with_long || !name.contains(LONG)).collect();
    ensure!(names == expected, "measured {}, not {}", names.join(", "), expected.join(", "));
    Ok(rows)
}

/// The smallest loop around VMEnter, alone on the machine.
fn floor(context: &Context) -> Result<String> {
    let prefix = context.prefix(Build::Release)?;
    let built = image::cargo_build(&context.project, &["kernel-tests"], &prefix)?;
    let built = built.get("kernel-tests").ok_or_else(|| miette!("cargo built no kernel-tests"))?;
    let dir = context.project.images("bench-floor");
    std::fs::create_dir_all(&dir).into_diagnostic()?;
    let iso = iso::make(&prefix.kernel(), &built.with_file_name("kernel-floor"), &dir)?;
    let mut options = Options::new("bench-floor", &iso);
    options.memory_mib = 512;
    options.input = false;
    Ok(finish(Machine::boot(&context.project, &options)?)?.0)
}

/// An entropy device, a mediated network card (pci-server makes each access), and a USB controller and another card as direct
/// devices; and a component, which outranks the guest's VMM and therefore finishes before the guest begins.
const DEVICES: &str = "\
rng = true
pci_devices = [{ address = \"00:03.0\", access = \"mediated\" }, \"00:01.2\", \"00:05.0\"]

[[component]]
name = \"caller\"
image = \"components\"
args = \"bench\"
services = [\"timer\", \"serial\"]
priority = 150

[emulator]
cards = [{ slot = 2, model = \"e1000\" }, { slot = 4, model = \"e1000\" }]
";

/// What the guest `name` prints, of tests/guests. `rest` continues the description of its VM.
fn guest(context: &Context, name: &str, rest: &str) -> Result<String> {
    let dir = context.project.guest().join("bench");
    tiny::compile(&context.project, name, &dir)?;
    let description = dir.join(format!("{name}-exits.toml"));
    let text = format!(
        "board = \"bochs\"\n\
         \n\
         [[vm]]\n\
         name = \"bench\"\n\
         memory = \"4 MiB\"\n\
         kernel = \"./{name}\"\n\
         direct_ports = [0x402]\n\
         {rest}"
    );
    project::write(&description, text.as_bytes())?;
    let description = description.to_string_lossy();
    Ok(finish(context.boot_with(&description, Build::Release, |options| options.input = false)?)?.0)
}

/// What a board prints until it switches itself off.
pub(super) fn finish(mut machine: Machine) -> Result<(String, Machine)> {
    match machine.wait(LIMIT)? {
        Some(Ending::PowerOff) => {
            Ok((String::from_utf8_lossy(&machine.console.transcript()).replace('\r', ""), machine))
        }
        Some(other) => Err(machine.why(&other)),
        None => {
            let last = last_lines(&machine.console.transcript(), 12);
            Err(miette!("the measuring does not come to an end; the console's last lines:\n{last}"))
        }
    }
}
