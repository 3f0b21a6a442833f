//! How the processes talk: `wire` carries any request and its reply in the message registers, and each interface has
//! one file with its requests, its client, the trait that its server implements, and the dispatcher between them.
//! Nothing here knows seL4: a [`wire::Transport`] is an endpoint in an image (`rt::Endpoint`) and a function call in
//! tests ([`loopback::Loopback`]).
#![no_std]
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate std;

pub mod file;
pub mod irq;
pub mod loopback;
pub mod pci;
pub mod serial;
pub mod supervisor;
pub mod timer;
pub mod wire;
