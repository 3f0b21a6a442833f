//! System descriptions: parse, check, and turn into the complete list of kernel objects and capabilities.
//!
//! `spec` is the result, which root-task interprets; it is all that an image needs of this crate. Everything that
//! leads there (feature `host`) runs on the developer's machine: authority is decided before boot.
//!
//! | file | what it does |
//! |---|---|
//! | `system`, `devices`, `emulator` | what a user writes, typed |
//! | `board`, `guest` | what the tables know: boards, and images that need no path |
//! | `source`, `form`, `keys` | a description as text; what parsing it refuses, said in words; every key and what it looks like |
//! | `checks` | laws that a description may break, each with its remedy (`mistake`, `snippet`, `file`) |
//! | `parts`, `passthrough` | who there is, and whom they call; who has which device and interrupt |
//! | `compile`, `wire`, `memory`, `windows`, `builder`, `elf`, `bundle` | the parts as kernel objects, capabilities and mappings |
//! | `laws` | laws that every compiled specification keeps |
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
