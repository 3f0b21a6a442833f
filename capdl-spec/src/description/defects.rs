//! Defects of seL4 kernels: their names, what each means, and the feature of a description that each endangers.
//! `cargo xtask kernel-check` finds out which a kernel has; docs/kernel-defects.md has causes and mends.

use core::ops::Range;

use crate::description::{
    devices::Access,
    owners::Owner,
    system::{System, Vm},
};

/// A defect that a kernel has or had.
#[derive(Debug)]
pub struct Defect {
    /// What tables and `accept_kernel_defects` call it.
    pub name: &'static str,
    /// What it means.
    pub means: &'static str,
    /// Which systems it endangers.
    pub endangers: Endangered,
}

/// The systems that a defect endangers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Endangered {
    /// Those with a VM.
    Guests,
    /// Those with more than one VM.
    SeveralGuests,
    /// Those that take devices back from a guest: VMs with ports or directly accessed functions.
    GuestsWithDevices,
    /// Those that take devices back from any process: VMs and components with ports or directly accessed functions.
    Devices,
    /// Those in which a process is hostile: no process of ours does what it takes.
    HostileProcesses,
    /// Those with a VM in small pages, on a board whose processor may have an erratum.
    SmallPages,
    /// None but a guest itself, which fails alone.
    OneGuest,
    /// None: user level avoids it.
    Nobody,
}

use Endangered::{Devices, Guests, GuestsWithDevices, HostileProcesses, Nobody, OneGuest, SeveralGuests, SmallPages};

const fn defect(name: &'static str, endangers: Endangered, means: &'static str) -> Defect {
    Defect { name, means, endangers }
}

/// The defect of kernels that map a large frame in a large page alone.
pub const LARGE_PAGES: &str = "large-pages";

/// All known defects that a system built by this project can meet.
pub const DEFECTS: &[Defect] = &[
    defect("cr2", SeveralGuests, "a guest that is preempted in its page-fault handler reads another guest's CR2"),
    defect("time-slice", SeveralGuests, "a guest that computes is never preempted by VMs of the same priority"),
    defect("vcpu-memory", Guests, "the kernel allocates the memory of a VCPU a second time"),
    defect("fpu", Guests, "after a VM exit, threads see and overwrite each other's FPU registers"),
    defect(
        "pending-interrupt",
        Guests,
        "an interrupt that arrives while the kernel handles another is an exception of the running process",
    ),
    defect(LARGE_PAGES, SmallPages, "a guest's memory is in large pages, by which its code can stop some processors"),
    defect("invept", GuestsWithDevices, "no change of an EPT flushes the processor's translations"),
    defect("ept-flush", GuestsWithDevices, "a guest still reaches pages that were unmapped from its EPT"),
    defect("ept-types", GuestsWithDevices, "memory of a device is cached in the guest"),
    defect("copies", Devices, "frames stay mapped after the capability that mapped them is deleted"),
    defect("lent-ports", Devices, "copies of a capability to ports cannot be revoked"),
    defect("io-tables", Devices, "a device still does DMA through I/O page tables that were taken from it"),
    defect(
        "interrupts",
        Devices,
        "whoever drives a bus master stops the machine or its interrupts by an MSI of its choice",
    ),
    defect("nmi", Devices, "an NMI, which a bus master can send, stops the machine or the running process"),
    defect("flags", HostileProcesses, "a process stops the kernel by a system call with NT or DF set"),
    defect("sysenter", HostileProcesses, "after a VM exit, a process stops the kernel by SYSENTER"),
    defect("gdt", HostileProcesses, "after a VM exit, a process loads forged descriptors from behind the GDT"),
    defect("bases", HostileProcesses, "a process sets the FS and GS bases of the next one"),
    defect("vmenter", HostileProcesses, "a process without a VCPU stops the kernel by VMEnter"),
    defect("invocations", HostileProcesses, "malformed invocations of frames, EPTs and others stop the kernel"),
    defect("port-range", HostileProcesses, "a VMM hangs the kernel by a range of ports that ends at 0xffff"),
    defect("activity", HostileProcesses, "a VMM freezes the machine by an activity state in which interrupts wait"),
    defect("cache-disable", HostileProcesses, "a VMM lets its guest switch the processor's caches off"),
    defect("controls", HostileProcesses, "a VMM has the processor write to physical page 0"),
    defect("task-priority", HostileProcesses, "a VMM lets its 64-bit guest hold back the host's interrupts by CR8"),
    defect("failed-entries", HostileProcesses, "a VMM stops or takes over the kernel by an entry that fails"),
    defect("null-ept", HostileProcesses, "a VMM without an EPT runs its guest on the kernel's variables"),
    defect("translations", OneGuest, "a guest uses stale translations after its VMM has written CR0, CR3 or CR4"),
    defect("refused-entry", OneGuest, "a VCPU whose entry the processor has refused once is never entered again"),
    defect("fpu-start", OneGuest, "a guest starts with the FPU's exceptions unmasked"),
    defect("event-fields", Nobody, "error code and length of an injected event cannot be set"),
    defect("caches-off", Nobody, "a guest starts with CR0.CD and CR0.NW as firmware left them"),
    defect("debug-registers", Nobody, "guests that access debug registers without an exit share them"),
    defect("long-mode", Nobody, "a 64-bit guest loses registers, or shares them with the host"),
    defect("ports", Nobody, "ports that were enabled before the first VM entry stay open after revocation"),
    defect("repeated-exceptions", Nobody, "a guest stops the machine by #AC in the delivery of #AC"),
    defect("vcpu-deletion", Nobody, "deleting a VCPU that runs, or its thread, stops the kernel or corrupts memory"),
    defect("former-vcpus", Nobody, "deleting ports changes the memory or the ports of whoever follows a deleted VCPU"),
    defect("fpu-disabled", Nobody, "a thread that loses its VCPU faults when it next uses the FPU"),
    defect("suspended-vmenter", Nobody, "suspending and resuming a VMM sets its guest's state back"),
    defect("suspended-call", Nobody, "suspending and resuming a thread repeats its last system call"),
    defect("ept-levels", Nobody, "a failed EPT mapping does not tell which structure is missing"),
    defect("fault-address", Nobody, "the address of a page fault is reported with 32 bits"),
    defect("pdpt", Nobody, "copying the capability to a PDPT stops the kernel"),
    defect("last-page", Nobody, "a system call in the last page of the lower half stops the machine"),
    defect("dead-space", Nobody, "tables can be mapped in an address space whose ASID pool is gone"),
    defect("printing", Nobody, "a debug kernel's output changes the rate of a UART that is being set up"),
];

