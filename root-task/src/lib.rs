//! root-task interprets a specification (`capdl-spec`) and nothing else: it knows kernel objects, not VMs. This library
//! is the part that runs without seL4, for host tests; the binary has the phases.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod guests;
pub mod ledger;
pub mod memory;
