//! Grants device memory and ports to running processes (`proto::supervisor::Request`). The original capabilities move
//! to the caller's scratch CNode, so that it can revoke the copies that it makes. If the caller asks for a mapping, the
//! original maps the frame, since revoking copies does not unmap that one.

use capdl_spec::spec::{Id, Kind, PageSize, Spec};
use layout::slot;
use proto::supervisor::{Refused, Request};
use root_task::ledger::{Ledger, Verdict};
use root_task::memory::What;
use sel4::{AbsoluteCPtr, cap};

use crate::{
    Why,
    objects::{Objects, own, slot_of},
    spaces,
};

/// The grants so far.
pub struct Grants(Ledger);

impl Grants {
    /// Nothing yet.
    pub fn new(spec: &Spec) -> Self {
        Self(Ledger::new(spec))
    }

    /// Serves one request of the process at this position. A refused request changes nothing, unless memory runs out in
    /// the middle: the frames handed over by then stay granted.
    pub fn serve(
        &mut self,
        objects: &mut Objects,
        spec: &Spec,
        process: usize,
        request: Request,
    ) -> Result<(), Refused> {
        if self.0.judge(process, request)? == Verdict::Granted {
            return Ok(());
        }
        let target = Target::of(objects, spec, process).ok_or(Refused::NoRoom)?;
        match request {
            Request::Ports { first, last, slot } => {
                let slot = target.slots(objects, slot, 1)?;
                sel4::ioport::ioport_issue(first, last, &slot(0)).map_err(|_| Refused::NotThere)?;
            }
            Request::Memory { paddr, pages, bits, slot, map } => {
                let slot = target.slots(objects, slot, pages)?;
                let size = if bits == PageSize::Large.bits() { PageSize::Large } else { PageSize::Small };
                objects.expect_at(paddr, u64::from(pages) << bits, What::Device).map_err(refused)?;
                for n in 0..pages {
                    let offset = u64::from(n) << bits;
                    let map = map.map(|at| at + offset);
                    if let Err(why) = grant_frame(objects, size, paddr + offset, &slot(n), target.vspace, map) {
                        self.0.record_part(process, request, n);
                        return Err(refused(why));
                    }
                }
            }
        }
        self.0.record(process, request);
        Ok(())
    }
}

/// Where a process receives capabilities and mappings.
struct Target {
    scratch: cap::CNode,
    bits: u8,
    vspace: cap::VSpace,
}

impl Target {
    fn of(objects: &Objects, spec: &Spec, process: usize) -> Option<Self> {
        let process = spec.processes.get(process)?;
        let in_scratch = |cnode: Id, at: u32| cnode == process.cspace && at == u32::from(slot::SCRATCH.0);
        let scratch = spec.caps.iter().find(|entry| in_scratch(entry.cnode, entry.slot))?.object;
        match spec.objects.get(scratch.0 as usize)?.kind {
            Kind::CNode { bits } => {
                Some(Self { scratch: objects.cap(scratch), bits, vspace: objects.cap(process.vspace) })
            }
            _ => None,
        }
    }

    /// `count` slots from `first` on, which must exist and be empty.
    fn slots(
        &self,
        objects: &Objects,
        first: u16,
        count: u16,
    ) -> Result<impl Fn(u16) -> AbsoluteCPtr + use<>, Refused> {
        let (scratch, bits) = (self.scratch, self.bits);
        if u32::from(first) + u32::from(count) > 1 << bits {
            return Err(Refused::NoRoom);
        }
        let slot = move |n: u16| slot_of(scratch, bits, u32::from(first) + u32::from(n));
        let empty = (0..count).all(|n| objects.is_empty(&slot(n)));
        empty.then_some(slot).ok_or(Refused::NoRoom)
    }
}

/// Makes a frame of device memory, maps it, and hands it over.
fn grant_frame(
    objects: &mut Objects,
    size: PageSize,
    paddr: u64,
    slot: &AbsoluteCPtr,
    vspace: cap::VSpace,
    map: Option<u64>,
) -> Result<(), Why> {
    let spare = objects.spare();
    objects.retype_at(size, paddr, What::Device, spare..spare + 1)?;
    let mapped = match (map, size) {
        (None, _) => Ok(()),
        (Some(at), PageSize::Small) => {
            spaces::map_registers(cap::Granule::from_bits(spare as u64), objects, vspace, at)
        }
        (Some(at), PageSize::Large) => {
            spaces::map_registers(cap::LargePage::from_bits(spare as u64), objects, vspace, at)
        }
    };
    let handed_over = mapped.and_then(|()| slot.move_from(&own(spare)).map_err(Why::Kernel));
    if handed_over.is_err() {
        // This loses the frame, but the next request needs the slot.
        let _ = own(spare).delete();
    }
    handed_over
}

fn refused(why: Why) -> Refused {
    match why {
        Why::NotThere(..) | Why::BadSpec(_) => Refused::NotThere,
        Why::Kernel(_) | Why::OutOfMemory | Why::OutOfSlots => Refused::NoRoom,
    }
}
