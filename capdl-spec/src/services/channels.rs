//! Channels: memory that both ends map, and a signal each way. No server is between them. A guest has the dataports of its
//! channels at their homes, behind its RAM: guest-physical addresses where they are mapped from the start, so that its
//! vmm-server needs no capability to map anything.

use std::collections::BTreeMap;

use layout::{
    config::{Channel as Config, Dataport as DataportConfig},
    event,
    limits::{MAX_CHANNELS, MAX_DATAPORTS, MAX_MODELLED_FUNCTIONS},
    slot, window,
};
use toml::Spanned;

use super::net::{check_member, check_name, role_of};
use crate::{
    checks::found::{Check, Found},
    compile::{
        error::CompileError,
        part::Role,
        wire::{Wiring, bounded, name},
    },
    description::{
        bytes::Bytes,
        channel::{Channel, Dataport},
        mistake::nearest,
        system::System,
    },
    laws::authority::{Badge, Contents, FrameUse, Holding, SHARED, Space, What, Who, Whose, frames, holding},
    spec::{Fill, Id, Rights},
};

const PAGE: u64 = 4096;
/// What the frames with the counters of a channel are called, before its number.
pub(crate) const EVENTS_OF: &str = "channel";
/// What the frames of a dataport are called, before the channel's number and its own, which is one digit.
pub(crate) const DATAPORT_OF: &str = "dataport";
/// The size of a dataport: of a page, to the distance of two windows.
const SIZES: (u64, u64) = (PAGE, window::SHARED_STEP);
/// Homes begin at the next multiple behind a guest's RAM: Linux reserves what is left of the last one itself.
const HOMES: u64 = 64 << 20;
/// Where they end, at the latest: before the APICs and the firmware.
const HOMES_END: u64 = 0xf000_0000;

pub(crate) static HOLDINGS: [Holding; 1] = [holding(
    Who::Anyone,
    (slot::channel(0).0, slot::channel(MAX_CHANNELS).0),
    What::Notification,
    Whose::OtherEnds,
    Rights::WRITE,
    Badge::Bit(event::CHANNEL),
)];

#[rustfmt::skip]
pub(crate) static FRAMES: [FrameUse; 5] = [
    frames(EVENTS_OF, Space::Process, SHARED, Rights::READ_WRITE, Contents::Zeros),
    frames(DATAPORT_OF, Space::Process, SHARED, Rights::READ_WRITE, Contents::Zeros),
    frames(DATAPORT_OF, Space::Process, SHARED, Rights::READ, Contents::Zeros),
    frames(DATAPORT_OF, Space::Guest, (HOMES, HOMES_END), Rights::READ_WRITE, Contents::Zeros),
    frames(DATAPORT_OF, Space::Guest, (HOMES, HOMES_END), Rights::READ, Contents::Zeros),
];

pub(crate) static CHECKS: [Check; 6] = [
    channels_have_names_and_two_ends,
    dataports_have_sizes,
    writers_are_members,
    members_have_room_for_their_channels,
    buses_have_room_for_all_functions,
    guests_have_room_for_their_dataports,
];

/// The channels of a VM or component.
pub(crate) fn of<'a>(system: &'a System, member: &str) -> impl Iterator<Item = &'a Channel> {
    let has = move |name: &Spanned<String>| name.get_ref() == member;
    system.channels.iter().filter(move |channel| channel.members.iter().any(has))
}

/// Whether a process has any channel.
pub(crate) fn connects(system: &System, role: Role) -> bool {
    system
        .channels
        .iter()
        .flat_map(|channel| &channel.members)
        .any(|name| role_of(system, name.get_ref()) == Some(role))
}

impl Channel {
    /// Its dataports.
    fn all(&self) -> Vec<Dataport> {
        match &self.dataports {
            Some(dataports) => dataports.iter().map(|one| one.get_ref().clone()).collect(),
            None => vec![Dataport { size: Bytes(PAGE), writer: None }],
        }
    }
}

impl Dataport {
    /// What a member may do with it.
    fn rights(&self, member: &str) -> Rights {
        let writes = self.writer.as_ref().is_none_or(|writer| writer.get_ref() == member);
        if writes { Rights::READ_WRITE } else { Rights::READ }
    }
}

