//! A component: it greets whom its description names. This file is its core, which `cargo test` tests.
#![no_std]
#![forbid(unsafe_code)]

use core::fmt;

/// A greeting, for the log.
#[derive(Debug)]
pub struct Greeting<'a>(pub &'a str);

impl fmt::Display for Greeting<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whom = if self.0.is_empty() { "world" } else { self.0 };
        write!(f, "Hello, {whom}!")
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::Greeting;
    use std::string::ToString as _;

    #[test]
    fn it_greets_the_world_unless_somebody_is_named() {
        assert_eq!(Greeting("").to_string(), "Hello, world!");
        assert_eq!(Greeting("seL4").to_string(), "Hello, seL4!");
    }
}
