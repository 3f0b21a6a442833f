//! The switch of virtio's sockets: packets go by address, from members that answer to members that answer.
//!
//! Nothing is lost. A packet whose receiver's ring is full stays in its sender's ring, and the sender's later ones behind it.
//! Others go on.

use heapless::Vec;
use layout::limits::MAX_SWITCH_PORTS;
use mmio::{BrokenRing, Mended, RecordConsumer};
use proto::vsock::Port;

use crate::counts::Counts;
use crate::members::Members;
use crate::switch::{Moved, Rings};

/// All members of all networks of sockets, and the rings from them.
#[derive(Debug)]
pub struct Sockets {
    inputs: Vec<RecordConsumer, MAX_SWITCH_PORTS>,
    members: Members,
}

impl Sockets {
    /// The members of a configuration, with these rings, on a machine whose TSC has this rate.
    pub fn new(ports: &[Port], rings: impl Iterator<Item = Rings>, hertz: u64) -> Self {
        let (mut inputs, mut members) = (Vec::new(), Members::new(hertz));
        for (port, Rings { input, output }) in ports.iter().zip(rings) {
            // Cannot fail: there are no more than the configuration has room for.
            let _ = inputs.push(input);
            members.add(port, output);
        }
        Self { inputs, members }
    }

    /// How many members there are.
    pub fn len(&self) -> usize {
        self.inputs.len()
    }

    /// A member's counts.
    pub fn counts(&self, member: usize) -> Option<Counts> {
        self.members.counts(member)
    }

    /// Moves the next packet from a member, if there is one and its receiver has room.
    pub fn step(&mut self, member: usize, now: u64) -> Moved {
        let Some(input) = self.inputs.get_mut(member) else { return Moved::Nothing };
        let moved = match input.peek() {
            Ok(Some(record)) => {
                let taken = self.members.take(member, &record, now);
                if taken {
                    record.release();
                }
                taken
            }
            Ok(None) => {
                // What waited for a receiver's room may have been withdrawn.
                self.members.leave_turn(member);
                // A broken ring is not waited for, and the next look finds out.
                input.park()
            }
            Err(BrokenRing) => return self.members.broken(member),
        };
        if moved { Moved::Frame } else { Moved::Nothing }
    }

    /// Sends the RSTs that are owed, as far as there is room.
    pub fn settle(&mut self, now: u64) {
        (0..self.len()).for_each(|member| self.members.settle(member, now));
    }

    /// Ends the connections of members that have kept others waiting for too long.
    pub fn expire(&mut self, now: u64) {
        (0..self.len()).for_each(|member| self.members.expire(member, now));
    }

    /// When [`Sockets::expire`] has something to do.
    pub fn deadline(&self) -> Option<u64> {
        self.members.deadline()
    }

    /// These members, as bits, have signalled: whoever waits for their room can try again. One that has begun anew may have a
    /// predecessor that has broken a ring.
    pub fn signalled(&mut self, members: u64) {
        for (member, input) in self.inputs.iter_mut().enumerate().filter(|(member, _)| members & 1 << member != 0) {
            if input.mend().max(self.members.mend(member)) != Mended::Broken {
                self.members.mended(member);
            }
            self.members.wake(member);
        }
    }

    /// Members whose next packet need not wait any longer, as bits.
    pub const fn take_ready(&mut self) -> u64 {
        self.members.take_ready()
    }

    /// Whether a member wants a signal, for packets or for room.
    pub fn must_signal(&mut self, member: usize) -> bool {
        let input = self.inputs.get_mut(member).is_some_and(RecordConsumer::must_signal);
        self.members.must_signal(member) || input
    }
}
