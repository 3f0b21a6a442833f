//! A guest behind a firewall, with components as its peers and a network card outside: systems/nic.toml. Its programs are from a
//! package and from a folder beside the description, which has a kernel module too.

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use capdl_spec::host::Debian;
use miette::{IntoDiagnostic, Result, ensure, miette};

use super::{ask, ethernet, transcript, wait_for_shell};
use crate::guest::kbuild;
use crate::kernel::Build;
use crate::project;
use crate::test::{Context, Group, Outcome, Test, passed};

/// The tests of this file.
pub fn all() -> Vec<Test> {
    vec![Test::new(Group::Boots, "a-guest-behind-a-firewall", firewall)]
}

/// Prints what it gets back for its second word from port 7 of its first, by UDP.
const ECHO: &str = "#!/bin/sh\necho \"$2\" | nc.openbsd -u -w 2 \"$1\" \"${3:-7}\"\n";

fn firewall(context: &Context) -> Result<Outcome> {
    let mut machine = context.boot_with(&described(context)?.to_string_lossy(), Build::Release, |_| {})?;
    wait_for_shell(&mut machine)?;
    for (address, word) in [("192.168.0.2", "hi"), ("192.168.0.3", "ho")] {
        let said = ask(&mut machine, &format!("echo-by-udp {address} {word}"))?;
        ensure!(said == format!("{word}\n"), "{address} sends back: {said}");
    }
    let table = ask(&mut machine, "arp -n")?;
    for line in ["(192.168.0.2) at 06:00:00:0c:0d:0e", "(192.168.0.3) at 06:00:00:0d:0e:0f"] {
        ensure!(table.contains(line), "ARP's table has no {line}:\n{table}");
    }
    let ping = ask(&mut machine, "ping -c 3 192.168.0.2")?;
    ensure!(ping.contains("3 packets received"), "ping:\n{ping}");
    // The longest datagram that fits into a frame.
    let long = ask(&mut machine, "yes 1234567 | head -c 1472 | nc.openbsd -u -w 2 192.168.0.2 7 | wc -c")?;
    ensure!(long.trim() == "1472", "1472 bytes come back as {long}");
    let said = ask(&mut machine, "echo-by-udp 192.168.0.2 no 8")?;
    ensure!(said.is_empty(), "port 8 answers: {said}");
    let lease = ask(&mut machine, "udhcpc -q -n -i eth0 && ip addr show eth0")?;
    ensure!(lease.contains(ethernet::LEASE), "no lease through the firewall:\n{lease}");
    let said = transcript(&machine);
    for line in ["firewall: allow arp: 1 frames so far", "firewall: allow udp any 67: ", "firewall: no rule: 1 frames"]
    {
        ensure!(said.contains(line), "the firewall does not say: {line}\n{said}");
    }
    // A link of the initramfs is what it was: files for /usr/bin are in /bin.
    let folder = ask(&mut machine, "readlink /usr/bin; stat -c %a:%u /bin/echo-by-udp; stat -c %a /etc/only-for-root")?;
    ensure!(folder == "../bin\n751:0\n600\n", "the overlay: {folder}");
    // The module is of this kernel, and VMCALL reaches the VMM.
    let module = ask(&mut machine, "insmod /lib/hypercall.ko number=1234 && dmesg | grep -c 'hypercall 1234: -1000$'")?;
    ensure!(module == "1\n", "the module says: {module}");
    let said = transcript(&machine);
    ensure!(said.contains("the guest makes hypercall 1234, which is unknown"), "the VMM does not say so:\n{said}");
    passed()
}

/// The system, with a folder whose files its guest gets.
fn described(context: &Context) -> Result<PathBuf> {
    let project = &context.project;
    let folder = project.guest().join("nic");
    for (path, text, mode) in [("usr/bin/echo-by-udp", ECHO, 0o751), ("etc/only-for-root", "x", 0o600)] {
        let path = folder.join("files").join(path);
        project::write(&path, text.as_bytes())?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).into_diagnostic()?;
    }
    // In a copy: the build leaves its results there.
    let module = folder.join("module");
    for name in ["Makefile", "hypercall.c"] {
        let source = project.root.join("tests/modules/hypercall").join(name);
        project::write(&module.join(name), &project::read(&source)?)?;
    }
    let built = kbuild::modules(project, Debian::I386, &module)?;
    let [built] = built.as_slice() else { return Err(miette!("these modules were built: {built:?}")) };
    project::write(&folder.join("files/lib/hypercall.ko"), &project::read(built)?)?;
    let text = String::from_utf8_lossy(&project::read(&project.root.join("systems/nic.toml"))?).into_owned();
    let text = text.replace("packages = ", "overlay = \"./files\"\npackages = ");
    let path = folder.join("nic-with-files.toml");
    project::write(&path, text.as_bytes())?;
    Ok(path)
}
