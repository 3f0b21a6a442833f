//! firewall: a component between two networks, which passes frames on by rules. It is a bridge to both: it changes no frame, and
//! has no address of its own.
//!
//! It keeps no state of connections: a rule says who outside may be talked to, in both directions.
#![no_std]
#![forbid(unsafe_code)]

mod frame;
mod rules;

use ethernet::{LONGEST, Port};

pub use frame::{Packet, Protocol, Way};
pub use rules::{Action, MOST, Mistake, Rule, Rules};

/// Frames of each side in a turn.
const TURN: usize = 32;

/// The component, without its process.
#[derive(Debug)]
pub struct Firewall {
    inside: Port,
    outside: Port,
    rules: Rules,
}

impl Firewall {
    /// One between these ports.
    pub const fn new(inside: Port, outside: Port, rules: Rules) -> Self {
        Self { inside, outside, rules }
    }

    /// Passes frames on, in turns of both directions. Returns whether there may be more.
    pub fn turn(&mut self) -> bool {
        let Self { inside, outside, rules } = self;
        let more = pass(inside, outside, Way::Out, rules);
        pass(outside, inside, Way::In, rules) || more
    }

    /// Whether the switch wants a signal of each port, the inner one first; the caller must send those then.
    pub fn must_signal(&mut self) -> [bool; 2] {
        [self.inside.must_signal(), self.outside.must_signal()]
    }

    /// The rules, with their counts.
    pub const fn rules(&self) -> &Rules {
        &self.rules
    }
}

fn pass(from: &mut Port, to: &mut Port, way: Way, rules: &mut Rules) -> bool {
    let mut frame = [0; LONGEST];
    for _ in 0..TURN {
        let Some(len) = from.receive(&mut frame) else { return false };
        let frame = frame.get(..len).unwrap_or_default();
        if !frame.is_empty() && rules.decide(&Packet::of(frame, way)) == Action::Allow {
            // A full ring loses frames, as a wire does.
            let _ = to.send(frame);
        }
    }
    true
}
