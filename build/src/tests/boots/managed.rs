//! A guest that is managed: by commands at the console, and by a watchdog. Another, which nobody manages, goes on.

use std::path::PathBuf;

use miette::{IntoDiagnostic, Result, ensure, miette};

use super::shared::{listen, told};
use super::{LIMIT, ask, expect, kexec, last_lines, network::at, transcript, wait_for_shell};
use crate::bochs::Machine;
use crate::bochs::log::Ending;
use crate::cache::sha256;
use crate::kernel::Build;
use crate::project;
use crate::test::{Context, Group, Outcome, Test};

pub fn all() -> Vec<Test> {
    vec![
        Test::new(Group::Boots, "a-guest-is-paused-reset-and-stopped-by-its-managers", managed),
        Test::new(Group::Boots, "a-guest-is-managed-amid-traffic", traffic).long(),
    ]
}

/// Seconds for which the guest is paused, fewer than Linux takes for a stall, and those that the rest may take meanwhile.
const PAUSE: u64 = 15;
const SLACK: u64 = 10;

const CMDLINE: &str = "earlyprintk=ttyS0,115200 console=ttyS0,115200 i8042.nokbd=y i8042.nomux=y i8042.noaux=y io_delay=udelay \
                       noisapnp acpi=off cryptomgr.notests=1 quiet";
const MAC: &str = "02:00:00:00:00:0a";

fn managed(context: &Context) -> Result<Outcome> {
    let mut machine = context.boot("managed", Build::Release)?;
    let machine = &mut machine;
    wait_for_shell(machine)?;
    told(
        machine,
        "@other reset\r",
        "the console does not manage other: its [[vm]] would need managers = [\"console\"]\r\n",
    )?;
    told(machine, "@linux resume\r", "linux is running: nothing to resume\r\n")?;
    let said = pause(machine)?;
    reset(machine)?;
    watchdog(machine)?;
    stop(machine)?;
    power_off_both(machine)?;
    let transcript = transcript(machine);
    ensure!(transcript.contains("taken since the start: 0 bytes of memory, 0 slots\n"), "{transcript}");
    Ok(Outcome::Passed(said))
}

/// Seconds of the guest's clocks: Linux's, which is the TSC's, and the real-time clock's.
fn clocks(machine: &mut Machine) -> Result<[u64; 2]> {
    let said = ask(machine, "cut -d. -f1 /proc/uptime; cat /sys/class/rtc/rtc0/since_epoch")?;
    let mut numbers = said.lines().map(str::parse);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(uptime)), Some(Ok(rtc))) => Ok([uptime, rtc]),
        _ => Err(miette!("these are no clocks: {said}")),
    }
}

/// While the guest is paused, its board's clocks stand still, and its TSC does not.
fn pause(machine: &mut Machine) -> Result<String> {
    ask(machine, "echo here > /tmp/before")?;
    let before = clocks(machine)?;
    told(machine, "@linux pause\r", "linux is paused\r\n")?;
    // What is typed at a guest that is paused waits for it.
    machine.console.send(b"touch /tmp/typed\r").into_diagnostic()?;
    listen(machine, "other")?;
    ask(machine, &format!("sleep {PAUSE}"))?;
    listen(machine, "linux")?;
    told(machine, "@linux resume\r", "linux is running\r\n")?;
    wait_for_shell(machine)?;
    let after = clocks(machine)?;
    let [uptime, rtc] = [after[0] - before[0], after[1] - before[1]];
    ensure!(uptime >= PAUSE, "the TSC stood still: {uptime} s in {PAUSE}");
    ensure!(rtc < SLACK, "the real-time clock went on: {rtc} s in {PAUSE}");
    ask(machine, "cat /tmp/before /tmp/typed")?;
    let complaints = ask(machine, "dmesg -r | grep '^<[0-3]>' || true")?;
    ensure!(complaints.is_empty(), "Linux complains:\n{complaints}");
    Ok(format!("a pause of {PAUSE} s: {uptime} s by the TSC, {rtc} s by the real-time clock"))
}

/// A new life: the files of the last one are gone.
fn is_new(machine: &mut Machine) -> Result<()> {
    // Before it comes what the last life has printed, such as its prompt. The kernel's first line may come before the answer
    // of serial-server, since that waits for the end of the prompt's line.
    expect(machine, "built-in shell (ash)")?;
    wait_for_shell(machine)?;
    let files = ask(machine, "ls /tmp")?;
    ensure!(files.is_empty(), "the guest has not begun anew: {files}");
    ask(machine, "touch /tmp/before").map(|_| ())
}

fn reset(machine: &mut Machine) -> Result<()> {
    told(machine, "@linux reset\r", "linux is running\r\n")?;
    is_new(machine)
}

/// A guest that pets is left alone, and so is one that has said that it will not; one whose program dies is reset.
fn watchdog(machine: &mut Machine) -> Result<()> {
    ask(machine, "(while :; do echo; sleep 2; done) | vsock 7 6 > /dev/null & sleep 15")?;
    ask(machine, "cat /tmp/before; killall vsock; echo V | vsock 7 6; sleep 15")?;
    machine.console.rewind();
    expect(machine, "watchdog: the guest has said that it pets no more\r\n")?;
    machine.console.skip();
    ask(machine, "cat /tmp/before; echo | vsock 7 6")?;
    expect(machine, "watchdog: warning: linux has not petted for 10 s, and is reset\r\n")?;
    is_new(machine)
}

