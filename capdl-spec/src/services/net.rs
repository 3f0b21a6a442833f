//! net-server: the rings of all ports, their doorbells, and the addresses that each may send from. Systems without a network
//! do not have it.

pub(crate) mod sockets;

use std::{collections::BTreeMap, ops::Range};

use layout::{
    Slot,
    config::Nic,
    event,
    limits::{MAX_NICS, MAX_SWITCH_PORTS},
    slot,
};
use proto::{
    net::{Config, Mac, Port, SERVICE},
    timer,
};
use toml::Spanned;

use super::{Look, Server};
use crate::{
    checks::found::{Check, Found},
    compile::{
        error::CompileError,
        part::Role,
        wire::{Wiring, bounded, encode, name},
    },
    description::{
        devices::Access,
        mistake::nearest,
        network::{Network, derived},
        system::{Component, System},
    },
    laws::authority::{Badge, FrameUse, Holding, RINGS as RING_BITS, What, Who, Whose, at, holding, shared, signals},
    spec::Rights,
};

/// With which net-server signals itself: no port has this bit.
const AGAIN: u64 = event::ring(MAX_SWITCH_PORTS);
/// The badges of the ports' clients.
pub(crate) const DOORBELLS: u64 = AGAIN - 1;
/// Bytes of a ring: of its data 512 KiB, which is more than what TCP has under way to a guest of 64 MiB.
const RING_BYTES: u64 = 4096 + (512 << 10);
/// The names of the rings of a VM's network devices: to net-server, and from it.
const RINGS: [[&str; 2]; MAX_NICS] =
    [["net0-out", "net0-in"], ["net1-out", "net1-in"], ["net2-out", "net2-in"], ["net3-out", "net3-in"]];

pub(super) static SERVER: Server = Server {
    is_wanted: |system| !system.networks.is_empty() || !system.vsocks.is_empty(),
    calls: |_| vec![timer::SERVICE],
    signals_clients: true,
    is_signalled: |_| true,
    checks: &CHECKS,
    holdings: &HOLDINGS,
    frames: &FRAMES,
    event: |badge| match badge {
        AGAIN => Some("the rest of its work".into()),
        _ => (badge & RING_BITS != 0).then(|| format!("port {}", badge.trailing_zeros())),
    },
    ..Server::new(SERVICE, 180, configure, Look::new("#a16207", "#fdf6e3"))
};

static HOLDINGS: [Holding; 4] = [
    holding(
        Who::Anyone,
        (slot::nic(0).0, slot::nic(MAX_NICS).0),
        What::Notification,
        Whose::Called(SERVICE),
        Rights::WRITE,
        Badge::Bit(DOORBELLS),
    ),
    holding(
        Who::Anyone,
        at(slot::VSOCK),
        What::Notification,
        Whose::Called(SERVICE),
        Rights::WRITE,
        Badge::Bit(DOORBELLS),
    ),
    signals(SERVICE, Whose::Callers, event::NETWORK),
    signals(SERVICE, Whose::Own, AGAIN),
];

static FRAMES: [FrameUse; 2 * MAX_NICS + 2] = {
    let [[a, b], [c, d], [e, f], [g, h]] = RINGS;
    let [out, into] = sockets::RINGS;
    [shared(a), shared(b), shared(c), shared(d), shared(e), shared(f), shared(g), shared(h), shared(out), shared(into)]
};

static CHECKS: [Check; 13] = {
    let [a, b, c, d, e] = sockets::CHECKS;
    let [f, g, h, i, j, k, l, m] = OF_NETWORKS;
    [f, g, h, i, j, k, l, m, a, b, c, d, e]
};

const OF_NETWORKS: [Check; 8] = [
    networks_have_names,
    members_are_vms_or_components,
    members_are_listed_once,
    addresses_differ,
    members_have_room_for_their_networks,
    ports_are_not_too_many,
    uplinks_are_of_networks,
    uplinks_have_a_card,
];

/// A port of a switch, and who is connected to it.
pub(super) struct Attached<'a> {
    network: usize,
    /// The name of a VM, or of the component that is the network's uplink.
    name: &'a str,
    role: Option<Role>,
    mac: Mac,
    bridge: bool,
    /// Where the description says so.
    span: Range<usize>,
}

/// All ports, network by network: those of its members, then those of its uplinks.
fn ports(system: &System) -> impl Iterator<Item = Attached<'_>> {
    system.networks.iter().enumerate().flat_map(move |(network, described)| {
        let members = described.members.iter().map(move |entry| {
            let member = entry.get_ref();
            let (role, mac) = (role_of(system, &member.name), member.mac(described.name.get_ref()));
            Attached { network, name: &member.name, role, mac, bridge: member.bridge, span: entry.span() }
        });
        let uplinks = uplinks(system).filter(|(.., uplink)| uplink.get_ref() == described.name.get_ref());
        members.chain(uplinks.map(move |(number, component, uplink)| {
            let name = component.name.get_ref();
            // No frame has it: an uplink is a bridge to whatever is outside.
            let mac = derived(described.name.get_ref(), name);
            Attached { network, name, role: Some(Role::Component(number)), mac, bridge: true, span: uplink.span() }
        }))
    })
}

