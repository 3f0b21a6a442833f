//! Mistakes in the names of `[[policy.never]]`. Whether something flows is found by the audit of the compiled system.

use toml::Spanned;

use super::{Found, names};
use crate::description::{mistake::nearest, system::System};

pub(super) fn policies_name_vms_and_components(found: &mut Found) {
    let system = found.system;
    let known: Vec<&str> = names(system).map(|name| name.get_ref().as_str()).collect();
    for never in &system.policy.never {
        for name in [&never.from, &never.to].into_iter().chain(&never.except_through) {
            if !known.contains(&name.get_ref().as_str()) {
                let (message, remedy) = unknown(system, name.get_ref(), &known);
                found.add(name.span(), message, remedy);
            }
        }
    }
}

fn unknown(system: &System, name: &str, known: &[&str]) -> (String, String) {
    let vm = name.strip_prefix("vmm-").filter(|vm| known.contains(vm));
    if system.servers().any(|server| server.service.server == name) {
        let remedy = "name VMs and components here, and servers in even_if_taken_over";
        return (format!("`{name}` is a server"), remedy.into());
    }
    let remedy = vm.map_or_else(|| nearest(name, known), |vm| format!("did you mean the VM, `{vm}`?"));
    (format!("no VM or component is called `{name}`"), remedy)
}

pub(super) fn policies_are_about_two(found: &mut Found) {
    for never in &found.system.policy.never {
        let (from, to) = (never.from.get_ref(), never.to.get_ref());
        if from == to {
            let message = format!("this policy is about `{from}` alone");
            found.add(never.to.span(), message, "name two that are different in `from` and `to`");
        }
        for name in &never.except_through {
            if [from, to].contains(&name.get_ref()) {
                let message = format!("`{}` is an end of this flow, not in between", name.get_ref());
                found.add(
                    name.span(),
                    message,
                    "leave it out: except_through names others, which pass on what they choose",
                );
            }
        }
    }
}

pub(super) fn policies_distrust_servers_and_drivers(found: &mut Found) {
    let system = found.system;
    let is_driver = |name: &str| {
        let mut drivers = system.components.iter().filter(|one| one.drives.is_some() || one.uplink.is_some());
        drivers.any(|one| one.name.get_ref() == name)
    };
    let servers = system.servers().map(|server| server.service.server);
    let known: Vec<&str> =
        servers.chain(names(system).map(|name| name.get_ref().as_str()).filter(|name| is_driver(name))).collect();
    let all: Vec<&Spanned<String>> = system.policy.never.iter().flat_map(|never| &never.even_if_taken_over).collect();
    for name in all {
        let text = name.get_ref().as_str();
        if known.contains(&text) {
            continue;
        }
        if names(system).any(|known| known.get_ref() == text) {
            let message = format!("`{text}` is not a server or a driver");
            found.add(name.span(), message, "leave it out: what VMs and other components pass on counts anyway");
        } else {
            found.add(name.span(), format!("no server and no driver is called `{text}`"), nearest(text, &known));
        }
    }
}
