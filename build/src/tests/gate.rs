//! Attempts to access other owners' devices: by guests with instructions, by a component in place of a VMM with calls
//! (tests/systems/gate.toml). All are refused and logged, and the owners' devices go on working. Also two guests whose
//! cards share an interrupt line (tests/systems/shared-line.toml), and two of which one has a wrong line
//! (tests/systems/silent-pin.toml).

use std::iter::repeat;
use std::time::Duration;

use miette::{IntoDiagnostic, Result, ensure, miette};

use super::components::{lines, verdict};
use crate::bochs::{Machine, last_lines};
use crate::guest::tiny;
use crate::kernel::Build;
use crate::test::{Context, Group, Outcome, Test};

/// The tests of this file.
pub fn all() -> Vec<Test> {
    vec![
        Test::new(Group::Components, "what-is-anothers-is-refused", gate),
        Test::new(Group::Boots, "two-guests-share-an-interrupt-line", shared_line),
        Test::new(Group::Boots, "a-pin-that-is-wrong-in-the-description-is-reported", silent_pin),
    ]
}

/// How long a part of a test may take on a busy machine.
const LIMIT: Duration = Duration::from_secs(240);

/// The cards' ports, as their owners print them, since they differ between versions of the emulator.
struct CardPorts {
    owners: u32,
    guests: u32,
    intruders: u32,
}

impl CardPorts {
    /// The owner's and the intruder's first NE2000, and the guest's card.
    fn of(text: &str) -> Result<Self> {
        let [guests] = fact(text.lines(), "ports")?;
        let [owners, _] = printed_ports(text, "owner")?;
        let [_, intruders] = printed_ports(text, "intruder")?;
        Ok(Self { owners, guests, intruders })
    }

    /// pci-server's refusals of the intruder's first requests, one of each kind.
    fn refused(&self) -> [String; 16] {
        let Self { owners, guests, intruders } = self;
        [
            "the listing refused: NotAllowed".into(),
            "reading configuration 0x0 of function 2 refused: NotYours".into(),
            format!("reading port {owners:#x} refused: NotYours"),
            format!("writing port {guests:#x} refused: NotYours"),
            format!("the capability to port {owners:#x} refused: NotYours"),
            "the capability to port 0x1f0 refused: NotYours".into(),
            "reading port 0xcf8 refused: NotYours".into(),
            "the capability to port 0xcf8 refused: NotYours".into(),
            "reading memory 0xc0020000 refused: NotYours".into(),
            "writing memory 0xc0000000 refused: NotYours".into(),
            "page 0 of register 0 of function 0 refused: NotYours".into(),
            "writing configuration 0x4 of function 0 refused: NoDma".into(),
            format!("reading port {:#x} refused: Straddles", intruders + 31),
            "reading memory 0xc005ffff refused: Straddles".into(),
            "writing configuration 0x4 of function 2 refused: NotYours".into(),
            "writing configuration 0x10 of function 255 refused: NotYours".into(),
        ]
    }
}

/// The ports of a component's two cards, as it prints them.
fn printed_ports(text: &str, component: &str) -> Result<[u32; 2]> {
    let line = lines(text, component).find_map(|line| line.strip_prefix("ports "));
    let words = line.unwrap_or_default().split(", ").map(|word| word.trim().trim_start_matches("0x"));
    let ports: Vec<u32> = words.filter_map(|word| u32::from_str_radix(word, 16).ok()).collect();
    ports.try_into().map_err(|ports| miette!("the ports of `{component}` are {ports:x?}:\n{text}"))
}

/// irq-server's log about the intruder, client 5: the first eight refusals, then each count that is a power of two.
const LINES: [&str; 9] = [
    "claim line 12 (`?`): NoSuchLine; refusal 1",
    "finish line 12 (`?`): NoSuchLine; refusal 2",
    "route line 12 (`?`): NotOwner; refusal 3",
    "claim line 7 (`00:04.0/2`): NotOwner; refusal 4",
    "finish line 7 (`00:04.0/2`): NotOwner; refusal 5",
    "route line 7 (`00:04.0/2`): NotOwner; refusal 6",
    "claim line 6 (`00:04.0`): NotOwner; refusal 7",
    "finish line 6 (`00:04.0`): NotOwner; refusal 8",
    "claim line 3 (`00:03.0/2`): NotOwner; refusal 16",
];

