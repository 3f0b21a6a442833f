//! What pci-server may ask root-task for while it runs: the ports and memory that descriptions list. For functions
//! without such a list, the windows are all places where the board's firmware may have put them, but never a port of
//! another process or of root-task.

use crate::{
    compile::{
        part::Part,
        passthrough::{functions, owners},
    },
    description::{board::PortRange, system::System},
    spec::{DeviceRange, DeviceWindow, Kind, Spec},
};

/// The windows of a system whose port objects are all in `spec`. In ascending order, ports first; none touch.
pub(crate) fn windows(system: &System, parts: &[Part], spec: &Spec) -> Vec<DeviceWindow> {
    let Some(process) = parts.iter().position(|part| part.asks_root_task) else { return Vec::new() };
    let ports = joined(ports(system)).into_iter().flat_map(|range| without_owned(range, spec));
    let ports = ports.map(|(first, last)| DeviceRange::Ports { first: first as u16, last: last as u16 });
    let memory = joined(memory(system)).into_iter().map(|(first, last)| DeviceRange::Memory { first, last });
    ports.chain(memory).map(|range| DeviceWindow { process: process as u32, range }).collect()
}

fn ports(system: &System) -> Vec<(u64, u64)> {
    let listed = owners(system).flat_map(|owner| owner.devices.ioports);
    let mut ranges: Vec<_> = listed.map(|ports| wide(ports.get_ref().range())).collect();
    if functions(system).any(|function| function.ports().is_none()) {
        ranges.extend(system.board().pci_ports.iter().map(|range| wide((range.first, range.last))));
    }
    ranges
}

fn wide((first, last): (u16, u16)) -> (u64, u64) {
    (first.into(), last.into())
}

fn memory(system: &System) -> Vec<(u64, u64)> {
    let listed = functions(system).flat_map(|function| function.device.memory.iter().flatten());
    let mut ranges: Vec<_> = listed.map(|memory| memory.get_ref().pages()).collect();
    if functions(system).any(|function| function.device.memory.is_none()) {
        ranges.push(system.board().pci_memory);
        ranges.extend(system.board().pci_memory_high);
    }
    ranges
}

/// Sorts ranges (both ends inclusive) and merges those that overlap or touch.
fn joined(mut ranges: Vec<(u64, u64)>) -> Vec<(u64, u64)> {
    ranges.sort_unstable();
    let mut joined: Vec<(u64, u64)> = Vec::new();
    for (first, last) in ranges {
        match joined.last_mut() {
            Some(before) if first <= before.1.saturating_add(1) => before.1 = before.1.max(last),
            _ => joined.push((first, last)),
        }
    }
    joined
}

/// A range of ports without the ports that have an object.
fn without_owned(range: (u64, u64), spec: &Spec) -> Vec<(u64, u64)> {
    let mut left = vec![range];
    for (first, last) in owned(spec).map(|owned| wide((owned.first, owned.last))) {
        let cut = left.into_iter().flat_map(|(from, to)| {
            let below = (from, to.min(first.saturating_sub(1)));
            let above = (from.max(last + 1), to);
            [(first > 0 && below.0 <= below.1).then_some(below), (above.0 <= above.1).then_some(above)]
        });
        left = cut.flatten().collect();
        left.dedup();
    }
    left
}

/// Ranges of ports that are objects of the specification.
pub(crate) fn owned(spec: &Spec) -> impl Iterator<Item = PortRange> {
    spec.objects.iter().filter_map(|object| match object.kind {
        Kind::IoPorts { first, last } => Some(PortRange { first, last }),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::Object;

    fn owning(ranges: &[(u16, u16)]) -> Spec {
        let object = |&(first, last): &_| Object { name: String::new(), kind: Kind::IoPorts { first, last } };
        Spec { objects: ranges.iter().map(object).collect(), ..Spec::default() }
    }

    #[test]
    fn ranges_that_overlap_or_touch_become_one() {
        assert_eq!(joined(vec![(8, 9), (0, 3), (2, 5), (6, 6)]), [(0, 6), (8, 9)]);
    }

    #[test]
    fn owned_ports_are_cut_out_of_a_window() {
        let cut = |ranges: &[(u16, u16)]| without_owned((10, 19), &owning(ranges));
        assert_eq!(cut(&[]), [(10, 19)]);
        assert_eq!(cut(&[(0, 9), (20, 30)]), [(10, 19)]);
        assert_eq!(cut(&[(12, 13), (19, 25)]), [(10, 11), (14, 18)]);
        assert_eq!(cut(&[(0, 65535)]), []);
    }
}
