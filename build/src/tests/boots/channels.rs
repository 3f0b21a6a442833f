//! Channels between a guest and components, as in systems/crossvm.toml: by the shell, by programs of a user's, and through the
//! end of the component.

use miette::{Result, ensure, miette};

use super::{ask, at, recover, transcript, wait_for_shell};
use crate::bochs::Machine;
use crate::kernel::Build;
use crate::project;
use crate::test::{Context, Group, Outcome, Test};

/// The tests of this file.
pub fn all() -> Vec<Test> {
    vec![
        Test::new(Group::Boots, "a-guest-and-components-have-channels", channels),
        Test::new(Group::Boots, "two-guests-have-a-channel", between),
    ]
}

const STRINGS: u32 = 1000;
/// Strings of letters, of 1 to 2000 bytes. The seed makes them the same in each run.
const MAKE: &str = "awk 'BEGIN { srand(5); for (n = 0; n < 1000; n++) { s = sprintf(\"%d\", n); \
                    while (length(s) < 1000) s = s s; s = s s; print substr(s, 1, 1 + int(rand() * 2000)) } }' > /tmp/strings";
/// Where the component faults: at a string that does not end.
const BROKEN: &str = "12unterminated";

fn channels(context: &Context) -> Result<Outcome> {
    let path = context.project.system("crossvm")?;
    let iso = recover::broken(context, &path, "string-reverse", BROKEN)?;
    let mut machine = context.boot_with("crossvm", Build::Release, |options| options.iso = iso)?;
    let machine = &mut machine;
    wait_for_shell(machine)?;
    let list = ask(machine, "portcullis-channel list")?;
    ensure!(list == "print: 4096 bytes\nstrings: 4096 bytes, 4096 bytes, read-only\n", "the channels are {list}");
    exercises(machine)?;
    by_the_shell(machine)?;
    ask(machine, MAKE)?;
    let same = ask(machine, "string_reverse < /tmp/strings | rev | cmp - /tmp/strings && wc -l < /tmp/strings")?;
    ensure!(same.trim() == STRINGS.to_string(), "strings come back as others: {same}");
    counts(machine)?;
    moved(machine)?;

    // The component faults in the middle, and begins anew: the event that it has died of is lost, and no other.
    let fault = "yes x | tr -d '\\n' | head -c 4096 | portcullis-channel write strings; portcullis-channel emit strings; \
                 portcullis-channel wait strings 2000";
    let none = ask(machine, &format!("{fault}; :"))?;
    ensure!(none.ends_with("\n0\n"), "it has answered:\n{none}");
    ensure!(transcript(machine).contains("string-reverse restarted"), "it is not restarted");
    let again = ask(
        machine,
        "head -n 100 /tmp/strings | string_reverse | rev | cmp - /tmp/strings; echo amid | string_reverse",
    )?;
    ensure!(again.ends_with("dima\n"), "after the restart: {again}");
    let complaints = ask(machine, "dmesg | grep -i -E 'uio.*(fail|error)|nobody cared|warning|BUG'; :")?;
    ensure!(complaints.is_empty(), "Linux complains:\n{complaints}");
    ensure!(!transcript(machine).contains("which it may only read"), "a refused write");
    Ok(Outcome::Passed(format!("{STRINGS} strings, and events counted alike at both ends")))
}

/// The exercises of the tutorial that this system stands for.
fn exercises(machine: &mut Machine) -> Result<()> {
    machine.console.skip();
    let said = ask(machine, "print_client hello world")?;
    ensure!(said.is_empty(), "print_client says {said}");
    let said = ask(machine, "echo hello | string_reverse")?;
    ensure!(said == "olleh\n", "hello is {said}");
    let transcript = transcript(machine);
    let at = |line: &str| transcript.find(line);
    let (hello, world) = (at("print-server: hello"), at("print-server: world"));
    ensure!(hello.is_some() && hello < world, "the component does not print both:\n{transcript}");
    Ok(())
}