/// Boots a description of tests/systems with its tiny guests beside it.
fn boot(context: &Context, name: &str, guests: &[&str]) -> Result<Machine> {
    let dir = context.project.guest().join("tiny").join(name);
    for guest in guests {
        tiny::compile(&context.project, guest, &dir)?;
    }
    let file = format!("{name}.toml");
    let copy = dir.join(&file);
    std::fs::copy(context.project.root.join("tests/systems").join(&file), &copy).into_diagnostic()?;
    context.boot_with(&copy.to_string_lossy(), Build::Release, |options| options.input = false)
}

fn until(machine: &mut Machine, text: &str) -> Result<()> {
    machine.console.rewind();
    machine.console.expect(text, LIMIT).map(drop).map_err(|failure| {
        miette!("no `{text}`: {failure}. The console's last lines:\n{}", last_lines(&machine.console.transcript(), 30))
    })
}

fn printed(machine: &Machine) -> String {
    String::from_utf8_lossy(&machine.console.transcript()).replace('\r', "")
}

fn gate(context: &Context) -> Result<Outcome> {
    let mut machine = boot(context, "gate", &["gate"])?;
    for text in ["guest has powered off", "`intruder` has stopped", "owner: verdict: ", "`owner` has stopped"] {
        until(&mut machine, text)?;
    }
    let text = printed(&machine);
    ensure!(text.contains("guest: right\n"), "the guest is not content:\n{text}");
    let checks = verdict(&text, "intruder")? + verdict(&text, "owner")?;
    in_order(
        &text,
        &["owner: at work", "intruder: begins", "intruder: verdict", "failed: intruder: it faulted", "owner: verdict"],
    )?;
    let ports = CardPorts::of(&text)?;
    refused(&text, &ports)?;
    let warnings = said(&text, "irq-server", "warning: client 5 may not ");
    let right =
        warnings.len() == LINES.len() && warnings.iter().zip(LINES).all(|(line, expected)| line.ends_with(expected));
    ensure!(right, "irq-server says\n{warnings:#?}, not\n{LINES:#?}");
    let (first, last) = (ports.owners, ports.owners + 31);
    let root_task = format!("intruder: Ports {{ first: {first:x}, last: {last:x}, slot: 3 }} is refused: Outside");
    ensure!(said(&text, "root-task", &root_task).len() == 1, "root-task did not say `{root_task}`:\n{text}");
    let fault = "intruder faulted: processor exception 13, error code 0x0, at ";
    ensure!(said(&text, "root-task", fault).len() == 1, "an access to 0xcf8 is no fault:\n{text}");
    Ok(Outcome::Passed(format!("{checks} checks of components")))
}

/// pci-server's log about the guest and the intruder: the first sixteen refusals, then each count that is a power of
/// two.
fn refused(text: &str, ports: &CardPorts) -> Result<()> {
    let refused = ports.refused();
    let intruder = said(text, "pci-server", "warning: `intruder`: ");
    let counts = (1..=16).chain([32, 64, 128, 256, 512, 1024]);
    ensure!(intruder.len() == 22, "{} lines of the intruder's refusals, not 22:\n{intruder:#?}", intruder.len());
    for (line, (what, count)) in intruder.iter().zip(refused.iter().map(Some).chain(repeat(None)).zip(counts)) {
        let count_is_right = line.ends_with(&format!(" ({count} so far)"));
        ensure!(
            count_is_right && what.is_none_or(|what| line.contains(what.as_str())),
            "`{line}` is not {what:?}, {count}"
        );
    }
    let guest = said(text, "pci-server", "warning: `vmm-guest`: writing configuration ");
    // Bus mastering twice, three times over.
    let dma = guest.iter().filter(|line| line.contains("0x4 of function 0 refused: NoDma")).count();
    ensure!((dma, guest.len()) == (6, 6), "lines of the guest's refusals: {dma}\n{guest:#?}");
    Ok(())
}

