//! Mistakes in `irqs`.

use std::collections::BTreeMap;

use layout::guest_board::{self, Chipset, input};
use proto::pci::Intx;

use super::Found;
use crate::{
    compile::part::Role,
    description::{
        devices::{Interrupts, Irq},
        mistake::nearest,
        owners::Owner,
        system::{System, Vm},
    },
};

/// Inputs of an I/O APIC (82093AA).
pub(super) const INPUTS: u8 = 24;
/// The first ports of the channels of an IDE controller in compatibility mode.
const IDE: [u16; 2] = [0x1f0, 0x170];
/// Input 0 of the first I/O APIC: the 8259's, which the kernel keeps masked.
const EXTINT: u8 = 0;

/// The board of a VM's guest. A component has none, and its lines go nowhere.
fn chipset(system: &System, owner: Owner) -> Chipset {
    match owner.role {
        Role::Vmm(number) => system.vms.get(number).map(Vm::chipset).unwrap_or_default(),
        Role::Component(_) | Role::Server(_) => Chipset::default(),
    }
}

fn irqs<'a>(found: &Found<'a>) -> impl Iterator<Item = (Owner<'a>, &'a Irq)> + use<'a> {
    found.system.owners().flat_map(|owner| owner.devices.irqs.iter().map(move |irq| (owner, irq)))
}

pub(super) fn functions_name_an_irq_that_is_there(found: &mut Found) {
    let system = found.system;
    for owner in system.owners() {
        let known: Vec<&str> = owner.devices.irqs.iter().map(|irq| irq.name.get_ref().as_str()).collect();
        for irq in owner.devices.pci_devices.iter().filter_map(|device| device.get_ref().irq.as_ref()) {
            if !known.contains(&irq.get_ref().as_str()) {
                let message = format!("no entry of irqs is called `{}`", irq.get_ref());
                let remedy = match known.is_empty() {
                    true => "add it to irqs, or leave irq out: then it interrupts by MSI, or where the chipset is known to have its pin".into(),
                    false => nearest(irq.get_ref(), &known),
                };
                found.add(irq.span(), message, remedy);
            }
        }
    }
}

pub(super) fn functions_without_interrupts_name_none(found: &mut Found) {
    let system = found.system;
    for device in system.owners().flat_map(|owner| owner.devices.pci_devices).map(|device| device.get_ref()) {
        let none = device.interrupts.as_ref().filter(|word| *word.get_ref() == Interrupts::None);
        if let (Some(word), Some(irq)) = (none, &device.irq) {
            let message = format!("this function has no interrupt, and `{}` is its interrupt", irq.get_ref());
            found.add(word.span(), message, "leave out one of irq and interrupts");
        }
    }
}

/// A function that cannot send messages needs its pin, and no build guesses where that is wired.
pub(super) fn pins_are_known(found: &mut Found) {
    let system = found.system;
    if system.board().intx != Intx::Unknown {
        return;
    }
    for owner in system.owners() {
        for (n, device) in owner.devices.pci_devices.iter().enumerate() {
            let (span, device) = (device.span(), device.get_ref());
            let needs_none = device.irq.is_some() || device.interrupts() == Some(Interrupts::None);
            let mut ports = owner.devices.ports_of(Some(n)).map(|ports| ports.range().0);
            // An IDE controller in compatibility mode has interrupts 14 and 15 on every board.
            if needs_none || owner.devices.may_send(device) || ports.any(|first| IDE.contains(&first)) {
                continue;
            }
            let at = device.address;
            let (span, why) = match &device.interrupts {
                Some(word) => (word.span(), "the description wants its pin"),
                None => (span, "it may send no messages (MSI), since it is no bus master"),
            };
            let message = format!("where {at} interrupts is known to the machine's firmware alone: {why}");
            let remedy = format!(
                "boot Linux on the machine with pci=nomsi: /proc/interrupts has the IRQ that `lspci -vs {at}` prints, at an input of \
                 an IO-APIC; write for example irqs = [{{ name = \"card\", source = 19, level_trig = 1, active_low = 1 }}] and \
                 irq = \"card\", as `cargo xtask import lspci` does; or interrupts = \"none\" if it needs none"
            );
            found.add(span, message, remedy);
        }
    }
}

