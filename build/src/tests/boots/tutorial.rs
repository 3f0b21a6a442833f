//! A program, a module and an init of one's own, which the build adds to a guest's initrd: systems/tutorial-linux.toml.

use miette::{Result, ensure};

use super::{ask, transcript, wait_for_shell};
use crate::kernel::Build;
use crate::test::{Context, Group, Outcome, Test, passed};

/// The tests of this file.
pub fn all() -> Vec<Test> {
    vec![Test::new(Group::Boots, "a-program-and-a-module-in-a-guest", tutorial)]
}

fn tutorial(context: &Context) -> Result<Outcome> {
    let mut machine = context.boot("tutorial-linux", Build::Release)?;
    wait_for_shell(&mut machine)?;
    let said = ask(&mut machine, "hello && stat -c %a:%u /bin/hello /init /lib/modules/poke.ko")?;
    ensure!(said == "Hello, World!\n755:0\n755:0\n644:0\n", "the program and the files: {said}");
    let said = ask(&mut machine, "echo > /dev/poke && dmesg | grep -c ' hi, hypercall 4: -1000$'")?;
    ensure!(said == "1\n", "the module says: {said}");
    let said = transcript(&machine);
    ensure!(said.contains("the guest makes hypercall 4, which is unknown"), "the VMM does not say so:\n{said}");
    passed()
}
