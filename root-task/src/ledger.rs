//! Records which device memory and ports processes may have while the system runs, and which they have already. A
//! process may ask for ranges in its windows of the specification. Nothing is granted twice, except that a process may
//! repeat a request, as it does after a restart. `memory` knows from the kernel's untypeds whether there is RAM or a
//! device at an address.
//!
//! A process that may ask may be hostile. A limit on the requests that are tried bounds what they leave behind in
//! root-task's memory and capability space.

use alloc::{collections::BTreeMap, vec::Vec};

use capdl_spec::spec::{DeviceRange, DeviceWindow, Kind, Spec};
use layout::window;
use proto::supervisor::{Refused, Request};

/// Most frames of one request.
const MOST_PAGES: u16 = 512;
/// Most requests of one process that are tried, whether they succeed or not; a repeated one is not tried again. pci-server
/// has 16 functions of 6 registers and 16 ranges of ports without one. A register of memory takes one request for its
/// first page and one for each 512 others, of which the 1024 slots of a scratch CNode leave two: 16 + 16 * 6 * 2 + 2.
pub const MOST_TRIED: u16 = 256;

/// See the head of this file.
pub struct Ledger {
    windows: Vec<DeviceWindow>,
    /// Ports that have objects of their own in the specification.
    taken: Vec<DeviceRange>,
    /// What was granted, and to which process.
    granted: Vec<(usize, Request)>,
    /// Requests that were tried, by process.
    tried: BTreeMap<usize, u16>,
}

/// What to do about a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Grant it.
    Grant,
    /// It was granted before: reply with success.
    Granted,
}

impl Ledger {
    /// With nothing granted.
    pub fn new(spec: &Spec) -> Self {
        let taken = owned(spec).collect();
        Self { windows: spec.windows.clone(), taken, granted: Vec::new(), tried: BTreeMap::new() }
    }

    /// Whether a process may have what it asks for. Counts a request that is to be tried, since even a failed one has
    /// split untyped memory into pieces.
    pub fn judge(&mut self, process: usize, request: Request) -> Result<Verdict, Refused> {
        let range = range(request).ok_or(Refused::Outside)?;
        let mut own = self.windows.iter().filter(|window| window.process as usize == process);
        if !own.any(|window| holds(window.range, range)) {
            return Err(Refused::Outside);
        }
        if self.granted.contains(&(process, request)) {
            return Ok(Verdict::Granted);
        }
        let granted = self.granted.iter().filter_map(|&(_, request)| self::range(request));
        if self.taken.iter().copied().chain(granted).any(|other| overlap(other, range)) {
            return Err(Refused::NotThere);
        }
        let tried = self.tried.entry(process).or_default();
        if *tried >= MOST_TRIED {
            return Err(Refused::NoRoom);
        }
        *tried += 1;
        Ok(Verdict::Grant)
    }

    /// Notes what was granted.
    pub fn record(&mut self, process: usize, request: Request) {
        self.granted.push((process, request));
    }

    /// Notes that only the first `done` frames of a request were granted. The process may ask for these again, but not
    /// for the whole range, since the memory or slots that ran out do not come back.
    pub fn record_part(&mut self, process: usize, request: Request, done: u16) {
        if let (Request::Memory { paddr, bits, slot, map, .. }, 1..) = (request, done) {
            self.record(process, Request::Memory { paddr, pages: done, bits, slot, map });
        }
    }
}

/// Whether a port has no object in a specification, and no process may ask for it: root-task may take it for itself.
pub fn is_free(spec: &Spec, port: u16) -> bool {
    let range = DeviceRange::Ports { first: port, last: port };
    let asked = spec.windows.iter().map(|window| window.range);
    !owned(spec).chain(asked).any(|other| overlap(other, range))
}

/// Ports that are objects of a specification.
fn owned(spec: &Spec) -> impl Iterator<Item = DeviceRange> {
    spec.objects.iter().filter_map(|object| match object.kind {
        Kind::IoPorts { first, last } => Some(DeviceRange::Ports { first, last }),
        _ => None,
    })
}