/// The components that are uplinks, with their numbers, and the networks' names.
fn uplinks(system: &System) -> impl Iterator<Item = (usize, &Component, &Spanned<String>)> {
    let components = system.components.iter().enumerate();
    components.filter_map(|(number, component)| Some((number, component, component.uplink.as_ref()?)))
}

/// The network devices of a process, in their order.
pub(super) fn nics(system: &System, role: Role) -> impl Iterator<Item = Attached<'_>> {
    ports(system).filter(move |port| port.role == Some(role))
}

/// Whether a process is connected to any network.
pub(crate) fn connects(system: &System, role: Role) -> bool {
    nics(system, role).next().is_some() || sockets::member(system, role).is_some()
}

/// The rings of a process's network devices, as the process has them.
pub(super) fn rings(wiring: &Wiring, process: usize, role: Role) -> Result<Vec<Nic>, CompileError> {
    let rings = nics(wiring.system, role).zip(RINGS).map(|(port, [output, input])| {
        let (output, input) = (wiring.window(process, output)?, wiring.window(process, input)?);
        Ok(Nic { mac: port.mac.0, output, input })
    });
    rings.collect()
}

fn networks_have_names(found: &mut Found) {
    let networks = &found.system.networks;
    for (n, Network { name, members }) in networks.iter().enumerate() {
        let text = name.get_ref();
        check_name(found, "network", name, networks[..n].iter().map(|other| &other.name));
        let uplinks = uplinks(found.system).filter(|(.., uplink)| uplink.get_ref() == text).count();
        if members.is_empty() || members.len() + uplinks < 2 {
            let message = format!("the network `{text}` connects nobody: it has {} members", members.len());
            let message = if members.len() == 1 { message.replace("members", "member") } else { message };
            found.add(
                name.span(),
                message,
                "list at least two VMs or components in `members`, or one where there is an uplink",
            );
        }
    }
}

/// Checks the name of a network, or of something else that connects, which comes after others.
pub(super) fn check_name<'a>(
    found: &mut Found,
    what: &str,
    name: &Spanned<String>,
    mut others: impl Iterator<Item = &'a Spanned<String>>,
) {
    let text = name.get_ref();
    let letters = text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    if !letters || !text.starts_with(|c: char| c.is_ascii_lowercase()) || text.len() > 16 {
        let remedy = format!("a {what}'s name is 1 to 16 of a-z, 0-9 and -, and starts with a letter");
        found.add(name.span(), format!("`{text}` is not a name"), remedy);
    }
    if others.any(|other| other.get_ref() == text) {
        found.add(name.span(), format!("there are two {what}s of the name `{text}`"), "choose another name");
    }
}

fn members_are_vms_or_components(found: &mut Found) {
    let system = found.system;
    for network in &system.networks {
        for member in &network.members {
            let (name, network) = (&member.get_ref().name, network.name.get_ref());
            check_member(found, name, member.span());
            if uplinks(system)
                .any(|(_, component, uplink)| component.name.get_ref() == name && uplink.get_ref() == network)
            {
                let message = format!("`{name}` is the uplink of `{network}`, and so a member");
                found.add(member.span(), message, "leave it out here");
            }
        }
    }
}

/// Checks that there is a VM or component of the name that a network lists.
pub(super) fn check_member(found: &mut Found, name: &str, span: Range<usize>) {
    if role_of(found.system, name).is_none() {
        let vms = found.system.vms.iter().map(|vm| &vm.name);
        let names = vms.chain(found.system.components.iter().map(|component| &component.name));
        let known: Vec<&str> = names.map(|name| name.get_ref().as_str()).collect();
        found.add(span, format!("no VM or component is called `{name}`"), nearest(name, &known));
    }
}

/// The VM or component of this name.
pub(super) fn role_of(system: &System, name: &str) -> Option<Role> {
    let vm = system.vms.iter().position(|vm| vm.name.get_ref() == name).map(Role::Vmm);
    let component = || system.components.iter().position(|component| component.name.get_ref() == name);
    vm.or_else(|| component().map(Role::Component))
}

fn members_are_listed_once(found: &mut Found) {
    for network in &found.system.networks {
        for (n, member) in network.members.iter().enumerate() {
            let name = &member.get_ref().name;
            if network.members[..n].iter().any(|other| other.get_ref().name == *name) {
                let message = format!("`{name}` is listed twice in the network `{}`", network.name.get_ref());
                found.add(member.span(), message, "list each VM once");
            }
        }
    }
}

