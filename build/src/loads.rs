//! Whether each VM will load its guest: vmm-server's own loader, asked when the image is made.
//!
//! What it refuses here would be a VM that fails at its start.

use capdl_spec::host::{Files, System};
use miette::{Result, miette};
use vmm_server::linux::{Guest, Plan};

/// Asks for all VMs. The error names the VM and what the loader says.
pub fn check(system: &System, files: &Files) -> Result<()> {
    for (number, vm) in system.vms.iter().enumerate() {
        let names = system.image_names_of(number);
        let file = |name: Option<&String>| name.and_then(|name| files.images.get(name)).map(Vec::as_slice);
        let Some(mut kernel) = file(names.first()) else { continue };
        let guest = Guest {
            ram: vm.memory.get_ref().0,
            ram_at: system.ram_at(number).unwrap_or(0),
            initrd: file(names.get(1)).map_or(0, |initrd| initrd.len() as u64),
            command_line: vm.cmdline().as_bytes(),
        };
        if let Err(error) = Plan::new(&mut kernel, &guest) {
            let help = "what a kernel has to be is in docs/walkthroughs/own-kernel.md";
            return Err(miette!(help = help, "the VM `{}` would not start: {error}", vm.name.get_ref()));
        }
    }
    Ok(())
}
