//! The console on another UART than COM1: what the description says of it, and what the boot menu says against it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use miette::{IntoDiagnostic, Result, WrapErr, ensure};

use super::last_lines;
use crate::bochs::{Machine, log::Ending};
use crate::guest::tiny;
use crate::iso::{self, Contents, menu::Console};
use crate::kernel::{self, Build};
use crate::project;
use crate::test::{Context, Group, Outcome, Test, passed};

pub fn all() -> Vec<Test> {
    vec![
        Test::new(Group::Boots, "the-console-is-com2", com2),
        Test::new(Group::Boots, "the-kernels-first-words-are-on-com2", refused),
        Test::new(Group::Boots, "the-boot-menu-moves-messages-to-com2", moved),
    ]
}

/// How long each step may take on a busy machine.
const LIMIT: Duration = Duration::from_secs(120);

/// A guest that waits for a key, on a board with this line in its description.
fn description(context: &Context, name: &str, console: &str) -> Result<PathBuf> {
    let usual = tiny::system(&context.project, &["typed"], "", "")?;
    let text = String::from_utf8_lossy(&project::read(&usual)?).replacen('\n', &format!("\n{console}\n"), 1);
    let path = usual.with_file_name(name).with_extension("toml");
    project::write(&path, text.as_bytes())?;
    Ok(path)
}

const SLOW: &str = "console = { port = \"COM2\", baud = 38400 }";

fn expect(machine: &mut Machine, text: &str) -> Result<()> {
    let found = machine.console.expect(text, LIMIT);
    found.map(|_| ()).into_diagnostic().wrap_err_with(|| last_lines(machine))
}

/// root-task, serial-server and the guest print there, and what is typed there arrives.
fn com2(context: &Context) -> Result<Outcome> {
    let system = description(context, "tiny-com2", SLOW)?;
    let mut machine = context.boot(&system.to_string_lossy(), Build::Release)?;
    expect(&mut machine, "root-task: on ")?;
    expect(&mut machine, "serial-server: 38400 baud at 0x2f8, ")?;
    machine.console.send(b"k").into_diagnostic()?;
    expect(&mut machine, &format!("= typed {:x}", b'k'))?;
    let ending = machine.wait(LIMIT)?;
    ensure!(ending == Some(Ending::PowerOff), "it ends with {ending:?}");
    passed()
}

/// Before paging is on, and in C.
fn refused(context: &Context) -> Result<Outcome> {
    if kernel::are_own() {
        return Ok(Outcome::Skipped("the sentences are of a patch of ours".into()));
    }
    let system = description(context, "tiny-com2", SLOW)?;
    for (processor, memory_mib, sentence) in [
        ("corei7_sandy_bridge_2600k", 512, "seL4 stops: its configuration needs what this processor lacks: "),
        ("corei7_haswell_4770", 12, "seL4 stops: too little memory is free above the image"),
    ] {
        let mut machine = context.boot_with(&system.to_string_lossy(), Build::Release, |options| {
            options.processor = processor.to_owned();
            options.memory_mib = memory_mib;
        })?;
        expect(&mut machine, sentence).wrap_err(sentence)?;
        machine.stop();
    }
    passed()
}

/// The kernel and root-task follow the menu, and root-task says who does not.
fn moved(context: &Context) -> Result<Outcome> {
    if kernel::are_own() {
        return Ok(Outcome::Skipped("a patch of ours tells root-task of the menu's words".into()));
    }
    let system = description(context, "tiny-com1", "console = { port = \"COM1\" }")?;
    let image = context.image(&system.to_string_lossy(), Build::Release)?;
    let from = image.iso.parent().unwrap_or(Path::new("/"));
    let dir = context.folder("tiny-moved")?;
    let console = Console { port: 0x2f8, baud: 57_600, divisor: 2 };
    let (kernel, root_task) = (&from.join("kernel"), &from.join("root-task"));
    let mut options = image.options("test-com2-by-the-menu");
    options.iso = iso::with_contents(Contents { kernel, debug_kernel: None, root_task, console, waits: false }, &dir)?;
    options.com = 2;
    let mut machine = Machine::boot(&context.project, &options)?;
    expect(
        &mut machine,
        "seL4 and root-task print at port 0x2f8, by the boot loader's command line; all others at 0x3f8",
    )?;
    expect(&mut machine, "root-task: started vmm-typed")?;
    machine.stop();
    passed()
}
