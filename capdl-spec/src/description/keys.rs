//! Every key of a description: the tables that have it, what its value is, and an example. Messages about form use it.
//! The types of `system`, `devices` and `emulator` decide what is parsed; a test compares the two.

/// A kind of table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Table {
    Top,
    Vm,
    Component,
    Network,
    Member,
    Vsock,
    VsockMember,
    Pipe,
    Console,
    Channel,
    Dataport,
    Policy,
    OnFault,
    Never,
    Emulator,
    Card,
    IoPorts,
    Function,
    Memory,
    Irq,
    DiskPart,
    Manager,
}

/// A key, or several that look alike.
pub(crate) struct Key {
    pub name: &'static str,
    pub tables: &'static [Table],
    /// What its value is, in words.
    pub what: &'static str,
    pub example: &'static str,
}

use Table::{
    Card, Channel, Component, Console, Dataport, DiskPart, Emulator, Function, IoPorts, Irq, Manager, Member, Memory,
    Network, Never, OnFault, Pipe, Policy, Top, Vm, Vsock, VsockMember,
};

const fn key(name: &'static str, tables: &'static [Table], what: &'static str, example: &'static str) -> Key {
    Key { name, tables, what, example }
}

const OWNERS: &[Table] = &[Vm, Component];
const FLAG: &str = "1 or 0, or true or false";