fn channels_have_names_and_two_ends(found: &mut Found) {
    let channels = &found.system.channels;
    for (n, channel) in channels.iter().enumerate() {
        let name = channel.name.get_ref();
        check_name(found, "channel", &channel.name, channels[..n].iter().map(|other| &other.name));
        for member in &channel.members {
            check_member(found, member.get_ref(), member.span());
        }
        match channel.members.as_slice() {
            [one, other] if one.get_ref() == other.get_ref() => {
                let message = format!("both ends of `{name}` are `{}`", one.get_ref());
                found.add(other.span(), message, "list two VMs or components");
            }
            [_, _] => {}
            members => {
                let message = format!("the number of ends of `{name}` is {}, not 2", members.len());
                let remedy = "list two VMs or components in `members`, and write a [[channel]] for each pair";
                found.add(channel.name.span(), message, remedy);
            }
        }
    }
}

fn dataports_have_sizes(found: &mut Found) {
    for channel in &found.system.channels {
        let dataports = channel.dataports.as_deref().unwrap_or_default();
        if let Some(beyond) = dataports.get(MAX_DATAPORTS) {
            let message = format!("`{}` has more than {MAX_DATAPORTS} dataports", channel.name.get_ref());
            found.add(beyond.span(), message, "write a second [[channel]] for the others");
        }
        for dataport in dataports {
            let size = dataport.get_ref().size;
            let (least, most) = (Bytes(SIZES.0), Bytes(SIZES.1));
            if !size.0.is_power_of_two() || size.0 < least.0 || size.0 > most.0 {
                let fits = Bytes(size.0.clamp(least.0, most.0).checked_next_power_of_two().unwrap_or(most.0));
                let message = format!("a dataport cannot have {size}: its size is a power of two, {least} to {most}");
                found.add(dataport.span(), message, format!("write \"{fits}\""));
            }
        }
    }
}

fn writers_are_members(found: &mut Found) {
    for channel in &found.system.channels {
        let members: Vec<&str> = channel.members.iter().map(|member| member.get_ref().as_str()).collect();
        let dataports = channel.dataports.as_deref().unwrap_or_default();
        for writer in dataports.iter().filter_map(|one| one.get_ref().writer.as_ref()) {
            let name = writer.get_ref();
            if !members.contains(&name.as_str()) {
                let message = format!("`{name}` is no member of `{}`", channel.name.get_ref());
                found.add(writer.span(), message, nearest(name, &members));
            }
        }
    }
}

fn members_have_room_for_their_channels(found: &mut Found) {
    let system = found.system;
    let names = system.vms.iter().map(|vm| &vm.name).chain(system.components.iter().map(|component| &component.name));
    for member in names {
        if let Some(channel) = of(system, member.get_ref()).nth(MAX_CHANNELS) {
            let message = format!("`{}` is an end of more than {MAX_CHANNELS} channels", member.get_ref());
            found.add(channel.name.span(), message, format!("a VM or component has {MAX_CHANNELS} at most"));
        }
    }
}

/// Of all kinds: without channels, no VM can have too many.
fn buses_have_room_for_all_functions(found: &mut Found) {
    let system = found.system;
    for vm in &system.vms {
        let name = vm.name.get_ref();
        let channels: Vec<_> = of(system, name).collect();
        let pipes = system.pipes.iter().any(|pipe| pipe.members.iter().any(|member| member.get_ref() == name));
        let of_networks = system.networks.iter().flat_map(|network| &network.members);
        let networks = of_networks.filter(|member| member.get_ref().name == *name).count();
        let of_vsocks = system.vsocks.iter().flat_map(|vsock| &vsock.members);
        let vsocks = of_vsocks.filter(|member| member.get_ref().name == *name).count();
        let others = usize::from(vm.rng) + usize::from(vm.hvc || pipes) + networks + vsocks + vm.disks.len();
        let room = MAX_MODELLED_FUNCTIONS.saturating_sub(others);
        if let Some(channel) = channels.get(room) {
            let message = format!("the bus of `{name}` has no place for a further function: it has {others} devices");
            let remedy = format!("a VM has {MAX_MODELLED_FUNCTIONS} devices and channels at most");
            found.add(channel.name.span(), message, remedy);
        }
    }
}

fn guests_have_room_for_their_dataports(found: &mut Found) {
    let system = found.system;
    for (number, vm) in system.vms.iter().enumerate() {
        let end = homes(system, number).last().map_or(0, |&(at, size)| at.saturating_add(size));
        // The functions of the machine are where its firmware has put them.
        let most = if vm.devices().any() { system.board().pci_memory.0 } else { HOMES_END };
        if end > most {
            let message = format!("the dataports of `{}`, behind its memory, would end at {end:#x}", vm.name.get_ref());
            let remedy = format!("less memory lets them end below {most:#x}, where its PCI functions begin");
            found.add(vm.memory.span(), message, remedy);
        }
    }
}

