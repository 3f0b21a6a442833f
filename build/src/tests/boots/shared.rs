//! One console for several guests: whole lines, the input moved by commands, a flood that keeps nobody out.

use miette::{IntoDiagnostic, Result, ensure};

use super::{LIMIT, ask, expect, last_lines, transcript};
use crate::bochs::Machine;
use crate::console::find;
use crate::footprint;
use crate::kernel::Build;
use crate::test::{Context, Group, Outcome, Test, passed};

pub fn all() -> Vec<Test> {
    vec![
        Test::new(Group::Boots, "two-guests-share-a-console", two),
        Test::new(Group::Boots, "eight-guests-know-their-names", many),
        Test::new(Group::Boots, "eight-guests-print-a-megabyte-at-once", eight).long(),
    ]
}

/// Lines that each guest prints while another is typed at, and their length with the end.
const FLOOD: usize = 2000;
const LINE: usize = 50;

fn two(context: &Context) -> Result<Outcome> {
    let mut machine = context.boot("two", Build::Release)?;
    listen(&mut machine, "first")?;
    ask(&mut machine, "true")?;
    listen(&mut machine, "second")?;
    ask(&mut machine, "true")?;
    commands(&mut machine)?;
    flood(&mut machine)?;
    together(&mut machine)?;
    passed()
}

/// Moves the input. Lines that came before are not looked at again.
pub(super) fn listen(machine: &mut Machine, vm: &str) -> Result<()> {
    let moved = machine.console.move_input(vm, LIMIT);
    moved.into_diagnostic().map_err(|error| error.wrap_err(last_lines(machine)))?;
    machine.console.skip();
    // The shell may have printed its prompt long ago.
    machine.console.send(b"\r").into_diagnostic()
}

/// Types what serial-server answers, and waits for the answer.
pub(super) fn told(machine: &mut Machine, typed: &str, answer: &str) -> Result<()> {
    machine.console.skip();
    machine.console.send(typed.as_bytes()).into_diagnostic()?;
    expect(machine, &format!("serial-server: {answer}")).map(|_| ())
}

fn commands(machine: &mut Machine) -> Result<()> {
    told(machine, "@7", "there is no VM 7: type @? for help\r\n")?;
    told(machine, "@secnod\r", "@secnod\r\nserial-server: invalid command @secnod: type @? for help\r\n")?;
    told(machine, "@?", "at the start of a line, @ is a command:\r\n")?;
    expect(machine, "serial-server:   1  second, which gets the input\r\n")?;
    told(machine, "@d\r", "@d\r\nserial-server: debug mode 1, control characters are visible\r\n")?;
    told(machine, "@d\r", "@d\r\nserial-server: debug mode 2, and typed bytes\r\n")?;
    machine.console.send(b"\r").into_diagnostic()?;
    expect(machine, "typed 0x0d\r\n")?;
    machine.console.send(b"@d\r").into_diagnostic()?;
    expect(machine, "debug mode 0\r\n")?;
    told(machine, "@s\r", "@s\r\nserial-server: the kernel's threads:\r\n")?;
    // An @ behind something, and one that is doubled, are the guest's.
    machine.console.skip();
    machine.console.send(b"\recho a@1b\r").into_diagnostic()?;
    expect(machine, "\nsecond: a@1b\r\n")?;
    machine.console.send(b"@@home\r").into_diagnostic()?;
    expect(machine, "@home: not found\r\n").map(|_| ())
}

/// The first guest prints without end while the second one's shell is typed at, and answers in clean lines.
fn flood(machine: &mut Machine) -> Result<()> {
    listen(machine, "first")?;
    let start = machine.console.transcript().len();
    // Begins a moment later, so that the input has moved by then.
    ask(machine, &format!("(sleep 2; for n in $(seq {FLOOD}); do printf 'flood %042d\\n' $n; done) & :"))?;
    listen(machine, "second")?;
    // The cursor stays before the prompt of the second.
    let floods = |fresh: &[u8]| find(fresh, b"first: flood 0");
    machine.console.wait_until(LIMIT, floods).into_diagnostic()?;
    let text = ask(machine, "seq 1 40")?;
    ensure!(text.split_whitespace().eq((1..=40).map(|n: u32| n.to_string())), "seq 1 40: {text:?}");
    let arrived = transcript_from(machine, start);
    ensure!(!arrived.contains(&flood_line(FLOOD)), "the flood had ended before the answer came");
    expect(machine, &flood_line(FLOOD))?;
    let arrived = transcript_from(machine, start);
    // The first one goes on with the line of the guest's prompt, which the second one's prompt has interrupted.
    let arrived = arrived.replacen("\nfirst| flood ", "\nfirst: flood ", 1);
    let lines: Vec<&str> = arrived.lines().filter(|line| line.starts_with("first: flood ")).collect();
    let wanted: Vec<String> = (1..=FLOOD).map(flood_line).collect();
    ensure!(lines == wanted, "not every line came whole and once: {} of {FLOOD}", lines.len());
    Ok(())
}