/// All keys. A key that differs between tables has a line for each.
pub(crate) const KEYS: &[Key] = &[
    key("board", &[Top], "the name of a board", "board = \"bochs\""),
    key("vm", &[Top], "a list of tables", "[[vm]]"),
    key("component", &[Top], "a list of tables", "[[component]]"),
    key("network", &[Top], "a list of tables", "[[network]]"),
    key("vsock", &[Top], "a list of tables", "[[vsock]]"),
    key("pipe", &[Top], "a list of tables", "[[pipe]]"),
    key("channel", &[Top], "a list of tables", "[[channel]]"),
    key("policy", &[Top], "a table", "[policy]"),
    key("console", &[Top], "a table", "console = { port = \"COM2\", baud = 9600 }"),
    key("port", &[Console], "COM1 to COM4, or a port", "port = \"COM2\""),
    key("irq", &[Console], "an input of the I/O APIC, 1 to 23", "irq = 3"),
    key("baud", &[Console], "a number of bits per second", "baud = 9600"),
    key("console_colours", &[Top], "true or false", "console_colours = true"),
    key("emulator", &[Top], "a table", "[emulator]"),
    key("accept_kernel_defects", &[Top], "a list of names of kernel defects", "accept_kernel_defects = [\"cr2\"]"),
    key("name", &[Vm, Component, Network, Member, Vsock, VsockMember, Pipe, Channel], "a name", "name = \"linux\""),
    key("count", &[Vm], "a number of VMs, from 1 on", "count = 8"),
    key("memory", &[Vm], "a size", "memory = \"128 MiB\""),
    key("chipset", &[Vm], "pc or pc1995", "chipset = \"pc\""),
    key("cpus", &[Vm], "a number", "cpus = 1"),
    key("kernel", &[Vm], "a file or the name of a kernel", "kernel = \"debian-686\""),
    key("initrd", &[Vm], "a file or the name of an initrd", "initrd = \"debian-busybox\""),
    key("release", &[Vm], "bookworm or trixie", "release = \"trixie\""),
    key("packages", &[Vm], "a list of packages of Debian", "packages = [\"strace\"]"),
    key("programs", &[Vm], "a list of folders", "programs = [\"./hello\"]"),
    key("build_packages", &[Vm], "a list of packages of Debian", "build_packages = [\"libzmq3-dev\"]"),
    key("overlay", &[Vm], "a folder", "overlay = \"./files\""),
    key("cmdline", &[Vm], "a text", "cmdline = \"console=ttyS0,115200\""),
    key("decompress", &[Vm], "host or guest", "decompress = \"host\""),
    key("direct_ports", &[Vm], "a list of ports, 0 to 0xffff", "direct_ports = [0xe9]"),
    key("large_pages", &[Vm], "true or false", "large_pages = true"),
    key("rng", &[Vm], "true or false", "rng = true"),
    key("hvc", &[Vm], "true or false", "hvc = true"),
    key("managers", &[Vm], "a list of components, or \"console\"", "managers = [\"console\"]"),
    key("name", &[Manager], "the name of a component, or \"console\"", "name = \"watchdog\""),
    key("may", &[Manager], "a list of what it may do", "may = [\"reset\"]"),
    key("uplink", &[Component], "the name of a network", "uplink = \"lan\""),
    key(
        "disks",
        &[Vm, Component],
        "a list of disks, or of parts of them",
        "disks = [{ name = \"main\", partition = 1 }]",
    ),
    key("name", &[DiskPart], "the name of a disk that a component drives", "name = \"main\""),
    key("file", &[DiskPart], "a file or the name of a disk", "file = \"./disk.img\""),
    key("copy_on_write", &[DiskPart], "a size", "copy_on_write = \"4 MiB\""),
    key("partition", &[DiskPart], "a number from 1 to 4", "partition = 1"),
    key("first", &[DiskPart], "the number of a sector", "first = 2048"),
    key("sectors", &[DiskPart], "a number of sectors, from 1", "sectors = 65536"),
    key("read_only", &[DiskPart], "true or false", "read_only = true"),
    key("drives", &[Component], "the name of a disk", "drives = \"main\""),
    key("image", &[Component], "a package or a file", "image = \"./component.elf\""),
    key("priority", &[Component], "a number from 1 to 253", "priority = 90"),
    key("services", &[Component], "a list of servers", "services = [\"timer\", \"serial\"]"),
    key("args", &[Component], "a text", "args = \"verbose\""),
    key("files", &[Component], "a list of files", "files = [\"./table.bin\"]"),
    key("dma_memory", &[Component], "a size", "dma_memory = \"64 KiB\""),
    key("pci_enumerate", OWNERS, "true or false", "pci_enumerate = true"),
    key(
        "ioports",
        OWNERS,
        "a list of ranges of ports",
        "ioports = [{ start = 0x3000, end = 0x3020, name = \"card\", pci_device = 3 }]",
    ),
    key("pci_devices", OWNERS, "a list of PCI functions", "pci_devices = [\"00:03.0\"]"),
    key(
        "irqs",
        OWNERS,
        "a list of interrupts",
        "irqs = [{ name = \"card\", source = 17, level_trig = 1, active_low = 1 }]",
    ),
    key("pci_devices_iospace", OWNERS, FLAG, "pci_devices_iospace = 1"),
    key(
        "members",
        &[Network],
        "a list of VMs and components",
        "members = [\"linux\", { name = \"router\", bridge = true }]",
    ),
    key("mac", &[Member], "an Ethernet address", "mac = \"02:00:00:00:00:01\""),
    key("bridge", &[Member], "true or false", "bridge = true"),
    key(
        "members",
        &[Vsock],
        "a list of VMs and components",
        "members = [\"linux\", { name = \"component\", cid = 7 }]",
    ),
    key("members", &[Pipe], "a list of two VMs", "members = [\"first\", \"second\"]"),
    key("members", &[Channel], "a list of two VMs or components", "members = [\"linux\", \"string-reverse\"]"),
    key(
        "dataports",
        &[Channel],
        "a list of sizes",
        "dataports = [\"64 KiB\", { size = \"4 KiB\", writer = \"linux\" }]",
    ),
    key("size", &[Dataport], "a size", "size = \"4 KiB\""),
    key("writer", &[Dataport], "the name of a member", "writer = \"linux\""),
    key("cid", &[VsockMember], "a number from 3 to 4294967294", "cid = 7"),
    key("never", &[Policy], "a list of tables", "[[policy.never]]"),
    key("from", &[Never], "the name of a VM or component", "from = \"secret\""),
    key("to", &[Never], "the name of a VM or component", "to = \"public\""),
    key("except_through", &[Never], "a list of VMs and components", "except_through = [\"filter\"]"),
    key("except_signals", &[Never], "true or false", "except_signals = true"),
    key("even_if_taken_over", &[Never], "a list of servers and drivers", "even_if_taken_over = [\"net-server\"]"),
    key("interrupts_by_dma", &[Policy], "a list of VMs and components", "interrupts_by_dma = [\"nic\"]"),
    key("on_fault", &[Policy], "a table", "[policy.on_fault]"),
    key("when_off", &[Policy], "power-off or stay", "when_off = \"stay\""),
    key("resets", &[Policy], "a number of resets in a row, from 1 to 65535", "resets = 100"),
    key("disk", &[Emulator], "a file or the name of a disk", "disk = \"./disk.img\""),
    key("cards", &[Emulator], "a list of tables", "cards = [{ slot = 2, model = \"e1000\" }]"),
    key("slot", &[Card], "a number from 1 to 5", "slot = 2"),
    key("model", &[Card], "the name of a card", "model = \"e1000\""),
    key("start", &[IoPorts], "the first port, 0 to 0xffff", "start = 0x3000"),
    key("end", &[IoPorts], "the port behind the last, 1 to 0x10000", "end = 0x3020"),
    key("pci_device", &[IoPorts], "the number of a PCI device, 0 to 31", "pci_device = 3"),
    key("trusted", &[IoPorts], FLAG, "trusted = true"),
    key("name", &[IoPorts, Function, Irq], "a text", "name = \"card\""),
    key("address", &[Function], "the address of a PCI function", "address = \"00:03.0\""),
    key("bus", &[Function], "a number from 0 to 255", "bus = 5"),
    key("dev", &[Function], "a number from 0 to 31", "dev = 0"),
    key("fun", &[Function], "a number from 0 to 7", "fun = 0"),
    key("irq", &[Function], "the name of an entry of irqs", "irq = \"card\""),
    key("interrupts", &[Function], "pin or none", "interrupts = \"pin\""),
    key(
        "memory",
        &[Function],
        "a list of ranges of memory",
        "memory = [{ paddr = 0xc0500000, size = 0x20000, page_bits = 12 }]",
    ),
    key("access", &[Function], "direct or mediated", "access = \"mediated\""),
    key("dma", &[Function], "the word trusted", "dma = \"trusted\""),
    key("group", &[Function], "the word trusted", "group = \"trusted\""),
    key("paddr", &[Memory], "a physical address, below 0x800000000000", "paddr = 0xc0500000"),
    key("size", &[Memory], "a number of bytes, from 1", "size = 0x20000"),
    key("page_bits", &[Memory], "12, 20 or 21", "page_bits = 12"),
    key("ioapic", &[Irq], "the number of an I/O APIC, 0 to 255", "ioapic = 0"),
    key("source", &[Irq], "an input of the I/O APIC, 0 to 23", "source = 17"),
    key("level_trig", &[Irq], FLAG, "level_trig = 1"),
    key("active_low", &[Irq], FLAG, "active_low = 1"),
    key("dest", &[Irq], "an input of the guest's PIC, 0 to 15", "dest = 11"),
    key("limit", &[Irq], "interrupts per millisecond, 0 to 65535", "limit = 100"),
];