/// Linux and a tiny guest, each with a card at one interrupt line: both get their interrupts, and Linux goes on when the
/// other stops serving its own.
fn shared_line(context: &Context) -> Result<Outcome> {
    let mut machine = boot(context, "shared-line", &["line"])?;
    for text in ["guest: neglects its card", "interrupts of devices"] {
        until(&mut machine, text)?;
    }
    let text = printed(&machine);
    in_order(
        &text,
        &["guest: has a neighbour", "guest: neglects its card", "PING ", "System halted", "linux has powered off"],
    )?;
    for sent in [300, 100] {
        let pings = format!("linux: {sent} packets transmitted, {sent} packets received, 0% packet loss");
        ensure!(text.contains(&pings), "no `{pings}`:\n{text}");
    }
    let [sent, interrupts, foreign, lost] = fact(lines(&text, "neighbour"), "sent")?;
    ensure!(
        lost <= 5 && interrupts == sent - lost + foreign,
        "{interrupts} interrupts, {sent} sent, {foreign}, {lost}"
    );
    let [frames, ticks] = fact(lines(&text, "neighbour"), "load")?;
    ensure!(frames == 500 && ticks < 500, "{frames} frames took {ticks} times 10 ms");
    let counts: Vec<u32> = lines(&text, "linux").filter_map(eth0).collect();
    let [before, after] = counts[..] else { return Err(miette!("/proc/interrupts has eth0: {counts:?}\n{text}")) };
    let tally = lines(&text, "vmm-linux").find_map(|line| line.split_once(" interrupts of devices")?.0.parse().ok());
    let tally: u32 = tally.ok_or_else(|| miette!("vmm-linux tells no interrupts:\n{text}"))?;
    // A reply may share an interrupt with its request, and Linux does not count interrupts before it had a driver.
    let right = (300..1400).contains(&before) && (before + 100..=tally).contains(&after);
    ensure!(right, "Linux counts {before} and then {after} interrupts, its VMM {tally}");
    Ok(Outcome::Passed(format!(
        "{interrupts} interrupts for {sent} frames ({foreign} were the other's, {lost} lost by the emulator), {before} in \
         Linux; with a neglected card {after} of {tally}"
    )))
}

/// Two tiny guests with a card each: of the one whose `source` is wrong its VMM says so, once. Both have switched their card's decoding
/// off, which it does not notice.
fn silent_pin(context: &Context) -> Result<Outcome> {
    let mut machine = boot(context, "silent-pin", &["silent"])?;
    for guest in ["right", "wrong"] {
        until(&mut machine, &format!("{guest} has powered off"))?;
    }
    let text = printed(&machine);
    let counts = |guest| -> Result<[u32; 3]> {
        let [control, alive] = fact(lines(&text, guest), "hidden")?;
        let [interrupts] = fact(lines(&text, guest), "interrupts")?;
        Ok([control, alive, interrupts])
    };
    // No decoding, as written; the card's command register after its start; an interrupt for each frame.
    ensure!((counts("right")?, counts("wrong")?) == ([0, 0x22, 8], [0, 0x22, 0]), "the guests' facts:\n{text}");
    let hint = "no interrupt in 5 s since its driver enabled it; its pin may be wired elsewhere: \
                set `source` in the description";
    let right = said(&text, "vmm-right", "warning: 00:0");
    let wrong = said(&text, "vmm-wrong", "warning: 00:0");
    ensure!(
        right.is_empty() && wrong == [format!("warning: 00:02.0: {hint}")],
        "the VMMs say {right:?} and {wrong:?}:\n{text}"
    );
    Ok(Outcome::Passed("8 interrupts; without any, one line".into()))
}

/// The numbers of a fact that a tiny guest prints.
fn fact<'a, const N: usize>(mut lines: impl Iterator<Item = &'a str>, name: &str) -> Result<[u32; N]> {
    let start = format!("= {name} ");
    let fact = lines.find_map(|line| line.strip_prefix(&start));
    let words = fact.unwrap_or_default().split(' ');
    let numbers: Vec<u32> = words.filter_map(|word| u32::from_str_radix(word.trim(), 16).ok()).collect();
    numbers.try_into().map_err(|numbers| miette!("the guest's `{name}` is {numbers:?}"))
}

/// The count of the card's line in /proc/interrupts.
fn eth0(line: &str) -> Option<u32> {
    let mut words = line.split_whitespace();
    let count = words.by_ref().nth(1)?.parse().ok()?;
    (words.next()? == "XT-PIC" && words.next()? == "eth0").then_some(count)
}

/// The lines of a process that begin with a text.
fn said<'a>(text: &'a str, process: &str, what: &str) -> Vec<&'a str> {
    lines(text, process).filter(|line| line.starts_with(what)).collect()
}

fn in_order(text: &str, parts: &[&str]) -> Result<()> {
    let mut rest = text;
    for part in parts {
        let at = rest.find(part).ok_or_else(|| miette!("`{part}` is missing, or too early:\n{text}"))?;
        rest = &rest[at..];
    }
    Ok(())
}
