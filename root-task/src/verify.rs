//! Phase 5, check: asks the kernel what is in every slot of every CNode, and compares with the specification. A debug
//! kernel says of what type a capability is; a release kernel, whether there is one.

use alloc::{collections::BTreeMap, format};
use core::fmt;

use capdl_spec::spec::{Id, Kind, Spec};
use sel4::{AbsoluteCPtr, CPtr, CapRights, cap::cap_type, debug_cap_identify};

use crate::{
    Failure, Why,
    objects::{Objects, own, slot_of},
};

/// What was checked.
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

/// Compares.
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
            if is_irq_control(spec, expected) {
                // Cannot be copied, so it cannot be looked at from here; nobody else can have it.
                report.capabilities += 1;
                continue;
            }
            let slot = slot_of(objects.cap::<cap_type::CNode>(cnode), slot);
            match expected {
                None if !takes_a_copy(&slot, &own(objects.slots(spec.supervisor).start)) => {
                    return Err(wrong("a capability that is not specified"));
                }
                None => report.empty += 1,
                Some(id) => match identify(&slot, probe) {
                    Some(kind) if kind == reference(objects, id) => report.capabilities += 1,
                    Some(_) => return Err(wrong("a capability of another type than specified")),
                    None => return Err(wrong("empty, but a capability is specified")),
                },
            }
        }
    }
    Ok(report)
}

/// Whether a slot is empty: then it takes a capability, which is taken out again. (To copy out of an empty slot would
/// tell as much, but a debug kernel prints every error, and most slots are empty.)
fn takes_a_copy(slot: &AbsoluteCPtr, any: &AbsoluteCPtr) -> bool {
    slot.copy(any, CapRights::none()).and_then(|()| slot.delete()).is_ok()
}

/// The kernel's word for the type of the capability in a slot, by way of a copy in root-task's slot `probe`.
fn identify(slot: &AbsoluteCPtr, probe: usize) -> Option<u32> {
    own(probe).copy(slot, CapRights::all()).ok()?;
    let kind = debug_cap_identify(CPtr::from_bits(probe as u64));
    own(probe).delete().ok()?;
    Some(kind)
}

fn is_irq_control(spec: &Spec, id: Option<Id>) -> bool {
    id.and_then(|id| spec.objects.get(id.0 as usize)).is_some_and(|object| object.kind == Kind::IrqControl)
}

/// The kernel's word for the type of root-task's own capability to the object.
fn reference(objects: &Objects, id: Id) -> u32 {
    debug_cap_identify(CPtr::from_bits(objects.slots(id).start as u64))
}