impl Defect {
    /// The defect of this name.
    pub fn named(name: &str) -> Option<&'static Defect> {
        DEFECTS.iter().find(|defect| defect.name == name)
    }
}

impl Endangered {
    /// In words.
    pub fn describe(self) -> &'static str {
        match self {
            Guests => "systems with a VM",
            SeveralGuests => "systems with more than one VM",
            GuestsWithDevices => "VMs with passed-through devices",
            Devices => "VMs and components with passed-through devices",
            SmallPages => "VMs without large_pages, on boards of processors with an erratum",
            HostileProcesses => "systems in which a process turns hostile",
            OneGuest => "the guest itself, no other",
            Nobody => "none: user level avoids it",
        }
    }

    /// What of a system it endangers: a place in the description, and what is there, in words.
    fn place(self, system: &System) -> Option<(Range<usize>, String)> {
        let guests = system.owners().filter(Owner::is_vm);
        let vm = |owner: Owner| (owner.name.span(), format!("`{}` is a VM", owner.name.get_ref()));
        match self {
            Guests => guests.map(vm).next(),
            SeveralGuests => {
                let mut guests = guests.skip(1);
                guests.next().map(|owner| (owner.name.span(), format!("`{}` is a second VM", owner.name.get_ref())))
            }
            GuestsWithDevices => guests.filter_map(device).next(),
            Devices => system.owners().filter_map(device).next(),
            SmallPages => {
                let concerned = system.vms.iter().find(|vm| system.in_small_pages(vm));
                concerned.map(|vm| (vm.name.span(), format!("`{}` is a VM to be in pages of 4 KiB", vm.name.get_ref())))
            }
            HostileProcesses | OneGuest | Nobody => None,
        }
    }
}

/// A device that the owner reaches directly.
fn device(owner: Owner) -> Option<(Range<usize>, String)> {
    let name = owner.name.get_ref();
    let mut functions = owner.devices.pci_devices.iter();
    let direct = functions.find(|function| function.get_ref().access == Access::Direct);
    let function = direct.map(|one| (one.span(), format!("`{name}` has the device {}", one.get_ref().label())));
    let ports = owner.devices.ioports.first();
    function
        .or_else(|| ports.map(|one| (one.span(), format!("`{name}` has the ports `{}`", one.get_ref().name.get_ref()))))
}

