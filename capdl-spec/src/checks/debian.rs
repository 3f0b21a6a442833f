//! The `release` of a VM.

use crate::{
    checks::found::Found,
    description::{debian::What, guest::Origin},
};

/// A release has the VM's kernel, and something of the VM is from it.
pub(super) fn releases_have_what_is_taken_from_them(found: &mut Found) {
    let system = found.system;
    for vm in &system.vms {
        let Some(release) = &vm.release else { continue };
        let initrd = vm.initrd.as_ref().map(|initrd| initrd.get_ref());
        // An initrd of the kernel's modules, too.
        let of_kernels = core::iter::once(vm.kernel.get_ref()).chain(initrd).find_map(|origin| match origin {
            Origin::Stock(stock) if matches!(stock.what, What::Kernel | What::Disk) => Some(stock.name()),
            _ => None,
        });
        let (name, architecture) = (release.get_ref().name(), vm.debian.architecture());
        if let Some(wanted) = of_kernels.filter(|_| !release.get_ref().has_kernels_for(architecture)) {
            let message = format!("Debian {name} has no kernel for {}, which `{wanted}` needs", architecture.name());
            found.add(release.span(), message, "write release = \"bookworm\", or kernel = \"debian-amd64\"");
        }
        let stock_initrd = matches!(initrd, Some(Origin::Stock(_)));
        let stock = matches!(vm.kernel.get_ref(), Origin::Stock(_)) || stock_initrd;
        if !stock && vm.packages.is_empty() && vm.programs.is_empty() {
            let message = format!("nothing in `{}` is from Debian {name}", vm.name.get_ref());
            found.add(release.span(), message, "leave it out: kernel and initrd are files");
        }
    }
}
