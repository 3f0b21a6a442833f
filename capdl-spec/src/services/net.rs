//! net-server: the rings of all ports, their doorbells, and the addresses that each may send from. Systems without a network
//! do not have it.

use std::collections::BTreeMap;

use layout::{
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
        mistake::nearest,
        network::{Member, Network},
        system::System,
    },
    laws::authority::{Badge, FrameUse, Holding, RINGS as RING_BITS, What, Who, Whose, holding, shared, signals},
    spec::Rights,
};

/// With which net-server signals itself: no port has this bit.
const AGAIN: u64 = event::ring(MAX_SWITCH_PORTS);
/// Bytes of a ring: of its data 512 KiB, which is more than what TCP has under way to a guest of 64 MiB.
const RING_BYTES: u64 = 4096 + (512 << 10);
/// The names of the rings of a VM's network devices: to net-server, and from it.
pub(crate) const RINGS: [[&str; 2]; MAX_NICS] =
    [["net0-out", "net0-in"], ["net1-out", "net1-in"], ["net2-out", "net2-in"], ["net3-out", "net3-in"]];

pub(super) static SERVER: Server = Server {
    is_wanted: |system| !system.networks.is_empty(),
    calls: |_| vec![timer::SERVICE],
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

static HOLDINGS: [Holding; 3] = [
    holding(
        Who::Vmm,
        (slot::nic(0).0, slot::nic(MAX_NICS).0),
        What::Notification,
        Whose::Server(SERVICE),
        Rights::WRITE,
        Badge::Bit(RING_BITS),
    ),
    signals(SERVICE, Whose::Vmms, event::NETWORK),
    signals(SERVICE, Whose::Own, RING_BITS),
];

static FRAMES: [FrameUse; 2 * MAX_NICS] = {
    let [[a, b], [c, d], [e, f], [g, h]] = RINGS;
    [shared(a), shared(b), shared(c), shared(d), shared(e), shared(f), shared(g), shared(h)]
};

static CHECKS: [Check; 6] = [
    networks_have_names,
    members_are_vms,
    members_are_listed_once,
    addresses_differ,
    vms_have_room_for_their_networks,
    ports_are_not_too_many,
];

/// A VM's network device, which is a port of a switch.
pub(crate) struct Attached<'a> {
    network: usize,
    member: &'a Spanned<Member>,
    pub mac: Mac,
}

/// All ports, network by network.
fn ports(system: &System) -> impl Iterator<Item = Attached<'_>> {
    system.networks.iter().enumerate().flat_map(|(network, described)| {
        let port = move |member: &'_ Spanned<Member>| member.get_ref().mac(described.name.get_ref());
        described.members.iter().map(move |member| Attached { network, member, mac: port(member) })
    })
}

/// The network devices of VM number `vm`, in their order.
pub(crate) fn nics(system: &System, vm: usize) -> impl Iterator<Item = Attached<'_>> {
    let name = system.vms.get(vm).map(|vm| vm.name.get_ref());
    ports(system).filter(move |port| Some(&port.member.get_ref().name) == name)
}

/// The position of the VM that is a member.
fn vm_of(system: &System, member: &Member) -> Option<usize> {
    system.vms.iter().position(|vm| *vm.name.get_ref() == member.name)
}

fn networks_have_names(found: &mut Found) {
    let networks = &found.system.networks;
    for (n, Network { name, members }) in networks.iter().enumerate() {
        let text = name.get_ref();
        let letters = text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        if !letters || !text.starts_with(|c: char| c.is_ascii_lowercase()) || text.len() > 16 {
            let remedy = "a network's name is 1 to 16 of a-z, 0-9 and -, and starts with a letter";
            found.add(name.span(), format!("`{text}` is not a name"), remedy);
        }
        if networks[..n].iter().any(|other| other.name.get_ref() == text) {
            found.add(name.span(), format!("there are two networks of the name `{text}`"), "choose another name");
        }
        if members.len() < 2 {
            let message = format!("the network `{text}` connects nobody: it has {} members", members.len());
            let message = if members.len() == 1 { message.replace("members", "member") } else { message };
            found.add(name.span(), message, "list at least two VMs in `members`");
        }
    }
}

fn members_are_vms(found: &mut Found) {
    let system = found.system;
    let vms: Vec<&str> = system.vms.iter().map(|vm| vm.name.get_ref().as_str()).collect();
    for member in system.networks.iter().flat_map(|network| &network.members) {
        let name = &member.get_ref().name;
        if vms.contains(&name.as_str()) {
            continue;
        }
        if system.components.iter().any(|component| component.name.get_ref() == name) {
            let message = format!("`{name}` is a component, and a network connects VMs");
            found.add(member.span(), message, "leave it out");
        } else {
            found.add(member.span(), format!("no VM is called `{name}`"), nearest(name, &vms));
        }
    }
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
        let twin = |other: &&Attached| {
            let (one, two) = (&port.member.get_ref().name, &other.member.get_ref().name);
            other.network == port.network && other.mac == port.mac && one != two
        };
        if let Some(other) = ports[..n].iter().find(twin) {
            let message = format!("{} is the address of `{}` already", port.mac, other.member.get_ref().name);
            found.add(port.member.span(), message, "give it another `mac`");
        }
    }
}

fn vms_have_room_for_their_networks(found: &mut Found) {
    for vm in 0..found.system.vms.len() {
        if let Some(port) = nics(found.system, vm).nth(MAX_NICS) {
            let message = format!("`{}` is in more than {MAX_NICS} networks", port.member.get_ref().name);
            found.add(port.member.span(), message, format!("a VM has {MAX_NICS} network devices at most"));
        }
    }
}

fn ports_are_not_too_many(found: &mut Found) {
    if let Some(port) = ports(found.system).nth(MAX_SWITCH_PORTS) {
        let message = format!("the networks have {} members, too many", ports(found.system).count());
        found.add(port.member.span(), message, format!("net-server has {MAX_SWITCH_PORTS} ports"));
    }
}

fn configure(wiring: &mut Wiring) -> Result<Vec<u8>, CompileError> {
    let (server, system) = (wiring.server(SERVICE)?, wiring.system);
    let mut nics = vec![0; system.vms.len()];
    // A VM in several networks has one signal for all of them.
    let mut signals = BTreeMap::new();
    let mut described = Vec::new();
    for (number, Attached { network, member, mac }) in ports(system).enumerate() {
        let member = member.get_ref();
        let vm = vm_of(system, member).ok_or_else(|| CompileError::unwired("VM", &member.name))?;
        let (process, nic) = (wiring.process(Role::Vmm(vm))?, nics[vm]);
        nics[vm] += 1;
        let signal = match signals.get(&vm) {
            Some(signal) => *signal,
            None => wiring.signal(server, process, event::NETWORK)?,
        };
        signals.insert(vm, signal);
        let [output, input] = RINGS.get(nic).ok_or(CompileError::TooMany("network devices of a VM"))?;
        wiring.doorbell(process, slot::nic(nic), server, event::ring(number))?;
        described.push(Port {
            name: name(&format!("{}.{}", system.networks[network].name.get_ref(), member.name))?,
            network: network as u8,
            client: wiring.client(SERVICE, process)? as u8,
            mac,
            bridge: member.bridge,
            input: wiring.share(output, process, server, RING_BYTES),
            output: wiring.share(input, process, server, RING_BYTES),
            signal,
        });
    }
    let again = wiring.signal(server, server, AGAIN)?;
    encode(&Config { ports: bounded(described, "ports of net-server")?, again })
}
