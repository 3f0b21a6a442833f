//! The map: a compiled system as text for people, one block per process. It is committed beside each description, so that
//! a change of authority shows in review; therefore it leaves out what depends on the programs and images alone.

mod devices;

use core::fmt::{self, Write};

use layout::{FAULT_BIT, client_of, event, limits::MAX_PIPES, window};

use crate::{
    compile::part::{Part, ROOT_PRIORITY, Role},
    description::{
        board::PortRange,
        console,
        guest::{Additions, Form},
        system::{Bytes, System},
    },
    services,
    spec::{CapEntry, Id, Kind, Mapping, OnFault, PageSize, Process, Rights, Spec, WhenOff},
};

/// The map of a system; `spec` is what [`crate::compile::compile`] or [`crate::compile::plan`] made of it.
pub fn text(system: &System, spec: &Spec) -> String {
    let map = Map { system, spec, parts: system.parts() };
    let mut out = String::new();
    // Writing to a String cannot fail.
    let _ = map.write(&mut out);
    out
}

struct Map<'a> {
    system: &'a System,
    spec: &'a Spec,
    parts: Vec<Part>,
}

/// An entry of a map's table of memory.
struct MemoryRow {
    at: u64,
    line: String,
}

impl Map<'_> {
    fn write(&self, out: &mut String) -> fmt::Result {
        self.head(out)?;
        for (number, (process, part)) in self.spec.processes.iter().zip(&self.parts).enumerate() {
            writeln!(out, "\n{}", process.name)?;
            writeln!(out, "  priority {}, on a fault: {}", process.priority, on_fault(process.on_fault))?;
            self.capabilities(out, process)?;
            self.memory(out, process, part)?;
            devices::io_spaces(self, out, process)?;
            devices::passed_through(self, out, part.role)?;
            devices::interrupts(self, out, part.role)?;
            devices::at_root_task(self, out, number, process)?;
        }
        self.root_task(out)?;
        self.summary(out)
    }

    fn head(&self, out: &mut String) -> fmt::Result {
        let board = self.system.board();
        let (vms, processes) = (plural(self.system.vms.len(), "VM"), plural(self.parts.len(), "process"));
        writeln!(out, "{}: {vms}, {processes}, on {}", self.system.name, board.about)?;
        writeln!(out, "console: {}, {} baud, I/O APIC input {}", self.console(), board.baud, board.uart.line.pin)?;
        for (number, vm) in self.system.vms.iter().enumerate() {
            writeln!(out, "\n  VM {}: {}", vm.name.get_ref(), vm.memory.get_ref())?;
            let words = self.system.images_of(number).into_iter().zip(["kernel", "initrd"]);
            let images = self.system.images();
            for (key, word) in words {
                let name = self.system.image_index(key.0, &key.1).map_or("", |n| images[n].name.as_str());
                let changed = match &key.1 {
                    Form::Relocated { at } if self.system.is_settled() => format!(", moved to {at:#x}"),
                    // A map needs no images, whose size decides.
                    Form::Relocated { at } => format!(", moved to {at:#x}, or further up if images need the room"),
                    Form::AsIs | Form::Decompressed => String::new(),
                    Form::Extended(Additions { packages, programs, overlay, .. }) => {
                        let name = |folder: &std::path::PathBuf| {
                            folder.file_name().unwrap_or_default().to_string_lossy().into_owned()
                        };
                        let folders = programs.iter().chain(overlay).map(name);
                        let added: Vec<String> = packages.iter().cloned().chain(folders).collect();
                        format!(", with {}", added.join(", "))
                    }
                };
                writeln!(out, "    {word}  {name}{changed}")?;
            }
            writeln!(out, "    cmdline {}", vm.cmdline())?;
        }
        Ok(())
    }

    fn console(&self) -> String {
        let ports = self.system.board().uart.ports;
        console::com(ports.first).map_or(format!("ports {ports}"), |name| format!("{name}, ports {ports}"))
    }

    fn capabilities(&self, out: &mut String, process: &Process) -> fmt::Result {
        writeln!(out, "  capabilities")?;
        let mut caps: Vec<&CapEntry> = self.spec.caps.iter().filter(|cap| cap.cnode == process.cspace).collect();
        caps.sort_by_key(|cap| cap.slot);
        let spare = |cap: &&&CapEntry| matches!(self.spec.kind(cap.object), Some(Kind::SparePaging { .. }));
        let count = caps.iter().filter(spare).count();
        for cap in caps.iter().filter(|cap| !spare(cap)) {
            let what = format!("{:<26} {}", self.spec.name(cap.object), self.authority(cap));
            writeln!(out, "    {:>3}  {}", cap.slot, what.trim_end())?;
        }
        match caps.iter().find(spare) {
            Some(first) => writeln!(out, "    {:>3}  and on: {count} spare paging structures for the EPT", first.slot),
            None => Ok(()),
        }
    }

    /// What a capability permits.
    fn authority(&self, cap: &CapEntry) -> String {
        match self.spec.kind(cap.object) {
            Some(Kind::Endpoint) if cap.rights.read => {
                let replies = if cap.rights.grant { ", replies may carry capabilities" } else { "" };
                format!("receive{replies}")
            }
            Some(Kind::Endpoint) if cap.badge & FAULT_BIT != 0 => format!("faults, badge {:#x}", cap.badge),
            Some(Kind::Endpoint) if cap.object == self.spec.supervisor && cap.rights.grant => {
                format!("call, badge {:#x}", cap.badge)
            }
            Some(Kind::Endpoint) => match client_of(cap.badge) {
                Some(client) => format!("call as client {client}, badge {:#x}", cap.badge),
                None => format!("send, badge {:#x}", cap.badge),
            },
            Some(Kind::Notification) if cap.rights.read => "wait, bound to the thread".into(),
            Some(Kind::Notification) => format!("signal {}, badge {:#x}", self.event(cap), cap.badge),
            Some(Kind::CNode { bits }) => format!("{} slots, to derive and receive capabilities", 1 << bits),
            Some(Kind::Vcpu) => "run the guest".into(),
            Some(Kind::Ept) => "map device memory for the guest".into(),
            Some(Kind::IoPorts { .. }) => format!("read and write: {}", self.device(cap.object)),
            Some(Kind::IrqControl) => "create interrupt handlers".into(),
            _ => String::new(),
        }
    }

    /// What a signal tells its receiver.
    fn event(&self, cap: &CapEntry) -> String {
        let receiver = self.spec.processes.iter().position(|process| process.events() == Some(cap.object));
        let server = match receiver.and_then(|number| self.parts.get(number)).map(|part| part.role) {
            Some(Role::Server(service)) => services::server(service),
            _ => None,
        };
        let bit = cap.badge.trailing_zeros();
        match cap.badge {
            event::MANAGED if server.is_none() => "lifecycle".into(),
            event::INTERRUPT => "interrupt".into(),
            event::TIMER => "deadline".into(),
            badge if let Some(word) = server.and_then(|server| (server.event)(badge)) => word,
            event::CONSOLE => "console input".into(),
            event::NETWORK => "frames, or room for them".into(),
            event::CHANNEL => "events of a channel".into(),
            pipe if let Some(n) = (0..MAX_PIPES).find(|&n| event::pipe(n) == pipe) => format!("its pipe {n}"),
            line if line >= event::line(0) => format!("interrupt, its line {}", bit - event::line(0).trailing_zeros()),
            _ => format!("bit {bit}"),
        }
    }

    /// The device that a range of ports belongs to.
    fn device(&self, ports: Id) -> String {
        let Some(&Kind::IoPorts { first, last }) = self.spec.kind(ports) else { return String::new() };
        let range = PortRange { first, last };
        let board = self.system.board();
        let known = board.owned();
        let debug =
            board.debug_ports.iter().find(|(port, _)| *port == first).map(|(_, what)| format!("emulator: {what}"));
        let device = known.iter().find(|(ports, ..)| *ports == range).map(|(_, name, _)| name.to_string());
        device.or(debug).unwrap_or_default()
    }

    fn memory(&self, out: &mut String, process: &Process, part: &Part) -> fmt::Result {
        writeln!(out, "  memory")?;
        let mut windows: Vec<MemoryRow> = self.windows(process.vspace, &process.name).collect();
        let program = format!("           program {}, as its ELF says", part.program);
        windows.push(MemoryRow { at: window::IMAGE, line: program });
        if let Role::Server(service) = part.role
            && let Some(own) = services::server(service).and_then(|server| server.own_memory.as_ref())
        {
            windows.push(MemoryRow { at: own.at, line: format!("           {}", (own.what)(self.system)) });
        }
        windows.sort_by_key(|window| window.at);
        for window in windows {
            writeln!(out, "    {:#012x} {}", window.at, window.line)?;
        }
        let Some(ept) = process.ept else { return Ok(()) };
        writeln!(out, "  guest-physical memory")?;
        for window in self.windows(ept, &process.name) {
            writeln!(out, "    {:#012x} {}", window.at, window.line)?;
        }
        Ok(())
    }

    /// Windows of a space, except those of the program and the images.
    fn windows(&self, space: Id, owner: &str) -> impl Iterator<Item = MemoryRow> {
        let mappings = self.spec.mappings.iter().filter(move |mapping| mapping.space == space);
        mappings.filter(|mapping| self.is_planned(mapping.frames)).map(move |mapping| {
            let size = Bytes(self.bytes(mapping)).to_string();
            let what = self.spec.name(mapping.frames).split_once('.').map_or("", |(_, what)| what);
            let others: Vec<&str> =
                self.spec.owners(mapping.frames).into_iter().filter(|name| *name != owner).collect();
            let with = if others.is_empty() { String::new() } else { format!(", shared with {}", others.join(", ")) };
            let pages = match (self.spec.kind(space), self.spec.kind(mapping.frames), mapping.pages) {
                (Some(Kind::Ept), Some(Kind::Frames { size: PageSize::Large, .. }), PageSize::Large) => {
                    ", in pages of 2 MiB"
                }
                (Some(Kind::Ept), Some(Kind::Frames { size: PageSize::Large, .. }), PageSize::Small) => {
                    ", in pages of 4 KiB"
                }
                _ => "",
            };
            MemoryRow { at: mapping.at, line: format!("{size:>8}   {:<3} {what}{with}{pages}", rights(mapping.rights)) }
        })
    }

    /// Whether these frames depend on the description alone.
    fn is_planned(&self, frames: Id) -> bool {
        let name = self.spec.name(frames);
        !name.contains(".segment") && !name.contains(".image.")
    }

    fn bytes(&self, mapping: &Mapping) -> u64 {
        match self.spec.kind(mapping.frames) {
            Some(Kind::Frames { size, pages, .. }) => u64::from(*pages) << size.bits(),
            _ => 0,
        }
    }

    fn root_task(&self, out: &mut String) -> fmt::Result {
        writeln!(out, "\nroot-task")?;
        writeln!(out, "  priority {ROOT_PRIORITY}; builds all of the above, then receives faults and notices")?;
        if let Some(console) = &self.spec.console {
            writeln!(out, "  prints by {} until serial-server does, and of faults", self.spec.name(console.ports))?;
        }
        let when = match self.spec.when_off {
            WhenOff::PowerOff => "when the last VM is off, switches the machine off",
            WhenOff::Stay => "when the last VM is off, goes on",
        };
        match &self.spec.power_off {
            Some(switch) => writeln!(out, "  {when} (the switch is {})", self.spec.name(switch.ports)),
            None => writeln!(out, "  {when} (this board has no switch: it halts)"),
        }
    }

    fn summary(&self, out: &mut String) -> fmt::Result {
        writeln!(out, "\nwho may call whom")?;
        for part in self.parts.iter().filter(|part| !part.calls.is_empty()) {
            let servers: Vec<&str> = part.calls.iter().map(|service| service.server).collect();
            writeln!(out, "  {:<16} {}", part.name, servers.join(", "))?;
        }
        writeln!(out, "\nwho shares memory with whom")?;
        for (partners, what, bytes) in shared(self.spec) {
            writeln!(out, "  {:<30} {what}, {}", partners.join(" and "), Bytes(bytes))?;
        }
        writeln!(out, "\nobjects beside frames and paging structures")?;
        for (word, count) in self.counts() {
            writeln!(out, "  {count:>3} {word}")?;
        }
        writeln!(out, "\nRAM for guests, stacks, buffers and configurations: {}", Bytes(self.ram()))?;
        if self.guests_are_apart() {
            writeln!(out, "No guest frame is mapped anywhere but in its VM and its vmm-server.")?;
        }
        Ok(())
    }

    fn counts(&self) -> Vec<(&'static str, usize)> {
        let count = |is: fn(&Kind) -> bool| self.spec.objects.iter().filter(|object| is(&object.kind)).count();
        [
            ("endpoints", count(|kind| *kind == Kind::Endpoint)),
            ("notifications", count(|kind| *kind == Kind::Notification)),
            ("CNodes", count(|kind| matches!(kind, Kind::CNode { .. }))),
            ("threads", count(|kind| *kind == Kind::Tcb)),
            ("VSpaces", count(|kind| *kind == Kind::VSpace)),
            ("VCPUs, and as many EPTs", count(|kind| *kind == Kind::Vcpu)),
            ("port ranges", count(|kind| matches!(kind, Kind::IoPorts { .. }))),
            ("I/O address spaces", count(|kind| matches!(kind, Kind::IoSpace { .. }))),
            ("spare paging structures", count(|kind| matches!(kind, Kind::SparePaging { .. }))),
        ]
        .into_iter()
        .filter(|(_, count)| *count > 0)
        .collect()
    }

    /// Bytes of the guests' memory, of stacks, buffers and configurations.
    fn ram(&self) -> u64 {
        let objects = self.spec.objects.iter().zip(0..).filter(|(_, n)| self.is_planned(Id(*n)));
        let bytes = objects.map(|(object, _)| match object.kind {
            Kind::Frames { size, pages, .. } => u64::from(pages) << size.bits(),
            _ => 0,
        });
        bytes.sum()
    }

    fn guests_are_apart(&self) -> bool {
        let of_guests =
            self.spec.mappings.iter().filter(|mapping| self.spec.name(mapping.frames).ends_with(".guest-ram"));
        of_guests.map(|mapping| self.spec.owners(mapping.frames)).all(|owners| owners.len() == 1)
    }
}

/// Memory that processes share: the processes, its use, and its bytes.
pub(crate) fn shared(spec: &Spec) -> Vec<(Vec<&str>, &str, u64)> {
    let named = spec.objects.iter().filter_map(|object| match object.kind {
        Kind::Frames { size, pages, .. } => Some((object.name.split_once('.')?, u64::from(pages) << size.bits())),
        _ => None,
    });
    named
        .filter(|((owners, _), _)| owners.contains('+'))
        .map(|((owners, what), bytes)| (owners.split('+').collect(), what, bytes))
        .collect()
}

/// A count in words: `1 VM`, `2 VMs`, `6 processes`.
pub(crate) fn plural(count: usize, word: &str) -> String {
    let end = match (count, word.ends_with('s')) {
        (1, _) => "",
        (_, true) => "es",
        (_, false) => "s",
    };
    format!("{count} {word}{end}")
}

fn rights(rights: Rights) -> &'static str {
    if rights.write { "rw" } else { "r" }
}

fn on_fault(policy: OnFault) -> &'static str {
    match policy {
        OnFault::Stop => "it stops, the others go on",
        OnFault::Restart => "it starts anew",
        OnFault::Halt => "the machine stops",
    }
}
