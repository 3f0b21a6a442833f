//! Guests beside others: ones that hold the processor, and as many as there can be.

use layout::limits::MAX_GUESTS;
use miette::{Result, ensure, miette};

use super::run::LIMIT;
use crate::bochs::log::Ending;
use crate::footprint;
use crate::guest::tiny;
use crate::kernel::Build;
use crate::project;
use crate::test::{Context, Group, Outcome, Test, passed};

/// The tests of this file.
pub fn all() -> Vec<Test> {
    let test = |name, run| Test::new(Group::Guests, name, run);
    vec![
        test("a-spinning-guest-delays-no-other", spin),
        test("a-guest-that-floods-a-port-delays-no-other", flood),
        test("a-spinning-guest-leaves-seven-others-their-shares", shares),
        test("forty-guests-are-typed-at", forty),
    ]
}

fn spin(context: &Context) -> Result<Outcome> {
    beside(context, "spin", "guest: spins")
}

/// A guest that never exits beside seven that work: in each window of time, each of the seven does an eighth of what it
/// would do alone, within a tenth.
fn shares(context: &Context) -> Result<Outcome> {
    const WORKERS: usize = 7;
    let dir = context.project.guest().join("tiny/shares");
    let mut text = "board = \"bochs\"\n".to_owned();
    for (guest, count) in [("spin", 1), ("share", WORKERS)] {
        tiny::compile(&context.project, guest, &dir)?;
        text += &format!("\n[[vm]]\nname = \"{guest}\"\ncount = {count}\nmemory = \"4 MiB\"\nkernel = \"./{guest}\"\n");
    }
    let description = dir.join("shares.toml");
    project::write(&description, text.as_bytes())?;
    let mut machine = context.boot(&description.to_string_lossy(), Build::Release)?;
    machine.console.rewind();
    let texts = |console: &[u8]| {
        let console = String::from_utf8_lossy(console).into_owned();
        let texts: Vec<String> = (0..WORKERS).map(|n| printed_by(&format!("share{n}"), &console)).collect();
        texts.iter().all(|text| text.contains("guest: right\n")).then_some(texts)
    };
    let texts = machine.console.wait_until(LIMIT, texts).map_err(|failure| {
        miette!("{failure}, not all have ended:\n{}", String::from_utf8_lossy(&machine.console.transcript()))
    })?;
    let console = String::from_utf8_lossy(&machine.console.transcript()).into_owned();
    ensure!(console.contains("spin0: guest: spins"), "nothing spins:\n{console}");
    let (mut least, mut most) = (f64::MAX, 0f64);
    for (worker, text) in texts.iter().enumerate() {
        let shares = shares_of(text);
        ensure!(shares.len() == 3, "share{worker} does not tell what it has done:\n{console}");
        for share in shares {
            let of_fair = share * (WORKERS + 1) as f64;
            ensure!((of_fair - 1.0).abs() <= 0.1, "share{worker} has {of_fair:.3} of its share:\n{console}");
            (least, most) = (least.min(of_fair), most.max(of_fair));
        }
    }
    Ok(Outcome::Passed(format!("{least:.3} to {most:.3} of a fair share")))
}

/// As many guests as the servers have room for: each is typed at by its name, gets that and nothing else, and switches itself off.
fn forty(context: &Context) -> Result<Outcome> {
    const GUEST: &str = "typed";
    let dir = context.project.guest().join("tiny/forty");
    tiny::compile(&context.project, GUEST, &dir)?;
    let text = format!(
        "board = \"bochs\"\n\n[[vm]]\nname = \"{GUEST}\"\ncount = {MAX_GUESTS}\nmemory = \"4 MiB\"\nkernel = \"./{GUEST}\"\n"
    );
    let description = dir.join("forty.toml");
    project::write(&description, text.as_bytes())?;
    let image = context.image(&description.to_string_lossy(), Build::Release)?;
    let mut machine = context.boot(&description.to_string_lossy(), Build::Release)?;
    // The last one first: its name is a longer one than the first one's, and begins alike.
    for n in (0..MAX_GUESTS).rev() {
        let key = b'A' + n as u8;
        let name = format!("{GUEST}{n}");
        let mut type_at = || {
            machine.console.move_input(&name, LIMIT)?;
            // The next command has to begin a line.
            machine.console.send(&[key, b'\r'])?;
            let heard = format!("= typed {key:x}\nguest: right\n");
            // The console and the log are two streams: either may come first, or interrupt the other.
            let off = format!("vmm-{name}: {name} has powered off");
            machine.console.wait_until(LIMIT, |printed| {
                let text = String::from_utf8_lossy(printed).replace('\r', "");
                (printed_by(&name, &text).contains(&heard) && text.contains(&off)).then_some(())
            })
        };
        type_at().map_err(|failure| {
            miette!("{failure} at {name}:\n{}", String::from_utf8_lossy(&machine.console.transcript()))
        })?;
    }
    ensure!(machine.wait(LIMIT)? == Some(Ending::PowerOff), "the machine is still on");
    let console = String::from_utf8_lossy(&machine.console.transcript()).replace('\r', "");
    ensure!(!console.contains("error: "), "an error:\n{console}");
    for n in 0..MAX_GUESTS {
        let name = format!("{GUEST}{n}");
        let printed = printed_by(&name, &console);
        for what in ["guest: right\n", "= typed "] {
            let found = printed.matches(what).count();
            ensure!(found == 1, "{name} has printed \"{}\" {found} times, not once:\n{console}", what.trim_end());
        }
    }
    Ok(Outcome::Passed(footprint::summary(&image.spec, image.bytes)))
}

/// What a VM has printed on a console that several share. A line that another has interrupted goes on behind a bar.
fn printed_by(vm: &str, console: &str) -> String {
    let (begin, rest) = (format!("{vm}: "), format!("{vm}| "));
    let mut text = String::new();
    for line in console.lines() {
        if let Some(line) = line.strip_prefix(&rest) {
            text.pop();
            text += line;
        } else if let Some(line) = line.strip_prefix(&begin) {
            text += line;
        } else {
            continue;
        }
        text.push('\n');
    }
    text
}

/// A worker's share of the processor in each of its windows: rounds done, times what a round takes alone, by the
/// window's length.
fn shares_of(text: &str) -> Vec<f64> {
    let lines = text.lines().filter_map(|line| line.strip_prefix("= window "));
    let numbers = lines.map(|line| line.split(' ').filter_map(|word| u32::from_str_radix(word, 16).ok()).collect());
    numbers
        .filter_map(|numbers: Vec<u32>| match numbers[..] {
            [rounds, alone, window] => Some(f64::from(rounds) * f64::from(alone) / f64::from(window)),
            _ => None,
        })
        .collect()
}

fn flood(context: &Context) -> Result<Outcome> {
    beside(context, "flood", "guest: floods")
}

/// Beside a guest that holds the processor as well as it can, another one's timer, console and power switch work.
fn beside(context: &Context, guest: &str, started: &str) -> Result<Outcome> {
    let description = tiny::system(&context.project, &[guest, "ticking"], "", "")?;
    let mut machine = context.boot(&description.to_string_lossy(), Build::Release)?;
    for text in [started, "guest: right", "ticking has powered off"] {
        machine.console.rewind();
        machine.console.expect(text, LIMIT).map_err(|failure| {
            miette!("{failure} before `{text}`:\n{}", String::from_utf8_lossy(&machine.console.transcript()))
        })?;
    }
    passed()
}
