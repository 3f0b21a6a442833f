//! The protocols between processes: `wire` encodes requests and replies in the message registers, and each interface
//! has one file with its requests, its client, the trait that its server implements, and the dispatcher between them.
//! This crate does not depend on seL4: a [`wire::Transport`] is an endpoint in an image (`rt::Endpoint`) and a call in
//! tests ([`loopback::Loopback`]). [`tally`] is what servers have in common about clients that cause errors.
#![no_std]
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate std;

pub mod block;
pub mod file;
pub mod irq;
pub mod lifecycle;
pub mod loopback;
pub mod net;
pub mod pci;
pub mod serial;
pub mod supervisor;
pub mod tally;
pub mod timer;
pub mod vsock;
pub mod wire;
