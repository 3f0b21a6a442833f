//! Whole systems with Linux in them, booted in Bochs.

use std::time::Duration;

use miette::{Result, ensure};

use crate::bochs::log::Ending;
use crate::kernel::Build;
use crate::test::{Context, Group, Outcome, Test};

/// The tests of this file.
pub fn all() -> Vec<Test> {
    let test = |name, run| Test { group: Group::Boots, name, run };
    vec![test("linux-answers-and-powers-off", answers_and_powers_off), test("runs-repeat-bit-for-bit", runs_repeat)]
}

/// How long a boot may take on a busy machine; by itself it takes a quarter of this.
const BOOT: Duration = Duration::from_secs(120);

fn answers_and_powers_off(context: &Context) -> Result<Outcome> {
    let mut machine = context.boot("minimal", Build::Release)?;
    machine.console.wait_for_prompt(BOOT)?;
    let answer = machine.console.shell("uname -rm", BOOT)?;
    ensure!(answer.output.ends_with("-686 i686\n"), "uname -rm: {answer:?}");
    machine.console.send(b"poweroff\r")?;
    match machine.wait(BOOT)? {
        Some(Ending::PowerOff) => Ok(Outcome::Passed(answer.output.trim().to_owned())),
        Some(other) => Err(machine.why(&other)),
        None => Err(miette::miette!("the board is still running after poweroff")),
    }
}

/// Without input, two boots print the same bytes. Where they are cut off does not repeat, so the shorter one counts.
fn runs_repeat(context: &Context) -> Result<Outcome> {
    let mut transcripts = Vec::new();
    for _ in 0..2 {
        let mut machine = context.boot_with("minimal", Build::Release, |options| options.input = false)?;
        machine.console.wait_for_prompt(BOOT)?;
        machine.stop();
        transcripts.push(machine.console.transcript());
    }
    let length = transcripts.iter().map(Vec::len).min().unwrap_or(0);
    ensure!(length > 0, "nothing was printed");
    ensure!(transcripts[0][..length] == transcripts[1][..length], "two boots of one image printed different bytes");
    Ok(Outcome::Passed(format!("{length} bytes")))
}
