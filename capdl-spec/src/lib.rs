//! System descriptions: parse, check, and turn into the complete list of kernel objects and capabilities.
//!
//! `spec` is the result, which root-task interprets; it is all that an image needs of this crate. Everything else
//! (feature `host`) runs on the developer's machine: authority is decided before boot.
//!
//! | file | what it does |
//! |---|---|
//! | `description` | what a user writes: `system`, `devices` and `emulator` typed, `owners` from it alone; `board`, `guest` and `defects` know boards, images that need no path, and defects of kernels |
//! | | a description as text: `file`, `source`, `text`; `form` and `keys` refuse what cannot be parsed; `mistake` and `snippet` report |
//! | `checks` | laws that a description may break, each with its remedy |
//! | `services` | the list of the servers, and one file for each kind of process, with everything particular to it |
//! | `compile` | `part`, `passthrough`, `lines`, `placement`: a process as a table; who has which function and interrupt, and memory where |
//! | | `wire`, `guest_memory`, `memory`, `windows`: capabilities, shared memory and mappings, as `services` asks for them |
//! | | `builder`, `binaries`, `images`, `elf`, `bundle`, `error`: the parts as kernel objects, with their programs and images |
//! | `laws` | laws that every compiled specification keeps; in `authority`, the vocabulary of who may hold what |
//! | `map`, `draw` | the specification for people: as text, as a picture |
//! | `audit` | what flows between VMs and components of a compiled system, and policies against it |
#![cfg_attr(not(feature = "host"), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod spec;

#[cfg(feature = "host")]
pub mod audit;
#[cfg(feature = "host")]
mod checks;
#[cfg(feature = "host")]
pub mod compile;
#[cfg(feature = "host")]
pub mod description;
#[cfg(feature = "host")]
pub mod draw;
#[cfg(feature = "host")]
pub mod host;
#[cfg(feature = "host")]
pub mod laws;
#[cfg(feature = "host")]
pub mod map;
#[cfg(feature = "host")]
mod services;