/// Without a program of one's own; and mistakes.
fn by_the_shell(machine: &mut Machine) -> Result<()> {
    let said = ask(
        machine,
        "printf 'by the shell\\0' | portcullis-channel write strings && portcullis-channel emit strings && \
         portcullis-channel wait strings 5000 && portcullis-channel read strings 1",
    )?;
    ensure!(said == "1\nllehs eht yb\n", "the shell reads {said}");
    let part = ask(machine, "portcullis-channel read strings 1 2 4")?;
    ensure!(part.starts_with("ehs "), "a part of it is {part}");
    for (command, message) in [
        ("echo x | portcullis-channel write strings 1", "only the other end may write that dataport of strings"),
        ("echo x | portcullis-channel write strings 2", "standard input does not fit into the dataport of strings"),
        ("echo xx | portcullis-channel write strings 0 4094", "does not fit"),
        ("portcullis-channel read strings 0 4000 97", "not so many bytes"),
        ("portcullis-channel emit string", "no channel is called string"),
        ("portcullis-channel wait strings x", "usage:"),
    ] {
        let said = ask(machine, &format!("{command} 2>&1; echo status $?"))?;
        ensure!(said.contains(message) && !said.contains("status 0"), "{command} says {said}");
    }
    let none = ask(machine, "portcullis-channel wait strings 100; echo status $?")?;
    ensure!(none == "0\nstatus 1\n", "without an event: {none}");
    Ok(())
}

/// What either end has emitted, and the guest has taken.
fn counts(machine: &mut Machine) -> Result<()> {
    let said = ask(machine, "portcullis-channel count strings")?;
    let numbers: Vec<u32> = said.split([' ', ',', '\n']).filter_map(|word| word.parse().ok()).collect();
    let [emitted, received, taken] = numbers.as_slice() else { return Err(miette!("no counts: {said}")) };
    ensure!(emitted >= &STRINGS && emitted == received && received == taken, "the ends have counted {said}");
    Ok(())
}

/// A function that is removed and found again has its BARs elsewhere, and works.
fn moved(machine: &mut Machine) -> Result<()> {
    let again = "cd /sys/bus/pci; echo 1 > devices/0000:00:12.0/remove; echo 1 > rescan; cd /; sleep 1; \
                 echo again | string_reverse";
    let said = ask(machine, again)?;
    ensure!(said == "niaga\n", "after the rescan: {said}");
    Ok(())
}

/// systems/optiplex.toml, with a channel between its guests in addition.
fn between(context: &Context) -> Result<Outcome> {
    let project = &context.project;
    let text = String::from_utf8_lossy(&project::read(&project.root.join("systems/optiplex.toml"))?).into_owned();
    let programs = project.root.join("systems/crossvm/programs");
    let text = text.replace("./crossvm/programs", &programs.to_string_lossy());
    let channel = "\n[[channel]]\nname = \"between\"\nmembers = [\"vm1\", \"vm0\"]\ndataports = [\"4 KiB\"]\n";
    let path = project.guest().join("channels/optiplex-and-between.toml");
    project::write(&path, (text + channel).as_bytes())?;
    let mut machine = context.boot(&path.to_string_lossy(), Build::Release)?;
    let machine = &mut machine;
    wait_for_shell(machine)?;
    let said = at(machine, "vm0", "echo hello | string_reverse")?;
    ensure!(said == "olleh\n", "hello is {said}");
    let list = at(machine, "vm1", "portcullis-channel list")?;
    ensure!(list == "between: 4096 bytes\n", "the second guest's channels are {list}");
    // One waits, and the other one answers what it gets.
    let answer = "(portcullis-channel wait between && portcullis-channel read between | tr a-z A-Z > /tmp/answer && \
                  printf '\\0' >> /tmp/answer && portcullis-channel write between < /tmp/answer && \
                  portcullis-channel emit between) > /tmp/log 2>&1 &";
    at(machine, "vm1", answer)?;
    let ask = "printf 'to the other one\\0' | portcullis-channel write between && portcullis-channel emit between && \
               portcullis-channel wait between 60000 && portcullis-channel read between";
    let said = at(machine, "vm0", ask)?;
    ensure!(said.trim_end() == "1\nTO THE OTHER ONE", "the other guest answers {said}");
    // Events are counted while nobody waits.
    at(machine, "vm1", "for n in 1 2 3; do portcullis-channel emit between; done")?;
    let counted = at(machine, "vm0", "portcullis-channel wait between 60000; portcullis-channel count between")?;
    ensure!(counted == "3\nemitted 1, received 4, taken 4\n", "three events are {counted}");
    Ok(Outcome::Passed("there and back".into()))
}
