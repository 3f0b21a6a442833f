//! net-server's networks of sockets: who is connected, and the checks of descriptions.

use layout::{event, limits::MAX_SWITCH_PORTS, slot};
use proto::{
    net::SERVICE,
    vsock::{FIRST_CID, LAST_CID, Port},
};
use toml::Spanned;

use super::{RING_BYTES, Signals};
use crate::{
    checks::found::{Check, Found},
    compile::{
        error::CompileError,
        part::Role,
        wire::{Wiring, name},
    },
    description::{system::System, vsock::VsockMember},
};

/// The names of the rings of a member: to net-server, and from it.
pub(crate) const RINGS: [&str; 2] = ["vsock-out", "vsock-in"];

pub(super) const CHECKS: [Check; 5] = [
    networks_have_names,
    members_are_vms_or_components,
    members_are_in_one_network_once,
    addresses_are_for_members,
    addresses_differ,
];

/// A member.
pub(crate) struct Member<'a> {
    network: usize,
    described: &'a Spanned<VsockMember>,
    pub cid: u32,
}

impl Member<'_> {
    /// Where the description lists it.
    pub fn span(&self) -> core::ops::Range<usize> {
        self.described.span()
    }
}

/// All members, network by network.
pub(super) fn members(system: &System) -> impl Iterator<Item = Member<'_>> {
    system
        .vsocks
        .iter()
        .enumerate()
        .flat_map(|(network, vsock)| vsock.addressed().map(move |(described, cid)| Member { network, described, cid }))
}

/// The member that a VM or a component is, if it is one.
pub(crate) fn member(system: &System, role: Role) -> Option<Member<'_>> {
    let name = match role {
        Role::Server(_) => return None,
        Role::Vmm(vm) => &system.vms.get(vm)?.name,
        Role::Component(number) => &system.components.get(number)?.name,
    };
    members(system).find(|member| member.described.get_ref().name == *name.get_ref())
}

fn networks_have_names(found: &mut Found) {
    let networks = &found.system.vsocks;
    for (n, vsock) in networks.iter().enumerate() {
        super::check_name(found, "network", &vsock.name, networks[..n].iter().map(|other| &other.name));
        if vsock.members.len() < 2 {
            let message = format!("`{}` connects nobody", vsock.name.get_ref());
            found.add(vsock.name.span(), message, "list at least two VMs or components in `members`");
        }
    }
}

fn members_are_vms_or_components(found: &mut Found) {
    for member in members(found.system) {
        super::check_member(found, &member.described.get_ref().name, member.span());
    }
}

/// Linux has one socket device, and so has everybody else.
fn members_are_in_one_network_once(found: &mut Found) {
    let all: Vec<Member> = members(found.system).collect();
    for (n, member) in all.iter().enumerate() {
        let name = &member.described.get_ref().name;
        if let Some(other) = all[..n].iter().find(|other| other.described.get_ref().name == *name) {
            let message =
                format!("`{name}` is a member of `{}` already", found.system.vsocks[other.network].name.get_ref());
            found.add(member.span(), message, "list it once: it has one socket device");
        }
    }
}

fn addresses_are_for_members(found: &mut Found) {
    for member in members(found.system).filter(|member| !(FIRST_CID..=LAST_CID).contains(&member.cid)) {
        let message = format!("{} is nobody's address: it has a meaning of its own", member.cid);
        found.add(member.span(), message, format!("write a `cid` from {FIRST_CID} to {LAST_CID}"));
    }
}

fn addresses_differ(found: &mut Found) {
    let all: Vec<Member> = members(found.system).collect();
    for (n, member) in all.iter().enumerate() {
        let twin = |other: &&Member| other.network == member.network && other.cid == member.cid;
        if let Some(other) = all[..n].iter().find(twin) {
            let message = format!("{} is the address of `{}` already", member.cid, other.described.get_ref().name);
            let remedy =
                format!("give one of them another `cid`; without it, the first member has {FIRST_CID}, and so on");
            found.add(member.span(), message, remedy);
        }
    }
}

/// The members' rings and doorbells; `first` is the doorbell's number of the first.
pub(super) fn configure(wiring: &mut Wiring, signals: &mut Signals, first: usize) -> Result<Vec<Port>, CompileError> {
    let (server, system) = (wiring.server(SERVICE)?, wiring.system);
    let mut ports = Vec::new();
    for (number, Member { network, described, cid }) in members(system).enumerate() {
        let described = described.get_ref();
        let role = super::role_of(system, &described.name);
        let process = wiring.process(role.ok_or_else(|| CompileError::unwired("member", &described.name))?)?;
        wiring.doorbell(process, slot::VSOCK, server, event::ring(first + number))?;
        let signal = super::signal(wiring, signals, server, process)?;
        let [output, input] = RINGS;
        ports.push(Port {
            name: name(&format!("{}.{}", system.vsocks[network].name.get_ref(), described.name))?,
            network: network as u8,
            cid,
            input: wiring.share(output, process, server, RING_BYTES),
            output: wiring.share(input, process, server, RING_BYTES),
            signal,
        });
    }
    Ok(ports)
}

const _: () = assert!(MAX_SWITCH_PORTS <= u8::MAX as usize, "members have numbers of a byte");
