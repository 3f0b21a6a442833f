//! root-task interprets a specification (`capdl-spec`) and nothing else: it knows kernel objects, no VMs. This library is
//! what of it runs without seL4; the binary has the phases.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod guests;
pub mod ledger;
pub mod memory;
