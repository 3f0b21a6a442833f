//! Phase 5, check: asks the kernel what is in every slot of every CNode, and compares that with the specification. A
//! debug kernel tells a capability's type; a release kernel only whether there is one.

use alloc::{collections::BTreeMap, format};
use core::fmt;

use capdl_spec::spec::{Id, Kind, Spec};
use sel4::{AbsoluteCPtr, CPtr, cap::cap_type, debug_cap_identify};

use crate::{
    Failure, Why,
    objects::{Objects, own, slot_of},
};

/// What the check has found.
pub struct Report {
    capabilities: usize,
    empty: usize,
    cnodes: usize,
    typed: bool,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { capabilities, empty, cnodes, .. } = self;
        let how = if self.typed { "of the type" } else { "there" };
        write!(
            f,
            "{capabilities} capabilities {how} that the specification says, {empty} slots of {cnodes} CNodes empty"
        )
    }
}

/// Compares all slots with the specification.
pub fn verify(objects: &Objects, spec: &Spec) -> Result<Report, Failure> {
    let probe = objects.spare();
    let typed = debug_cap_identify(CPtr::from_bits(objects.slots(spec.supervisor).start as u64)) != 0;
    let mut report = Report { capabilities: 0, empty: 0, cnodes: 0, typed };
    for (n, object) in spec.objects.iter().enumerate() {
        let Kind::CNode { bits } = object.kind else { continue };
        let cnode = Id(n as u32);
        let expected: BTreeMap<u32, Id> =
            spec.caps.iter().filter(|entry| entry.cnode == cnode).map(|entry| (entry.slot, entry.object)).collect();
        report.cnodes += 1;
        for slot in 0..1 << bits {
            let wrong = |why| Failure { what: format!("{} slot {slot}", object.name), why: Why::BadSpec(why) };
            let expected = expected.get(&slot).copied();
            let slot = slot_of(objects.cap::<cap_type::CNode>(cnode), bits, slot);
            match expected {
                None if !objects.is_empty(&slot) => return Err(wrong("a capability that is not specified")),
                None => report.empty += 1,
                Some(id) => match identify(&slot, probe) {
                    Some(kind) if was_moved(spec, id) || kind == reference(objects, id) => report.capabilities += 1,
                    Some(_) => return Err(wrong("a capability of another type than specified")),
                    None => return Err(wrong("empty, but a capability is specified")),
                },
            }
        }
    }
    Ok(report)
}

/// The kernel's number for the type of the capability in a slot. It moves the capability to root-task's slot `probe`
/// and back, since not all capabilities can be copied, and the kernel identifies only those in the caller's own CSpace.
fn identify(slot: &AbsoluteCPtr, probe: usize) -> Option<u32> {
    own(probe).move_from(slot).ok()?;
    let kind = debug_cap_identify(CPtr::from_bits(probe as u64));
    slot.move_from(&own(probe)).ok()?;
    Some(kind)
}

/// Whether root-task moved its capability away, since it could not copy it, and so has none to compare with.
fn was_moved(spec: &Spec, id: Id) -> bool {
    let kind = spec.objects.get(id.0 as usize).map(|object| &object.kind);
    matches!(kind, Some(Kind::IrqControl | Kind::SparePaging { .. }))
}

/// The kernel's number for the type of root-task's own capability to the object.
fn reference(objects: &Objects, id: Id) -> u32 {
    debug_cap_identify(CPtr::from_bits(objects.slots(id).start as u64))
}
