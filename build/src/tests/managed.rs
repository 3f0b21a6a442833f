//! Tiny guests and their managers in Bochs: components that may do everything, little, or nothing.

use std::fmt::Write as _;
use std::time::Duration;

use miette::{Result, ensure, miette};

use super::components::{lines, verdict};
use crate::bochs::log::Ending;
use crate::bochs::{Machine, last_lines};
use crate::guest::tiny;
use crate::kernel::Build;
use crate::project;
use crate::test::{Context, Group, Outcome, Test};

/// The tests of this file.
pub fn all() -> Vec<Test> {
    vec![
        Test::new(Group::Guests, "a-manager-does-what-it-may-and-nobody-else", verbs),
        Test::new(Group::Guests, "a-thousand-resets-leave-nothing-behind", resets),
    ]
}

/// How long a test may take on a busy machine.
const LIMIT: Duration = Duration::from_secs(240);

/// A system of these VMs, by name, guest and managers, and of these components, by name and `args`.
fn boot(context: &Context, name: &str, vms: &[[&str; 3]], components: &[[&str; 2]]) -> Result<Machine> {
    let dir = context.project.guest().join("tiny").join(name);
    let mut text = "board = \"bochs\"\n".to_owned();
    for [vm, guest, managers] in vms {
        tiny::compile(&context.project, guest, &dir)?;
        let _ = write!(text, "\n[[vm]]\nname = \"{vm}\"\nmemory = \"4 MiB\"\nkernel = \"./{guest}\"\n");
        let _ = writeln!(text, "managers = [{managers}]");
    }
    for [component, args] in components {
        let _ = write!(text, "\n[[component]]\nname = \"{component}\"\nimage = \"components\"\npriority = 110\n");
        let _ = writeln!(text, "services = [\"timer\", \"serial\"]\nargs = \"{args}\"");
    }
    let path = dir.join(name).with_extension("toml");
    project::write(&path, text.as_bytes())?;
    context.boot_with(&path.to_string_lossy(), Build::Release, |options| options.input = false)
}

fn printed(machine: &Machine) -> String {
    String::from_utf8_lossy(&machine.console.transcript()).replace('\r', "")
}

/// Guests that spin with interrupts off obey all the same; a manager with few rights is refused the others, and a process that is
/// none has no way to ask. A guest that powers itself off can be started again.
fn verbs(context: &Context) -> Result<Outcome> {
    let vms = [
        ["a", "spin", "\"all\""],
        ["b", "spin", "{ name = \"some\", may = [\"pause\", \"resume\"] }"],
        ["c", "ticking", "\"again\""],
    ];
    let components = [["all", "manager 20"], ["some", "limited"], ["none", "intruder"], ["again", "starter"]];
    let machine = boot(context, "managed-verbs", &vms, &components)?;
    let names = components.map(|[name, _]| name);
    let all = |console: &[u8]| {
        let text = String::from_utf8_lossy(console).replace('\r', "");
        // What comes after the last line break is still being printed.
        let (whole, _) = text.rsplit_once('\n')?;
        names.iter().all(|name| lines(whole, name).any(|line| line.starts_with("verdict: "))).then_some(())
    };
    machine
        .console
        .wait_until(LIMIT, all)
        .map_err(|failure| miette!("{failure}:\n{}", last_lines(&machine.console.transcript(), 40)))?;
    let text = printed(&machine);
    let checks: Result<Vec<u32>> = names.iter().map(|name| verdict(&text, name)).collect();
    ensure!(text.contains("vmm-b: b: pause by some\n"), "the log does not say who has paused `b`:\n{text}");
    Ok(Outcome::Passed(format!("{} checks", checks?.iter().sum::<u32>())))
}

/// What root-task has left is the same after a thousand resets, and a hundred stops and starts; the guest does its work then.
fn resets(context: &Context) -> Result<Outcome> {
    let mut machine = boot(context, "managed-resets", &[["a", "ticking", "\"all\""]], &[["all", "manager 1000"]])?;
    match machine.wait(LIMIT)? {
        Some(Ending::PowerOff) => {}
        Some(other) => return Err(machine.why(&other)),
        None => return Err(miette!("no end:\n{}", last_lines(&machine.console.transcript(), 40))),
    }
    let text = printed(&machine);
    let checks = verdict(&text, "all")?;
    ensure!(
        text.contains("root-task: taken since the start: 0 bytes of memory, 0 slots\n"),
        "it has taken something:\n{text}"
    );
    ensure!(text.contains("guest: right\n"), "the guest is not content:\n{text}");
    Ok(Outcome::Passed(format!("{checks} checks")))
}
