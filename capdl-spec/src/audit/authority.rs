//! The take-grant closure of capabilities. A process takes what is in a CNode that it holds; it grants what it holds through an
//! endpoint with the grant right, in calls and in replies. Only processes that do what their attacker wants grant at will; of
//! honest servers the grants are known (`functions`).

use std::collections::BTreeSet;

use super::Model;
use crate::spec::{Id, Kind, Process, Rights, Spec};

/// Capabilities of one process: objects, with rights and badge.
pub(super) type Held = BTreeSet<(Id, [bool; 3], u64)>;

/// The rights as they are ordered in [`Held`].
pub(super) fn rights([read, write, grant]: [bool; 3]) -> Rights {
    Rights { read, write, grant }
}

impl Model<'_> {
    /// What each process holds if those that `act` pass everything on that they can.
    pub(super) fn holdings(&self, act: impl Fn(usize) -> bool) -> Vec<Held> {
        let mut held: Vec<Held> = self.spec.processes.iter().map(|process| takes(self.spec, process)).collect();
        let actors: Vec<usize> = (0..held.len()).filter(|&n| act(n)).collect();
        loop {
            let before: usize = held.iter().map(Held::len).sum();
            for &giver in &actors {
                for &receiver in &actors {
                    if giver != receiver && grants(self.spec, &held[giver], &held[receiver]) {
                        let given = held[giver].clone();
                        held[receiver].extend(given);
                    }
                }
            }
            if held.iter().map(Held::len).sum::<usize>() == before {
                return held;
            }
        }
    }
}

/// The capabilities in a process's CSpace, and in all CNodes that it reaches from there.
fn takes(spec: &Spec, process: &Process) -> Held {
    let (mut held, mut cnodes) = (Held::new(), vec![process.cspace]);
    let mut next = 0;
    while let Some(&cnode) = cnodes.get(next) {
        next += 1;
        for cap in spec.caps.iter().filter(|cap| cap.cnode == cnode) {
            held.insert((cap.object, [cap.rights.read, cap.rights.write, cap.rights.grant], cap.badge));
            let is_cnode = matches!(spec.kind(cap.object), Some(Kind::CNode { .. }));
            if is_cnode && !cnodes.contains(&cap.object) {
                cnodes.push(cap.object);
            }
        }
    }
    held
}

/// Whether one process can pass capabilities to another: in a message, if it may grant and the other receives; in a reply, if
/// it receives with the grant right and the other calls.
fn grants(spec: &Spec, giver: &Held, receiver: &Held) -> bool {
    let endpoints = |held: &Held, right: fn(Rights) -> bool| -> BTreeSet<Id> {
        let of =
            held.iter().filter(|(object, set, _)| spec.kind(*object) == Some(&Kind::Endpoint) && right(rights(*set)));
        of.map(|(object, ..)| *object).collect()
    };
    let by_message = endpoints(giver, |r| r.write && r.grant);
    let by_reply = endpoints(giver, |r| r.read && r.grant);
    let received = endpoints(receiver, |r| r.read);
    let called = endpoints(receiver, |r| r.write && r.grant);
    !by_message.is_disjoint(&received) || !by_reply.is_disjoint(&called)
}
