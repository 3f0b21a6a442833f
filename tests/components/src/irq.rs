//! irq-server: a component cannot claim lines that belong to servers.

use layout::scratch_cptr;
use proto::irq::{Client, Error, Route};
use rt::Endpoint;
use sel4::{CPtr, debug_cap_identify};

use crate::verdict::Verdict;

/// Lines of the system: the timer's and the UART's.
const LINES: u8 = 2;
/// Scratch slot for a handler.
const SCRATCH: u16 = 1;

/// Tries to claim all lines, to answer another owner's interrupt, and to change a route.
pub fn foreign(verdict: &mut Verdict) {
    let server = Client(Endpoint::at(proto::irq::SERVICE.slot).receive_into(SCRATCH));
    verdict.equal("lines of its own", server.lines(), Ok(0));
    for line in 0..=u8::MAX {
        let expected = if line < LINES { Error::NotOwner } else { Error::NoSuchLine };
        if !(4..=250).contains(&line) {
            verdict.equal("a line of another's", server.claim(line), Err(expected));
        }
    }
    verdict.equal("an answer for another", server.done(0), Err(Error::NotOwner));
    let route = Route { ioapic: 0, pin: 16, level: true, active_low: true };
    verdict.equal("a route from a stranger", server.set_route(0, route), Err(Error::NotOwner));
    verdict.equal("the slot for a handler", debug_cap_identify(CPtr::from_bits(scratch_cptr(SCRATCH))), 0);
}