impl Key {
    /// Whether it is written as the heading of a table.
    pub fn is_table(&self) -> bool {
        self.example.starts_with('[')
    }

    /// Whether it may be left out.
    pub fn is_optional(&self) -> bool {
        !matches!(
            self.name,
            "board"
                | "name"
                | "memory"
                | "kernel"
                | "image"
                | "slot"
                | "model"
                | "start"
                | "end"
                | "address"
                | "source"
                | "members"
                | "from"
                | "to"
        )
    }
}

impl Table {
    /// The kind of table that a path of keys leads to.
    pub fn at(path: &[&str]) -> Option<Table> {
        let table = match path {
            [] => Top,
            ["vm"] => Vm,
            ["component"] => Component,
            ["network"] => Network,
            ["network", "members"] => Member,
            ["vsock"] => Vsock,
            ["vsock", "members"] => VsockMember,
            ["pipe"] => Pipe,
            ["console"] => Console,
            ["channel"] => Channel,
            ["channel", "dataports"] => Dataport,
            ["policy"] => Policy,
            ["policy", "on_fault"] => OnFault,
            ["policy", "never"] => Never,
            ["emulator"] => Emulator,
            ["emulator", "cards"] => Card,
            ["vm" | "component", "disks"] => DiskPart,
            ["vm", "managers"] => Manager,
            ["vm" | "component", "ioports"] => IoPorts,
            ["vm" | "component", "pci_devices"] => Function,
            ["vm" | "component", "irqs"] => Irq,
            ["vm" | "component", "pci_devices", "memory"] => Memory,
            _ => return None,
        };
        Some(table)
    }

    /// As a description writes it.
    pub fn written(self) -> &'static str {
        match self {
            Top => "the description itself",
            Vm => "[[vm]]",
            Component => "[[component]]",
            Network => "[[network]]",
            Member => "an entry of `members` in a [[network]]",
            Vsock => "[[vsock]]",
            VsockMember => "an entry of `members` in a [[vsock]]",
            Pipe => "[[pipe]]",
            Console => "`console`",
            Channel => "[[channel]]",
            Dataport => "an entry of `dataports` in a [[channel]]",
            Policy => "[policy]",
            OnFault => "[policy.on_fault]",
            Never => "[[policy.never]]",
            Emulator => "[emulator]",
            Card => "an entry of `cards` in [emulator]",
            IoPorts => "an entry of `ioports`",
            Function => "an entry of `pci_devices`",
            Memory => "an entry of `memory` in one of `pci_devices`",
            Irq => "an entry of `irqs`",
            DiskPart => "an entry of `disks`",
            Manager => "an entry of `managers`",
        }
    }

    /// A key of it.
    pub fn key(self, name: &str) -> Option<&'static Key> {
        KEYS.iter().find(|key| key.name == name && key.tables.contains(&self))
    }

    /// The names of its keys.
    #[cfg(test)]
    pub fn names(self) -> Vec<&'static str> {
        KEYS.iter().filter(|key| key.tables.contains(&self)).map(|key| key.name).collect()
    }
}