/// The range that a request asks for; `None` if it is malformed.
fn range(request: Request) -> Option<DeviceRange> {
    match request {
        Request::Ports { first, last, .. } => (first <= last).then_some(DeviceRange::Ports { first, last }),
        Request::Memory { paddr, pages, bits, map, .. } => {
            let size = matches!(bits, 12 | 21).then(|| 1u64 << bits)?;
            let count = (1..=MOST_PAGES).contains(&pages).then_some(u64::from(pages))?;
            let last = paddr.checked_add(count * size - 1)?;
            let mapped = map.is_none_or(|at| {
                let end = at.checked_add(count * size);
                at % size == 0 && at >= window::DEVICES && end.is_some_and(|end| end <= window::FILES)
            });
            (paddr % size == 0 && mapped).then_some(DeviceRange::Memory { first: paddr, last })
        }
    }
}

fn holds(outer: DeviceRange, inner: DeviceRange) -> bool {
    let ((a, b), (c, d)) = (ends(outer), ends(inner));
    same_kind(outer, inner) && a <= c && d <= b
}

fn overlap(one: DeviceRange, other: DeviceRange) -> bool {
    let ((a, b), (c, d)) = (ends(one), ends(other));
    same_kind(one, other) && a <= d && c <= b
}

fn same_kind(one: DeviceRange, other: DeviceRange) -> bool {
    matches!(one, DeviceRange::Memory { .. }) == matches!(other, DeviceRange::Memory { .. })
}

