//! A vmm-server that faults while its guest's devices work, and is restarted.
//!
//! No guest can make vmm-server fault, so this test breaks it: in the boot image, an undefined instruction replaces the
//! code that handles a moved base address.

use std::path::{Path, PathBuf};

use capdl_spec::host;
use miette::{IntoDiagnostic, Result, ensure, miette};
use object::{Object, ObjectSection, ObjectSymbol};

use super::{ask, description, expect, power_off, wait_for_shell};
use crate::bochs::Machine;
use crate::kernel::Build;
use crate::test::{Context, Group, Outcome, Test};
use crate::{image, project};

/// The tests of this file.
pub fn all() -> Vec<Test> {
    vec![Test::new(Group::Boots, "a-vmm-that-faulted-gets-its-devices-again", recover)]
}

const SYSTEM: &str = "recover-devices";
/// Part of the symbol's name.
const BROKEN: &str = "Passthrough9relocated";
const UNDEFINED: [u8; 2] = [0x0f, 0x0b];

/// Waits for a working disk, and a card with an address.
const PREPARE: &str = "modprobe sd_mod; until [ -b /dev/sda ]; do usleep 10000; done; ip link set eth0 up; sleep 3; \
                       udhcpc -q -n -i eth0 && ping -c 1 192.168.10.1";
const READ: &str = "dd if=/dev/sda bs=64k count=64 skip=1024 2>/dev/null | sha256sum";
/// Keeps the disk reading and the card receiving.
const FAULT: &str = "dd if=/dev/sda of=/dev/null bs=1M & ping -i 0.01 -s 1400 192.168.10.1 > /dev/null & usleep 500000; \
                     printf '\\0\\0\\0\\0' | dd of=/proc/bus/pci/00/01.0 bs=4 seek=8 conv=notrunc";
const LIVES: usize = 2;

fn recover(context: &Context) -> Result<Outcome> {
    let path = description(context, SYSTEM);
    let iso = broken(context, &path, "vmm-server", BROKEN)?;
    let mut machine = context.boot_with(&path.to_string_lossy(), Build::Release, |options| options.iso = iso)?;
    wait_for_shell(&mut machine)?;
    ask(&mut machine, PREPARE)?;
    let sum = ask(&mut machine, READ)?;
    for _ in 0..LIVES {
        fault(&mut machine)?;
        wait_for_shell(&mut machine)?;
        let dmesg = ask(&mut machine, "dmesg")?;
        ensure!(dmesg.contains("early_memtest: # of tests: 1"), "memory was not tested:\n{dmesg}");
        ensure!(!dmesg.contains("bad mem addr"), "something wrote to the guest's memory:\n{dmesg}");
        ask(&mut machine, PREPARE)?;
        let again = ask(&mut machine, READ)?;
        ensure!(again == sum, "the disk has {again}, and had {sum}");
    }
    power_off(&mut machine)?;
    Ok(Outcome::Passed(format!("{LIVES} times, with the disk and the card at work")))
}

/// Makes vmm-server fault; the messages about it, in order.
fn fault(machine: &mut Machine) -> Result<()> {
    machine.console.skip();
    machine.console.send(format!("{FAULT}\r").as_bytes()).into_diagnostic()?;
    expect(machine, "vmm-linux faulted: processor exception 6")?;
    expect(machine, "vmm-linux restarted")?;
    let said = expect(machine, "entering the guest")?;
    ensure!(said.contains("pci-server: `vmm-linux` has stopped"), "pci-server was not notified:\n{said}");
    ensure!(!said.contains("error: "), "not everything came back:\n{said}");
    Ok(())
}

/// A system's ISO with a broken program: one that faults in the function whose symbol contains `broken`.
pub fn broken(context: &Context, description: &Path, program: &str, broken: &str) -> Result<PathBuf> {
    let image = context.image(&description.to_string_lossy(), Build::Release)?;
    let mut iso = project::read(&image.iso)?;
    // The same call as the image's, so that cargo rebuilds nothing.
    let system = host::load(description)?;
    let packages = system.packages();
    let packages: Vec<&str> = packages.iter().map(String::as_str).collect();
    let built = image::cargo_build(&context.project, &packages, &context.prefix(Build::Release)?)?;
    let program = built.get(program).ok_or_else(|| miette!("cargo built no {program}"))?;
    let code = code(&project::read(program)?, broken)?;
    let places: Vec<usize> = (0..iso.len()).filter(|&at| iso[at..].starts_with(&code)).collect();
    ensure!(places.len() == 1, "{broken} is in the image at {places:x?}");
    iso[places[0]..][..UNDEFINED.len()].copy_from_slice(&UNDEFINED);
    let path = image.iso.with_file_name("broken.iso");
    project::write(&path, &iso)?;
    Ok(path)
}

/// The machine code of a function.
fn code(elf: &[u8], name: &str) -> Result<Vec<u8>> {
    let elf = object::File::parse(elf).into_diagnostic()?;
    let symbol = elf.symbols().find(|symbol| symbol.name().is_ok_and(|symbol| symbol.contains(name)));
    let symbol = symbol.ok_or_else(|| miette!("the program has no {name}"))?;
    let section = symbol.section_index().ok_or_else(|| miette!("{name} is in no section"))?;
    let section = elf.section_by_index(section).into_diagnostic()?;
    let code = section.data_range(symbol.address(), symbol.size()).into_diagnostic()?;
    code.map(<[u8]>::to_vec).ok_or_else(|| miette!("{name} has no code"))
}
