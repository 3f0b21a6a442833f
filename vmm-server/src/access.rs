//! stub
use crate::{cpu::Vmcs, run::{Guest, Next}};
use devices::Nanos;
use vtx::exit::EptViolation;

/// stub
pub fn answer<V: Vmcs>(_guest: &mut Guest<V>, _violation: EptViolation, _now: Nanos) -> Next {
    Next::UNDEFINED
}