fn flood_line(number: usize) -> String {
    format!("first: flood {number:042}")
}

fn transcript_from(machine: &Machine, start: usize) -> String {
    let printed = machine.console.transcript();
    String::from_utf8_lossy(printed.get(start..).unwrap_or_default()).replace("\r\n", "\n")
}

/// One line of typing runs in both, and what is the same is printed once.
fn together(machine: &mut Machine) -> Result<()> {
    told(machine, "@m 0 1\r", "@m 0 1\r\nserial-server: input goes to first, second; ")?;
    machine.console.send(b"\recho sa\"\"me; uname -r\r").into_diagnostic()?;
    expect(machine, "\nfirst+second: same\r\n")?;
    let printed = transcript(machine);
    ensure!(!printed.contains("\nfirst: same") && !printed.contains("\nsecond: same"), "{}", last_lines(machine));
    // What both kernels' names begin with may be printed once, too.
    expect(machine, "-686")?;
    expect(machine, "-pae")?;
    Ok(())
}

/// Each of the eight VMs of one `[[vm]]` answers at its shell, typed at by its name and its number in turn.
fn many(context: &Context) -> Result<Outcome> {
    let image = context.image("many", Build::Release)?;
    let mut machine = context.boot("many", Build::Release)?;
    let vms: Vec<String> = (0..8).map(|n| format!("web{n}")).collect();
    ensure!(machine.console.voice.vms() == vms, "the VMs are {:?}", machine.console.voice.vms());
    for (n, vm) in vms.iter().enumerate() {
        if n % 2 == 0 {
            listen(&mut machine, vm)?;
        } else {
            told(&mut machine, &format!("@{n}"), &format!("input goes to {vm}\r\n"))?;
            machine.console.voice.listen_to(vm);
            machine.console.send(b"\r").into_diagnostic()?;
        }
        let said = ask(&mut machine, "hostname; uname -r")?;
        let lines: Vec<&str> = said.lines().collect();
        ensure!(matches!(lines[..], [name, release] if name == vm && release.ends_with("-686")), "{vm} says {said:?}");
    }
    Ok(Outcome::Passed(footprint::summary(&image.spec, image.bytes)))
}

/// Lines that each of eight guests prints: 125 KB.
const LINES: usize = 2500;

fn eight(context: &Context) -> Result<Outcome> {
    let mut machine = context.boot("many", Build::Release)?;
    let vms = machine.console.voice.vms().to_vec();
    for vm in &vms {
        listen(&mut machine, vm)?;
        let release = ask(&mut machine, "uname -r")?;
        ensure!(release.ends_with("-686\n"), "{vm}: uname -r: {release:?}");
        // A file, so that no guest is busy making its text while others print.
        let text =
            format!("for n in $(seq {LINES}); do printf '%s %0{}d\\n' {vm} $n; done > /text", LINE - vm.len() - 2);
        ask(&mut machine, &text)?;
    }
    told(&mut machine, "@m\r", "@m\r\nserial-server: input goes to ")?;
    let start = machine.console.transcript().len();
    // Then at one, so that nobody waits for identical lines.
    machine.console.send(b"\rcat /text\r@0").into_diagnostic()?;
    for vm in &vms {
        let last = format!("{LINES:0width$}\r\n", width = LINE - vm.len() - 2);
        machine.console.rewind();
        expect(&mut machine, &format!("{vm}: {vm} {last}"))?;
    }
    let printed = transcript_from(&machine, start);
    for vm in &vms {
        let wanted = (1..=LINES).map(|n| format!("{vm}: {vm} {n:0width$}", width = LINE - vm.len() - 2));
        let label = format!("{vm}: {vm} ");
        let came = printed.lines().filter(|line| line.starts_with(&label));
        ensure!(came.eq(wanted), "of {vm}, not every line came whole and once");
    }
    Ok(Outcome::Passed(format!("{} bytes", vms.len() * LINES * LINE)))
}