/// A guest that was stopped is off: the other one goes on, and it can be started.
fn stop(machine: &mut Machine) -> Result<()> {
    told(machine, "@linux stop\r", "linux is off\r\n")?;
    told(machine, "@linux state\r", "linux is off, start 3\r\n")?;
    told(machine, "@linux reset\r", "linux is off: nothing to reset\r\n")?;
    listen(machine, "other")?;
    ask(machine, "true")?;
    listen(machine, "linux")?;
    told(machine, "@linux start\r", "linux is running\r\n")?;
    is_new(machine)
}

fn power_off_both(machine: &mut Machine) -> Result<()> {
    power_off_first(machine)?;
    told(machine, "@linux state\r", "linux is off, start 4\r\n")?;
    listen(machine, "other")?;
    power_off_last(machine)
}

fn power_off_first(machine: &mut Machine) -> Result<()> {
    machine.console.send(b"poweroff\r").into_diagnostic()?;
    expect(machine, "linux has powered off").map(|_| ())
}

fn power_off_last(machine: &mut Machine) -> Result<()> {
    machine.console.send(b"poweroff\r").into_diagnostic()?;
    match machine.wait(LIMIT)? {
        Some(Ending::PowerOff) => Ok(()),
        Some(other) => Err(machine.why(&other)),
        None => Err(miette!("the board does not go off:\n{}", last_lines(machine))),
    }
}

/// A guest that reads its disk while frames come is paused, stopped, reset, and powers itself off; each time, disk and network are
/// as they were.
fn traffic(context: &Context) -> Result<Outcome> {
    let mut machine = context.boot(&described(context)?.to_string_lossy(), Build::Release)?;
    let machine = &mut machine;
    wait_for_shell(machine)?;
    ask(machine, "until echo exit | nc 10.0.0.2 99; do usleep 200000; done")?;
    // By an entry of its own, the peer goes on sending when nobody answers.
    let send = "ping -q -i 0.01 -s 1400 10.0.0.1 > /dev/null 2>&1 &";
    at(machine, 2, &format!("arp -s 10.0.0.1 {MAC}; {send}"))?;
    listen(machine, "linux")?;
    ask(machine, "dd if=/dev/zero of=/dev/vda bs=4k seek=100 count=1 conv=notrunc,fsync 2> /dev/null")?;
    let mut disk = kexec::medium();
    disk[100 * 4096..][..4096].fill(0);
    let sum = sha256(&disk);

    be_busy(machine)?;
    told(machine, "@linux pause\r", "linux is paused\r\n")?;
    meanwhile(machine)?;
    told(machine, "@linux resume\r", "linux is running\r\n")?;
    kexec::has_both(machine, &sum)?;

    told(machine, "@linux stop\r", "linux is off\r\n")?;
    meanwhile(machine)?;
    told(machine, "@linux start\r", "linux is running\r\n")?;
    is_new(machine)?;
    kexec::has_both(machine, &sum)?;

    be_busy(machine)?;
    told(machine, "@linux reset\r", "linux is running\r\n")?;
    is_new(machine)?;
    kexec::has_both(machine, &sum)?;

    be_busy(machine)?;
    power_off_first(machine)?;
    meanwhile(machine)?;
    told(machine, "@linux start\r", "linux is running\r\n")?;
    is_new(machine)?;
    kexec::has_both(machine, &sum)?;

    power_off_first(machine)?;
    listen(machine, "peer")?;
    power_off_last(machine)?;
    let said = transcript(machine);
    for word in ["breaks queue", "breaks the rules", "broken"] {
        ensure!(!said.contains(word), "{word}:\n{said}");
    }
    Ok(Outcome::Passed("paused, stopped, reset, and started after a power-off".into()))
}

fn be_busy(machine: &mut Machine) -> Result<()> {
    ask(machine, "(while :; do dd if=/dev/vda of=/dev/null bs=64k iflag=direct 2> /dev/null; done) & sleep 1")
        .map(|_| ())
}

/// The peer goes on for some seconds, while the other guest does not run.
fn meanwhile(machine: &mut Machine) -> Result<()> {
    listen(machine, "peer")?;
    ask(machine, "sleep 3")?;
    listen(machine, "linux")
}

/// The description, and its disk.
fn described(context: &Context) -> Result<PathBuf> {
    let folder = context.project.target.join("test-systems/managed");
    project::write(&folder.join("disk.img"), &kexec::medium())?;
    let vm = |name: &str, cmdline: &str, more: &str| {
        format!(
            "[[vm]]\nname = \"{name}\"\nmemory = \"64 MiB\"\nkernel = \"debian-686\"\ninitrd = \"debian-disk\"\n\
             cmdline = \"{CMDLINE} {cmdline}\"\n{more}\n"
        )
    };
    let more = "managers = [\"console\"]\ndisks = [{ file = \"./disk.img\", copy_on_write = \"1028 KiB\" }]";
    let text = format!(
        "board = \"bochs\"\n{}{}[[network]]\nname = \"lan\"\nmembers = [{{ name = \"linux\", mac = \"{MAC}\" }}, \"peer\"]\n",
        vm("linux", "ip=10.0.0.1/24", more),
        vm("peer", "ip=10.0.0.2/24 shell=99", "")
    );
    let path = folder.join("traffic.toml");
    project::write(&path, text.as_bytes())?;
    Ok(path)
}