/// First and last.
fn ends(range: DeviceRange) -> (u64, u64) {
    match range {
        DeviceRange::Memory { first, last } => (first, last),
        DeviceRange::Ports { first, last } => (first.into(), last.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use capdl_spec::spec::Object;
    use proto::{
        loopback::Loopback,
        supervisor::Client,
        wire::{IpcError, Message},
    };

    const MEMORY: DeviceRange = DeviceRange::Memory { first: 0xc000_0000, last: 0xfebf_ffff };
    const PORTS: DeviceRange = DeviceRange::Ports { first: 0x1f0, last: 0xffff };

    /// Process 1 may have memory and ports; the ports from 0x3f8 to 0x3ff are an object.
    fn ledger() -> Ledger {
        let kind = Kind::IoPorts { first: 0x3f8, last: 0x3ff };
        let windows = [MEMORY, PORTS].map(|range| DeviceWindow { process: 1, range }).into();
        Ledger::new(&Spec { objects: [Object { name: "uart".into(), kind }].into(), windows, ..Spec::default() })
    }

    fn memory(paddr: u64, pages: u16, bits: u8, map: Option<u64>) -> Request {
        Request::Memory { paddr, pages, bits, slot: 1, map }
    }

    fn ports(first: u16, last: u16) -> Request {
        Request::Ports { first, last, slot: 9 }
    }

    #[test]
    fn a_process_gets_what_lies_in_its_windows() {
        let mut ledger = ledger();
        assert_eq!(ledger.judge(1, memory(0xfebf_f000, 1, 12, None)), Ok(Verdict::Grant));
        assert_eq!(ledger.judge(1, memory(0xe000_0000, 8, 21, Some(0x3000_0000))), Ok(Verdict::Grant));
        assert_eq!(ledger.judge(1, ports(0x1f0, 0x1f7)), Ok(Verdict::Grant));
        assert_eq!(ledger.judge(0, ports(0x1f0, 0x1f7)), Err(Refused::Outside));
        assert_eq!(ledger.judge(1, ports(0xcf, 0x1f7)), Err(Refused::Outside));
        assert_eq!(ledger.judge(1, memory(0xfebf_f000, 2, 12, None)), Err(Refused::Outside));
    }

    #[test]
    fn nonsense_is_outside_every_window() {
        let mut ledger = ledger();
        for request in [
            ports(0x1f7, 0x1f0),
            memory(0xd000_0800, 1, 12, None),
            memory(0xd000_1000, 1, 21, None),
            memory(0xd000_0000, 1, 13, None),
            memory(0xd000_0000, 1, 64, None),
            memory(0xd000_0000, 0, 12, None),
            memory(0xd000_0000, 513, 12, None),
            memory(u64::MAX - 0xfff, 512, 12, None),
            memory(0xd000_0000, 1, 12, Some(0x40_0000)),
            memory(0xd000_0000, 1, 12, Some(0x3000_0800)),
            memory(0xd000_0000, 1, 12, Some(u64::MAX - 0xfff)),
        ] {
            assert_eq!(ledger.judge(1, request), Err(Refused::Outside), "{request:x?}");
        }
    }

    #[test]
    fn nothing_is_granted_twice_but_the_same_again() {
        let mut ledger = ledger();
        for request in [ports(0x1f0, 0x1f7), memory(0xd000_0000, 2, 12, None)] {
            ledger.record(1, request);
            assert_eq!(ledger.judge(1, request), Ok(Verdict::Granted));
        }
        assert_eq!(ledger.judge(1, ports(0x1f7, 0x1f8)), Err(Refused::NotThere));
        assert_eq!(ledger.judge(1, memory(0xd000_1000, 1, 12, None)), Err(Refused::NotThere));
        assert_eq!(ledger.judge(1, memory(0xd000_2000, 1, 12, None)), Ok(Verdict::Grant));
    }

    #[test]
    fn of_a_request_that_failed_half_way_the_first_half_is_granted() {
        let mut ledger = ledger();
        let whole = memory(0xd000_0000, 8, 12, Some(0x3000_0000));
        ledger.record_part(1, whole, 0);
        assert_eq!(ledger.judge(1, whole), Ok(Verdict::Grant));
        ledger.record_part(1, whole, 3);
        assert_eq!(ledger.judge(1, memory(0xd000_0000, 3, 12, Some(0x3000_0000))), Ok(Verdict::Granted));
        assert_eq!(ledger.judge(1, whole), Err(Refused::NotThere));
        assert_eq!(ledger.judge(1, memory(0xd000_2000, 1, 12, None)), Err(Refused::NotThere));
        assert_eq!(ledger.judge(1, memory(0xd000_3000, 5, 12, None)), Ok(Verdict::Grant));
    }

    /// root-task's end of the endpoint of process 1, as far as the ledger is: every other try fails half way.
    fn serve(ledger: &mut Ledger, message: &mut Message) -> Result<(), IpcError> {
        message.answer(|request: Request| {
            if ledger.judge(1, request)? == Verdict::Granted {
                return Ok(());
            }
            if ledger.tried[&1].is_multiple_of(2) {
                ledger.record_part(1, request, 1);
                return Err(Refused::NoRoom);
            }
            ledger.record(1, request);
            Ok(())
        })
    }

    #[test]
    fn a_process_that_asks_for_ever_does_not_fill_root_tasks_memory() {
        let mut ledger = ledger();
        let root = Client(Loopback::new(|message: &mut Message| serve(&mut ledger, message)));
        let mut refused = 0;
        for n in 0..5000 {
            refused += u32::from(root.request(memory(0xc000_0000 + 0x4000 * n, 4, 12, None)).is_err());
            refused += u32::from(root.request(ports(0x1000 + n as u16 * 8, 0x1007 + n as u16 * 8)).is_err());
        }
        assert!(refused >= 9_000);
        assert_eq!(root.request(memory(0xc000_0000, 4, 12, None)), Ok(()), "what it has, it has still");
        assert!(ledger.granted.len() <= usize::from(MOST_TRIED));
        // Other processes' counts do not change, and a process without windows has none.
        for process in 2..1000 {
            assert_eq!(ledger.judge(process, ports(0x300, 0x307)), Err(Refused::Outside));
        }
        assert_eq!(ledger.tried.len(), 1);
    }

    #[test]
    fn a_port_is_free_if_no_object_and_no_window_has_it() {
        let dma = Object { name: "dma".into(), kind: Kind::IoPorts { first: 0x80, last: 0x8f } };
        let owned = Spec { objects: [dma].into(), ..Spec::default() };
        assert_eq!([0x7f, 0x80, 0x8f, 0x90].map(|port| is_free(&owned, port)), [true, false, false, true]);
        let range = DeviceRange::Ports { first: 0x70, last: 0x80 };
        let asked = Spec { windows: [DeviceWindow { process: 1, range }].into(), ..Spec::default() };
        assert_eq!([0x6f, 0x70, 0x80, 0x81].map(|port| is_free(&asked, port)), [true, false, false, true]);
        let range = DeviceRange::Memory { first: 0, last: 0xfff };
        assert!(is_free(&Spec { windows: [DeviceWindow { process: 1, range }].into(), ..Spec::default() }, 0x80));
    }

    #[test]
    fn ports_of_the_specification_are_taken() {
        assert_eq!(ledger().judge(1, ports(0x3f0, 0x3f8)), Err(Refused::NotThere));
        assert_eq!(ledger().judge(1, ports(0x3f0, 0x3f7)), Ok(Verdict::Grant));
    }
}
