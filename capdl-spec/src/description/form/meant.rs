//! Keys of other products, and likely guesses: which key of a description the user meant. Sources: the VM components of
//! CAmkES, Xen's xl.cfg, QEMU's and Firecracker's options, libvirt's domains.

use crate::description::keys::{
    KEYS,
    Table::{self, Card, Component, Console, Emulator, Function, IoPorts, Irq, Memory, Policy, Top, Vm},
};

/// What to do about a key.
#[derive(Clone, Copy)]
enum Meant {
    /// It has this name, here or in another table.
    Key(&'static str),
    /// Anything else.
    Say(&'static str),
}

use Meant::{Key, Say};

type Row = (&'static [Table], &'static [&'static str], Meant);

const OWNERS: &[Table] = &[Vm, Component];

const ROWS: &[Row] = &[
    (&[Top], &["machine", "platform", "target", "machine_type"], Key("board")),
    (&[Top], &["vms", "virtual_machine", "virtual_machines", "guest", "guests", "domain", "vm0"], Key("vm")),
    (&[Top], &["components", "process", "processes", "server", "program"], Key("component")),
    (&[Top], &["bochs", "qemu"], Key("emulator")),
    (&[Top], &["uart", "serial", "com", "tty"], Key("console")),
    (&[Console], &["speed", "rate", "baudrate", "baud_rate"], Key("baud")),
    (&[Console], &["uart", "name", "com", "address", "base", "ports", "ioport"], Key("port")),
    (&[Console], &["source", "interrupt", "line", "pin"], Key("irq")),
    (
        &[Top],
        &[
            "accept_defects",
            "accept_kernel_defect",
            "kernel_defects",
            "known_defects",
            "ignore_kernel_defects",
            "defects",
        ],
        Key("accept_kernel_defects"),
    ),
    (&[Top], &["name", "title", "version"], Say("leave it out: a system is named as its file")),
    (OWNERS, &["devices", "device", "pci", "passthrough", "hostdev", "pci_device", "pcidev"], Key("pci_devices")),
    (OWNERS, &["interrupts", "interrupt", "irq", "lines"], Key("irqs")),
    (OWNERS, &["ports", "io_ports", "pio", "ioport"], Key("ioports")),
    (OWNERS, &["iommu", "iospace", "iospace_domain", "vtd", "io_space"], Key("pci_devices_iospace")),
    (&[Vm], &["disk", "drive", "drives", "hda", "cdrom", "storage", "block", "virtio_blk"], Key("disks")),
    (&[Component], &["drive", "disk", "block"], Key("drives")),
    (OWNERS, &["network", "net", "nic", "netdev", "ethernet", "vif", "virtio_net"], Key("cards")),
    (
        OWNERS,
        &["restart", "on_crash", "on_fault", "on_reboot", "panic"],
        Say("what happens when a process faults is said in [policy.on_fault], such as vmm-linux = \"restart\""),
    ),
    (&[Vm], &["ram", "mem", "ram_size", "memory_size", "mem_size", "mem_size_mib", "maxmem"], Key("memory")),
    (
        &[Vm],
        &[
            "args",
            "append",
            "bootargs",
            "boot_args",
            "command_line",
            "commandline",
            "kernel_cmdline",
            "kernel_args",
            "params",
            "extra",
        ],
        Key("cmdline"),
    ),
    (
        &[Vm],
        &["image", "kernel_image", "kernel_path", "kernel_image_path", "bzimage", "vmlinux", "linux"],
        Key("kernel"),
    ),
    (&[Vm], &["initramfs", "initrd_image", "ramdisk", "rootfs", "initrd_path"], Key("initrd")),
    (&[Vm], &["vcpus", "cpu", "vcpu", "smp", "cores", "vcpu_count"], Key("cpus")),
    (&[Vm], &["priority", "prio"], Say("leave it out: all VMs have the same priority")),
    (&[Vm], &["services", "servers"], Say("leave it out: a VM may call the servers that it needs")),
    (&[Component], &["program", "binary", "elf", "package", "executable", "exe", "path", "kernel"], Key("image")),
    (&[Component], &["cmdline", "arguments", "argv", "params", "command_line"], Key("args")),
    (&[Component], &["prio"], Key("priority")),
    (&[Component], &["servers", "calls", "uses", "clients"], Key("services")),
    (
        &[Component],
        &["memory", "ram", "mem", "heap", "stack"],
        Say("leave it out: a program has what its ELF asks for; memory for DMA is dma_memory = \"64 KiB\""),
    ),
    (&[Policy], &["on_crash", "restart", "on_failure", "faults"], Key("on_fault")),
    (&[Policy], &["on_power_off", "on_poweroff", "poweroff", "power_off", "on_off"], Key("when_off")),
    (&[Policy], &["reboots", "max_resets", "restarts"], Key("resets")),
    (&[Emulator], &["drive", "hda", "image", "disks"], Key("disk")),
    (&[Emulator], &["network", "net", "nic", "nics", "card", "devices"], Key("cards")),
    (&[Emulator], &["memory", "ram", "mem"], Say("leave it out: the board gets the memory that the system needs")),
    (&[Card], &["type", "kind", "device", "nic", "name", "card"], Key("model")),
    (&[Card], &["number", "port", "dev", "address"], Key("slot")),
    (&[IoPorts], &["first", "base", "from", "begin", "port"], Key("start")),
    (&[IoPorts], &["last", "to", "stop"], Say("did you mean `end`? It is the port behind the last")),
    (&[IoPorts], &["size", "len", "length", "count"], Say("write `end`, the port behind the last")),
    (&[IoPorts], &["device", "dev", "pci", "pci_dev"], Key("pci_device")),
    (&[Function], &["device", "slot"], Key("dev")),
    (&[Function], &["function", "func", "fn"], Key("fun")),
    (&[Function], &["bdf", "addr", "pci_address", "id", "pci", "host"], Key("address")),
    (&[Function], &["interrupt", "irqs"], Key("irq")),
    (&[Function], &["mem", "bars", "bar", "regions", "mmio"], Key("memory")),
    (
        &[Function],
        &["vendor", "vendor_id", "device_id", "class"],
        Say("a function is named by where it is: address = \"00:03.0\", as lspci prints it"),
    ),
    (&[Memory], &["base", "addr", "address", "start", "phys", "from"], Key("paddr")),
    (&[Memory], &["len", "length", "bytes"], Key("size")),
    (&[Memory], &["end", "last", "to"], Say("write `size`, a number of bytes")),
    (&[Memory], &["bits", "page_size", "pages"], Key("page_bits")),
    (&[Irq], &["pin", "irq", "number", "gsi", "line", "input", "interrupt", "int"], Key("source")),
    (&[Irq], &["level", "level_triggered", "edge", "trigger"], Key("level_trig")),
    (&[Irq], &["low", "polarity", "active"], Key("active_low")),
    (&[Irq], &["guest", "guest_irq", "vector", "destination", "target"], Key("dest")),
    (&[Irq], &["io_apic", "apic", "controller"], Key("ioapic")),
    (&[Irq], &["rate", "max", "storm"], Key("limit")),
];

/// The remedy for an unknown key, if this list has one.
pub(super) fn remedy(name: &str, table: Table) -> Option<String> {
    let name = name.to_ascii_lowercase().replace('-', "_");
    let (.., meant) =
        ROWS.iter().find(|(tables, names, _)| tables.contains(&table) && names.contains(&name.as_str()))?;
    let word = match meant {
        Key(word) => word,
        Say(remedy) => return Some((*remedy).to_string()),
    };
    let here = table.key(word);
    let key = here.or_else(|| KEYS.iter().find(|key| key.name == *word))?;
    Some(match here {
        Some(key) if key.is_table() => format!("did you mean {}?", key.example),
        Some(_) => format!("did you mean `{word}`?"),
        None => format!("did you mean `{word}`? It belongs in {}", key.tables.first()?.written()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_meant_is_a_key_and_what_is_written_is_none() {
        for (tables, names, meant) in ROWS {
            for table in *tables {
                for name in *names {
                    assert!(table.key(name).is_none(), "{name} is a key of {table:?}");
                    assert!(remedy(name, *table).is_some(), "{name} in {table:?}");
                    let rows = ROWS.iter().filter(|row| row.0.contains(table) && row.1.contains(name)).count();
                    assert_eq!(rows, 1, "{name} in {table:?}");
                }
            }
            if let Key(word) = meant {
                assert!(KEYS.iter().any(|key| key.name == *word), "{word} is no key");
            }
        }
    }
}
