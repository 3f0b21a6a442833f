//! A disk and a network card in the guest's hands: against the same natively, what exits remain, and a reset while the
//! disk is busy.

use miette::{IntoDiagnostic, Result, ensure, miette};

use super::{LIMIT, ask, description, power_off, wait_for_shell};
use crate::bochs::Machine;
use crate::guest;
use crate::kernel::Build;
use crate::native::{self, Linux};
use crate::test::{Context, Group, Outcome, Test};

/// The tests of this file.
pub fn all() -> Vec<Test> {
    let test = |name, run| Test { group: Group::Boots, name, run };
    vec![test("devices-as-fast-as-natively", speed), test("a-disk-read-does-not-exit", exits)]
}

/// Defines `mark`, which writes a letter and a line end to the emulator's port 0x402.
const MARK: &str = "out() { dd of=/dev/port bs=1 count=1 seek=1026 conv=notrunc 2>/dev/null; }; \
                    mark() { printf $1 | out; echo | out; }";
/// Drivers that nothing asks for by itself, and a link that is up.
///
/// The emulated IDE controller takes time for each entry of a command's PRD table but the first, of which there is one per
/// stretch of memory that crosses no 64 KiB. With Linux's 128 KiB of read-ahead, all commands of a read begin at one offset
/// in such a stretch, which chance chooses, and take 7 or 9 ms accordingly. With 31 pages, which share no factor with the 16
/// of a stretch, they take each offset in turn.
const PREPARE: &str = "modprobe sd_mod; until [ -b /dev/sda ]; do usleep 10000; done; ip link set eth0 up; sleep 3; \
                       echo 124 > /sys/block/sda/queue/read_ahead_kb; \
                       dd if=/dev/sda of=/dev/null bs=64k count=16 skip=1024 2>/dev/null";
/// 16 MB four times, each from another place.
const READ: &str = "for n in 1 2 3 4; do mark A; \
                    dd if=/dev/sda of=/dev/null bs=64k count=256 skip=$((n * 256)) 2>/dev/null; mark B; done";
/// What is printed goes to a file: the console is not the device that is measured.
const LEASE: &str = "mark C; { udhcpc -q -n -i eth0 && ping -c 1 192.168.10.1; } >/tmp/said 2>&1 && mark D";

/// Switches the emulated board off, by a word written to port 0x8900 letter by letter.
const SWITCH_OFF: &str =
    "for c in S h u t d o w n; do printf $c | dd of=/dev/port bs=1 count=1 seek=35072 conv=notrunc; done";

/// How much longer than natively it may take.
const DISK_LIMIT: f64 = 1.10;
const NETWORK_LIMIT: f64 = 1.15;

fn speed(context: &Context) -> Result<Outcome> {
    let image = context.image(&description(context, "devices").to_string_lossy(), Build::Release)?;
    let linux = Linux {
        kernel: guest::debian::kernel(&context.project, guest::debian::Flavour::Plain)?,
        initrd: guest::disk_initramfs(&context.project)?,
        cmdline: capdl_spec::system::DEFAULT_CMDLINE.to_owned(),
        memory_mib: 128,
        devices: image.devices.clone(),
    };
    let mut machine = native::boot(&context.project, "test-native-devices", &linux, |_| {})?;
    wait_for_shell(&mut machine)?;
    use_devices(&mut machine)?;
    machine.console.send(format!("{SWITCH_OFF}\r").as_bytes()).into_diagnostic()?;
    machine.wait(LIMIT)?.ok_or_else(|| miette!("the board does not go off"))?;
    let native = Times::of(&machine)?;
    drop(machine);

    let mut machine = super::boot(context, "devices")?;
    use_devices(&mut machine)?;
    reset_while_busy(&mut machine)?;
    power_off(&mut machine)?;
    let guest = Times::of(&machine)?;

    let (disk, network) = (guest.read / native.read, guest.lease / native.lease);
    let told = format!("16 MB, four times, in {disk:.3}, DHCP to ping in {network:.3} times the native ticks");
    ensure!(disk <= DISK_LIMIT && network <= NETWORK_LIMIT, "{told}");
    Ok(Outcome::Passed(told))
}

