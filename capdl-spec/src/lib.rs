//! System descriptions: parse, check, and turn into the complete list of kernel objects and capabilities.
//!
//! `spec` is the result, which root-task interprets; it is all that an image needs of this crate. Everything else
//! (feature `host`) runs on the developer's machine: authority is decided before boot.
//!
//! | file | what it does |
//! |---|---|
//! | `system`, `devices`, `emulator`, `owners`, `images` | what a user writes, typed, and what follows from it alone |
//! | `board`, `guest` | what the tables know: boards, and images that need no path |
//! | `text`, `source`, `form`, `keys` | a description as text; what parsing it refuses, said in words; every key and what it looks like |
//! | `checks` | laws that a description may break, each with its remedy (`found`, `mistake`, `snippet`, `file`) |
//! | `services` | the list of the servers, and one file for each kind of process, with everything particular to it |
//! | `part`, `passthrough`, `lines`, `placement` | a process as a table; who has which function and interrupt, and memory where |
//! | `wire`, `guest_memory`, `memory`, `windows` | capabilities, shared memory and mappings, as `services` asks for them |
//! | `compile`, `builder`, `binaries`, `elf`, `bundle`, `error` | the parts as kernel objects, with their programs |
//! | `laws`, `authority` | laws that every compiled specification keeps; the vocabulary of who may hold what |
//! | `map`, `draw` | the specification for people: as text, as a picture |
#![cfg_attr(not(feature = "host"), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod spec;

#[cfg(feature = "host")]
mod authority;
#[cfg(feature = "host")]
pub mod binaries;
#[cfg(feature = "host")]
pub mod board;
#[cfg(feature = "host")]
mod builder;
#[cfg(feature = "host")]
pub mod bundle;
#[cfg(feature = "host")]
mod canvas;
#[cfg(feature = "host")]
mod checks;
#[cfg(feature = "host")]
pub mod compile;
#[cfg(feature = "host")]
pub mod devices;
#[cfg(feature = "host")]
pub mod draw;
#[cfg(feature = "host")]
mod elf;
#[cfg(feature = "host")]
pub mod emulator;
#[cfg(feature = "host")]
pub mod error;
#[cfg(feature = "host")]
mod file;
#[cfg(feature = "host")]
mod form;
#[cfg(feature = "host")]
mod found;
#[cfg(feature = "host")]
pub mod guest;
#[cfg(feature = "host")]
mod guest_memory;
#[cfg(feature = "host")]
pub mod host;
#[cfg(feature = "host")]
mod images;
#[cfg(feature = "host")]
mod keys;
#[cfg(feature = "host")]
pub mod laws;
#[cfg(feature = "host")]
mod lines;
#[cfg(feature = "host")]
pub mod map;
#[cfg(feature = "host")]
mod memory;
#[cfg(feature = "host")]
pub mod mistake;
#[cfg(feature = "host")]
pub mod owners;
#[cfg(feature = "host")]
pub mod part;
#[cfg(feature = "host")]
mod passthrough;
#[cfg(feature = "host")]
mod placement;
#[cfg(feature = "host")]
mod services;
#[cfg(feature = "host")]
pub mod snippet;
#[cfg(feature = "host")]
mod source;
#[cfg(feature = "host")]
pub mod system;
#[cfg(feature = "host")]
pub mod text;
#[cfg(feature = "host")]
mod windows;
#[cfg(feature = "host")]
mod wire;