impl System {
    /// Whether the description accepts a defect.
    pub fn accepts(&self, defect: &Defect) -> bool {
        self.accept_kernel_defects.iter().any(|name| name.get_ref() == defect.name)
    }

    /// Whether a VM has its memory in pages of 4 KiB, though in large frames: on a board whose processor may have the erratum
    /// "iTLB multihit", unless the description trusts the guest. A kernel without our patch cannot map it so; whoever
    /// accepts that has large pages. A VM that an IOMMU confines has small frames in any case.
    pub fn in_small_pages(&self, vm: &Vm) -> bool {
        let accepted = self.accept_kernel_defects.iter().any(|name| name.get_ref() == LARGE_PAGES);
        self.board().multihit && !vm.large_pages && !vm.devices().confined() && !accepted
    }

    /// Whether one VM without devices is all that a defect could harm.
    pub fn is_one_vm_without_devices(&self) -> bool {
        [SeveralGuests, Devices].iter().all(|kind| kind.place(self).is_none())
    }

    /// Where a defect endangers this system, and what is there, in words. `None` if it does not, or the description
    /// accepts it.
    pub fn endangered_by(&self, defect: &Defect) -> Option<(Range<usize>, String)> {
        if self.accepts(defect) { None } else { defect.endangers.place(self) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::description::{form, text::Source};

    const ONE: &str = "board = \"bochs\"\n[[vm]]\nname = \"one\"\nmemory = \"64 MiB\"\nkernel = \"debian-686\"\n";
    const TWO: &str = "[[vm]]\nname = \"two\"\nmemory = \"64 MiB\"\nkernel = \"debian-686\"\n";
    const DRIVER: &str = "[[component]]\nname = \"driver\"\nimage = \"driver\"\n";

    /// The names of the defects that endanger a description.
    fn endangering(text: &str) -> Vec<&'static str> {
        let system = form::parse(&Source { path: "x.toml".into(), text: text.into() }).expect("is well-formed");
        let defects = DEFECTS.iter().filter(|defect| system.endangered_by(defect).is_some());
        defects.map(|defect| defect.name).collect()
    }

    fn of(kinds: &[Endangered]) -> Vec<&'static str> {
        DEFECTS.iter().filter(|defect| kinds.contains(&defect.endangers)).map(|defect| defect.name).collect()
    }

    #[test]
    fn a_name_is_a_short_word_and_names_one_defect() {
        for (n, defect) in DEFECTS.iter().enumerate() {
            let letters = defect.name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
            assert!(letters && defect.name.len() <= 20, "{}", defect.name);
            assert!(DEFECTS[..n].iter().all(|other| other.name != defect.name), "{}", defect.name);
        }
    }

    #[test]
    fn a_guest_in_small_pages_takes_a_kernel_that_has_them() {
        let names = |text: &str| endangering(&text.replace("bochs", "pc")).contains(&LARGE_PAGES);
        assert!(names(ONE) && !endangering(ONE).contains(&LARGE_PAGES));
        assert!(!names(&format!("{ONE}large_pages = true\n")));
        assert!(names(&[ONE, "large_pages = true\n", TWO].concat()));
    }

    #[test]
    fn a_defect_endangers_the_systems_that_have_what_it_breaks() {
        assert_eq!(endangering(ONE), of(&[Guests]));
        assert_eq!(endangering(&[ONE, TWO].concat()), of(&[Guests, SeveralGuests]));
        let all = of(&[Guests, GuestsWithDevices, Devices]);
        for devices in ["pci_devices = [\"00:03.0\"]\n", "ioports = [{ start = 0x300, end = 0x304, name = \"x\" }]\n"] {
            assert_eq!(endangering(&[ONE, devices].concat()), all, "{devices}");
            let component = ["board = \"bochs\"\n", DRIVER, devices].concat();
            assert_eq!(endangering(&component), of(&[Devices]), "{devices}");
        }
    }

    #[test]
    fn who_calls_a_server_for_each_access_has_nothing_to_be_revoked() {
        let mediated = "pci_devices = [{ address = \"00:03.0\", access = \"mediated\" }]\n";
        assert_eq!(endangering(&[ONE, mediated].concat()), of(&[Guests]));
    }

    #[test]
    fn what_is_accepted_endangers_nobody() {
        let accepted = format!("accept_kernel_defects = [\"cr2\", \"fpu\"]\n{ONE}{TWO}");
        let left: Vec<_> =
            of(&[Guests, SeveralGuests]).into_iter().filter(|name| !["cr2", "fpu"].contains(name)).collect();
        assert_eq!(endangering(&accepted), left);
    }
}