/// The homes of a VM's dataports, channel by channel, with their sizes.
fn homes(system: &System, vm: usize) -> Vec<(u64, u64)> {
    let Some(described) = system.vms.get(vm) else { return Vec::new() };
    let ram = system.ram_at(vm).saturating_add(described.memory.get_ref().0);
    places(ram, of(system, described.name.get_ref()).flat_map(Channel::all).map(|dataport| dataport.size.0))
}

/// Where dataports of these sizes are, with their sizes, if the RAM ends at `ram`: one behind the other, each at a multiple of
/// its size, as a base address register has it.
pub(crate) fn places(ram: u64, sizes: impl Iterator<Item = u64>) -> Vec<(u64, u64)> {
    let mut next = ram.checked_next_multiple_of(HOMES).unwrap_or(u64::MAX);
    let place = |size: u64| {
        let at = next.checked_next_multiple_of(size.max(1)).unwrap_or(u64::MAX);
        next = at.saturating_add(size);
        (at, size)
    };
    sizes.map(place).collect()
}

/// An end of a channel: what its process reads of it, and what its guest maps.
pub(crate) struct End {
    pub config: Config,
    /// Frames, guest-physical addresses and rights.
    pub homes: Vec<(Id, u64, Rights)>,
}

/// Memory and signals of all channels; returns each process's ends.
pub(crate) fn configure(wiring: &mut Wiring) -> Result<BTreeMap<usize, Vec<End>>, CompileError> {
    let system = wiring.system;
    let mut all: BTreeMap<usize, Vec<End>> = BTreeMap::new();
    let mut homes: BTreeMap<usize, std::vec::IntoIter<(u64, u64)>> =
        (0..system.vms.len()).map(|vm| (vm, self::homes(system, vm).into_iter())).collect();
    for (number, channel) in system.channels.iter().enumerate() {
        let names: Vec<&str> = channel.members.iter().map(|member| member.get_ref().as_str()).collect();
        let unwired = || CompileError::unwired("end", channel.name.get_ref());
        let &[first, second] = names.as_slice() else { return Err(unwired()) };
        let end = |wiring: &Wiring, name: &str| {
            let role = role_of(system, name).ok_or_else(unwired)?;
            Ok::<_, CompileError>((name.to_owned(), role, wiring.process(role)?))
        };
        let ends = [end(wiring, first)?, end(wiring, second)?];
        let processes = [ends[0].2, ends[1].2];
        let shared = processes.map(|process| wiring.domain(process).map(|domain| domain.name.clone()));
        let [a, b] = shared;
        let owners = format!("{}+{}", a?, b?);
        let pages = processes.map(|process| wiring.build.window(process, PAGE));
        let [one, other] = [0, 1].map(|n| (processes[n], pages[n]));
        wiring.build.share(&format!("{EVENTS_OF}{number}"), one, other);
        let numbers = processes.map(|process| all.get(&process).map_or(0, Vec::len));
        if numbers.into_iter().any(|n| n >= MAX_CHANNELS) {
            return Err(CompileError::TooMany("channels of a process"));
        }
        for (from, to) in [(0, 1), (1, 0)] {
            wiring.doorbell(processes[from], slot::channel(numbers[from]), processes[to], event::CHANNEL)?;
        }
        let mut made = Vec::new();
        for (n, dataport) in channel.all().into_iter().enumerate() {
            let name = format!("{owners}.{DATAPORT_OF}{number}{n}");
            made.push((wiring.build.frames(name, dataport.size.0, Fill::Zero), dataport));
        }
        for ((end, (member, role, process)), page) in ends.into_iter().enumerate().zip(pages) {
            let vspace = wiring.domain(process)?.vspace;
            let (mut dataports, mut mapped) = (Vec::new(), Vec::new());
            for (frames, dataport) in &made {
                let rights = dataport.rights(&member);
                let window = wiring.build.window(process, dataport.size.0);
                wiring.build.map(vspace, *frames, window.at, rights);
                let home = match role {
                    Role::Vmm(vm) => homes.get_mut(&vm).and_then(Iterator::next).map(|(at, _)| at),
                    _ => None,
                };
                mapped.extend(home.map(|at| (*frames, at, rights)));
                dataports.push(DataportConfig { window, gpa: home, writable: rights.write });
            }
            let dataports = bounded(dataports, "dataports of a channel")?;
            let config = Config { name: name(channel.name.get_ref())?, events: page, first: end == 0, dataports };
            all.entry(process).or_default().push(End { config, homes: mapped });
        }
    }
    Ok(all)
}