fn use_devices(machine: &mut Machine) -> Result<()> {
    ask(machine, MARK)?;
    ask(machine, PREPARE)?;
    ask(machine, READ)?;
    ask(machine, LEASE).map(|_| ())
}

/// Has the guest reset itself while it reads from the disk. Afterwards it is back, and nobody wrote to its memory.
fn reset_while_busy(machine: &mut Machine) -> Result<()> {
    machine.console.skip();
    machine.console.send(b"dd if=/dev/sda of=/dev/null bs=1M & usleep 500000; reboot -f\r").into_diagnostic()?;
    super::expect(machine, "vmm-linux: linux: reset")?;
    wait_for_shell(machine)?;
    let dmesg = ask(machine, "dmesg")?;
    ensure!(dmesg.contains("early_memtest: # of tests: 1"), "memory was not tested:\n{dmesg}");
    ensure!(!dmesg.contains("bad mem addr"), "something wrote to the guest's memory:\n{dmesg}");
    ask(machine, MARK)?;
    ask(machine, PREPARE).map(|_| ())
}

/// Reads much from the disk, page by page, in one run, and nothing in another, and compares their exits. A command is two
/// dozen accesses to the controller's ports and an interrupt; what exits is the interrupt's share, at the PIC.
fn exits(context: &Context) -> Result<Outcome> {
    let mut counts = Vec::new();
    for pages in [0, 2000] {
        let mut machine = super::boot(context, "devices")?;
        ask(&mut machine, MARK)?;
        ask(&mut machine, PREPARE)?;
        ask(&mut machine, "echo 0 > /sys/block/sda/queue/read_ahead_kb")?;
        ask(&mut machine, &format!("dd if=/dev/sda of=/dev/null bs=4k count={pages}"))?;
        let interrupts = ask(&mut machine, "cat /proc/interrupts")?;
        power_off(&mut machine)?;
        let (timer, disk) = (super::field(&interrupts, "0:", 1)?, super::field(&interrupts, "14:", 1)?);
        counts.push((timer, disk, io_exits(&super::transcript(&machine))?));
    }
    let [(ticks, few, before), (more_ticks, many, after)] = counts[..] else { return Err(miette!("two runs")) };
    let commands = many.saturating_sub(few);
    let interrupts = commands + more_ticks.saturating_sub(ticks);
    let each = after.saturating_sub(before) as f64 / interrupts.max(1) as f64;
    let told = format!(
        "{before} I/O exits without and {after} with {commands} commands and {} ticks of the timer more: {each:.2} for \
         each interrupt",
        interrupts - commands
    );
    ensure!(commands >= 1500 && each <= MOST_EXITS, "{told}");
    Ok(Outcome::Passed(told))
}

/// Mask, end of interrupt and unmask at two PICs.
const MOST_EXITS: f64 = 6.0;

/// The count that the guest's vmm-server tells at power-off.
fn io_exits(transcript: &str) -> Result<u64> {
    let line = transcript.lines().find_map(|line| line.strip_suffix(" I/O instruction"));
    let count = line.and_then(|line| line.split_whitespace().last()?.parse().ok());
    count.ok_or_else(|| miette!("vmm-server tells no I/O exits"))
}

/// What took how many ticks.
struct Times {
    /// All reads together.
    read: f64,
    lease: f64,
}

impl Times {
    fn of(machine: &Machine) -> Result<Self> {
        let marks = machine.marks();
        let all = |name: &'static str| marks.iter().filter(move |(_, text)| text == name).map(|(tick, _)| *tick);
        let between = |first, last| {
            let total: u64 = all(first).zip(all(last)).map(|(from, to)| to.saturating_sub(from)).sum();
            (total > 0).then_some(total as f64)
        };
        let both = between("A", "B").zip(between("C", "D"));
        let (read, lease) = both.ok_or_else(|| miette!("marks are missing: {marks:?}"))?;
        Ok(Self { read, lease })
    }
}