/// An interrupt of a device that has ports but no PCI function needs no name in `pci_devices`.
pub(super) fn irqs_are_used(found: &mut Found) {
    for (owner, irq) in irqs(found) {
        let name = irq.name.get_ref();
        let mut devices = owner.devices.pci_devices.iter().filter_map(|device| device.get_ref().irq.as_ref());
        let off_the_bus = owner.devices.ioports.iter().any(|ports| ports.get_ref().pci_device.is_none());
        if !off_the_bus && !devices.any(|irq| irq.get_ref() == name) {
            let message = format!("no device uses the interrupt `{name}`");
            found.add(
                irq.name.span(),
                message,
                format!("write irq = \"{name}\" in one of the pci_devices, or leave it out"),
            );
        }
    }
}

pub(super) fn irqs_of_an_owner_differ(found: &mut Found) {
    let system = found.system;
    for owner in system.owners() {
        let irqs = owner.devices.irqs;
        for (n, irq) in irqs.iter().enumerate() {
            let before = &irqs[..n];
            if before.iter().any(|other| other.name.get_ref() == irq.name.get_ref()) {
                let message = format!("there are two irqs of the name `{}`", irq.name.get_ref());
                found.add(irq.name.span(), message, "choose another name");
            }
            if let Some(other) = before.iter().find(|other| other.arrives() == irq.arrives()) {
                let message = format!("`{}` arrives at this source already", other.name.get_ref());
                found.add(irq.source.span(), message, "several devices of one owner may name the same irq");
            }
            let taken = |dest| before.iter().find(|other| other.dest.as_ref().is_some_and(|d| d.get_ref() == dest));
            if let Some((dest, other)) = irq.dest.as_ref().and_then(|dest| Some((dest, taken(dest.get_ref())?))) {
                let message = format!("`{}` is the guest's interrupt {} already", other.name.get_ref(), dest.get_ref());
                found.add(dest.span(), message, "choose another dest, or leave it out");
            }
        }
    }
}

pub(super) fn sources_are_free_inputs(found: &mut Found) {
    let board = found.system.board();
    let taken = [board.pit, board.uart, board.rtc].map(|device| (device.line.ioapic, device.line.pin, device.name));
    for (_, irq) in irqs(found) {
        let source = *irq.source.get_ref();
        let owner = taken.iter().find(|(ioapic, pin, _)| (*ioapic, *pin) == irq.arrives()).map(|(.., name)| *name);
        let owner = owner.or((irq.arrives() == (0, EXTINT)).then_some("old interrupt controller"));
        if source >= INPUTS {
            let message = format!("{source} is no input of an I/O APIC");
            found.add(irq.source.span(), message, format!("write 0 to {}", INPUTS - 1));
        } else if let Some(owner) = owner {
            let message = format!("the I/O APIC's input {source} is that of the board's {owner}");
            found.add(
                irq.source.span(),
                message,
                "see /proc/interrupts of a Linux on the machine for the device's own",
            );
        }
    }
}

pub(super) fn dests_are_free_inputs_of_the_guests_pic(found: &mut Found) {
    for (owner, irq) in irqs(found) {
        let Some(dest) = &irq.dest else { continue };
        let number = *dest.get_ref();
        if number >= input::COUNT {
            let message = format!("a guest has no interrupt {number}");
            found.add(dest.span(), message, format!("write 0 to {}, or leave dest out", input::COUNT - 1));
        } else if let Some(what) = guest_board::driver_of_input(chipset(found.system, owner), number) {
            let message = format!("interrupt {number} is that of the guest's {what}");
            found.add(dest.span(), message, "choose another, such as 5, 10 or 11, or leave dest out");
        }
    }
}

/// Owners may share an input, as their devices do, but have to agree on its trigger and polarity.
pub(super) fn who_shares_a_source_agrees_on_it(found: &mut Found) {
    let mut known = BTreeMap::new();
    for (owner, irq) in irqs(found) {
        let (route, name) = (irq.route(), owner.name.get_ref());
        let (first, other) = *known.entry(irq.arrives()).or_insert((route, name));
        if first != route {
            let message = format!("`{other}` says otherwise of source {}", route.pin);
            found.add(irq.source.span(), message, "one input has one level_trig and one active_low");
        }
    }
}

impl Irq {
    fn arrives(&self) -> (u8, u8) {
        (self.ioapic, *self.source.get_ref())
    }
}
