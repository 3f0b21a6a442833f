//! A check, and its report when it fails.

use alloc::{format, string::String};
use core::fmt::Debug;

use crate::bench::Bench;

/// A check of behaviour that is wrong in a kernel with a defect.
pub struct Check {
    /// The defect, by its name in capdl-spec.
    pub defect: &'static str,
    /// The behaviour that it checks.
    pub name: &'static str,
    /// The check itself.
    pub run: fn(&mut Bench) -> Outcome,
}

/// The observed wrong behaviour.
pub struct Seen(pub String);

/// The result of a check.
pub type Outcome = Result<(), Seen>;

impl From<sel4::Error> for Seen {
    fn from(error: sel4::Error) -> Self {
        Self(format!("the kernel refuses it: {error:?}"))
    }
}

/// Whether this is the pinned kernel: no other has this option.
pub const PINNED: bool = sel4_config::X86_VTX_GUEST_DEBUG_REGISTERS;

/// Fails unless the kernel refuses it: the pinned kernel with this error, others with any, since releases differ.
pub fn refused<T: Debug>(what: &str, result: sel4::Result<T>, with: sel4::Error) -> Outcome {
    match result {
        Err(error) if error == with || !PINNED => Ok(()),
        other => Err(Seen(format!("{what}: {other:x?}, not {with:?}"))),
    }
}

/// Fails with the observed value unless it equals the expected one.
pub fn expect<T: PartialEq + Debug>(what: &str, seen: T, expected: T) -> Outcome {
    if seen == expected { Ok(()) } else { Err(Seen(format!("{what}: {seen:x?}, not {expected:x?}"))) }
}
