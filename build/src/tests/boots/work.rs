//! Linux under load: its results are right, whatever else the machine does.

use miette::{Result, ensure};

use super::machine::has_memory;
use super::{ask, boot, power_off};
use crate::bochs::Machine;
use crate::test::{Context, Group, Outcome, Test};

pub fn all() -> Vec<Test> {
    let test = |name, run| Test::new(Group::Boots, name, run);
    vec![
        test("linux-has-64-mib-and-keeps-what-it-stores", small),
        test("linux-has-384-mib-and-counts-right", large).long(),
    ]
}

fn small(context: &Context) -> Result<Outcome> {
    let mut machine = boot(context, "memory-64")?;
    let memory = has_memory(&mut machine, 64 << 20)?;
    stores(&mut machine)?;
    power_off(&mut machine)?;
    Ok(Outcome::Passed(memory))
}

fn large(context: &Context) -> Result<Outcome> {
    let mut machine = boot(context, "memory-384")?;
    let memory = has_memory(&mut machine, 384 << 20)?;
    floating_point(&mut machine)?;
    checksum(&mut machine)?;
    power_off(&mut machine)?;
    Ok(Outcome::Passed(memory))
}

/// Fills four fifths of a tmpfs that has nearly all free memory, with blocks that differ, and reads them back.
fn stores(machine: &mut Machine) -> Result<()> {
    ask(machine, "mkdir /t; mount -t tmpfs -o size=35m t /t")?;
    let block = "{ echo $n; cat /bin/busybox; }";
    let written = ask(machine, &format!("for n in $(seq 14); do {block}; done | tee /t/data | md5sum"))?;
    let read = ask(machine, "echo 3 > /proc/sys/vm/drop_caches; md5sum < /t/data")?;
    ensure!(read == written, "written: {written}read:    {read}");
    let used = ask(machine, "df /t | tail -n 1")?;
    let percent = used.split_whitespace().find_map(|word| word.strip_suffix('%')?.parse::<u32>().ok());
    ensure!(percent >= Some(75), "the file system is not filled: {used}");
    Ok(())
}

/// Two concurrent floating-point processes get the same results as each alone.
fn floating_point(machine: &mut Machine) -> Result<()> {
    let awk =
        "c() { awk -v x=$1 'BEGIN { for (i = 0; i < 20000; i++) x = x * 1.00001 + i / 7; printf \"%.17g\\n\", x }'; }";
    ask(machine, awk)?;
    let alone = ask(machine, "c 0.1; c 0.7")?;
    let beside = ask(machine, "c 0.1 > /tmp/a & c 0.7 > /tmp/b & wait; cat /tmp/a /tmp/b")?;
    let mut results = alone.lines();
    ensure!(alone.lines().count() == 2 && results.next() != results.next(), "awk: {alone}");
    ensure!(beside == alone, "alone:\n{alone}beside each other:\n{beside}");
    Ok(())
}

/// Of 32 MiB of zeros, through a pipe.
fn checksum(machine: &mut Machine) -> Result<()> {
    let sum = ask(machine, "dd if=/dev/zero bs=1M count=32 2>/dev/null | sha256sum")?;
    ensure!(sum == "83ee47245398adee79bd9c0a8bc57b821e92aba10f5f9ade8a5d1fae4d8c4302  -\n", "{sum}");
    Ok(())
}
