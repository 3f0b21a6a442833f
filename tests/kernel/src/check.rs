//! What a check is, and what it says when it fails.

use alloc::{format, string::String};
use core::fmt::Debug;

use crate::bench::Bench;

/// A check: something that a kernel without the patch gets wrong.
pub struct Check {
    /// The number of the patch.
    pub patch: &'static str,
    /// What is so, if it passes.
    pub name: &'static str,
    /// The check itself.
    pub run: fn(&mut Bench) -> Outcome,
}

/// What was seen instead.
pub struct Seen(pub String);

/// How a check ended.
pub type Outcome = Result<(), Seen>;

impl From<sel4::Error> for Seen {
    fn from(error: sel4::Error) -> Self {
        Self(format!("the kernel refuses it: {error:?}"))
    }
}

/// Fails with what was seen, unless that was expected.
pub fn expect<T: PartialEq + Debug>(what: &str, seen: T, expected: T) -> Outcome {
    if seen == expected { Ok(()) } else { Err(Seen(format!("{what}: {seen:x?}, not {expected:x?}"))) }
}