fn addresses_differ(found: &mut Found) {
    let ports: Vec<Attached> = ports(found.system).collect();
    for (n, port) in ports.iter().enumerate() {
        let twin =
            |other: &&Attached| other.network == port.network && other.mac == port.mac && other.name != port.name;
        if let Some(other) = ports[..n].iter().find(twin) {
            let message = format!("{} is the address of `{}` already", port.mac, other.name);
            found.add(port.span.clone(), message, "give it another `mac`");
        }
    }
}

fn members_have_room_for_their_networks(found: &mut Found) {
    let system = found.system;
    let vms = (0..system.vms.len()).map(Role::Vmm);
    for role in vms.chain((0..system.components.len()).map(Role::Component)) {
        if let Some(port) = nics(system, role).nth(MAX_NICS) {
            let message = format!("`{}` is in more than {MAX_NICS} networks", port.name);
            found.add(port.span, message, format!("nobody has more than {MAX_NICS} network devices"));
        }
    }
}

fn ports_are_not_too_many(found: &mut Found) {
    let spans = ports(found.system).map(|port| port.span);
    let spans: Vec<_> = spans.chain(sockets::members(found.system).map(|member| member.span())).collect();
    if let Some(span) = spans.get(MAX_SWITCH_PORTS) {
        let message = format!("the networks have {} members, too many", spans.len());
        found.add(span.clone(), message, format!("net-server has {MAX_SWITCH_PORTS} ports"));
    }
}

fn uplinks_are_of_networks(found: &mut Found) {
    let system = found.system;
    let known: Vec<&str> = system.networks.iter().map(|network| network.name.get_ref().as_str()).collect();
    let mut taken: Vec<(&str, &str)> = Vec::new();
    for (_, component, uplink) in uplinks(system) {
        let (name, network) = (component.name.get_ref(), uplink.get_ref().as_str());
        if !known.contains(&network) {
            let remedy = match known.is_empty() {
                true => format!("add a [[network]] with name = \"{network}\""),
                false => nearest(network, &known),
            };
            found.add(uplink.span(), format!("no network is called `{network}`"), remedy);
        } else if let Some((_, other)) = taken.iter().find(|(taken, _)| *taken == network) {
            // Two ways to the same outside would send each other's frames in a circle.
            let message = format!("`{other}` is the uplink of `{network}` already");
            found.add(uplink.span(), message, "each network has one uplink: leave this one out");
        }
        taken.push((network, name));
    }
}

fn uplinks_have_a_card(found: &mut Found) {
    let example = "pci_devices = [{ address = \"00:03.0\", access = \"mediated\", dma = \"trusted\" }]";
    for (_, component, uplink) in uplinks(found.system) {
        let name = component.name.get_ref();
        match component.pci_devices.first() {
            None => {
                let message = format!("`{name}` has no card to be the uplink with");
                found.add(uplink.span(), message, format!("list it, for example {example}"));
            }
            Some(card) if card.get_ref().access == Access::Direct => {
                let message = format!("`{name}` cannot reach the registers of its card");
                found.add(card.span(), message, "add access = \"mediated\": pci-server passes each access on");
            }
            Some(_) => {}
        }
    }
}

fn configure(wiring: &mut Wiring) -> Result<Vec<u8>, CompileError> {
    let (server, system) = (wiring.server(SERVICE)?, wiring.system);
    let mut signals = Signals::new();
    let mut nics = BTreeMap::new();
    let mut described = Vec::new();
    for (number, Attached { network, name: who, role, mac, bridge, .. }) in ports(system).enumerate() {
        let process = wiring.process(role.ok_or_else(|| CompileError::unwired("VM", who))?)?;
        let nic = nics.entry(process).or_insert(0);
        let signal = signal(wiring, &mut signals, server, process)?;
        let [output, input] = RINGS.get(*nic).ok_or(CompileError::TooMany("network devices of a VM"))?;
        wiring.doorbell(process, slot::nic(*nic), server, event::ring(number))?;
        *nic += 1;
        described.push(Port {
            name: name(&format!("{}.{who}", system.networks[network].name.get_ref()))?,
            network: network as u8,
            mac,
            bridge,
            input: wiring.share(output, process, server, RING_BYTES),
            output: wiring.share(input, process, server, RING_BYTES),
            signal,
        });
    }
    let sockets = sockets::configure(wiring, &mut signals, described.len())?;
    let again = wiring.signal(server, server, AGAIN)?;
    let (ports, sockets) = (bounded(described, "ports of net-server")?, bounded(sockets, "sockets of net-server")?);
    encode(&Config { ports, sockets, again })
}

/// net-server's signals, by the processes that it signals: one for all of a process's rings.
type Signals = BTreeMap<usize, Slot>;

fn signal(wiring: &mut Wiring, signals: &mut Signals, server: usize, process: usize) -> Result<Slot, CompileError> {
    if let Some(signal) = signals.get(&process) {
        return Ok(*signal);
    }
    let signal = wiring.signal(server, process, event::NETWORK)?;
    signals.insert(process, signal);
    Ok(signal)
}
