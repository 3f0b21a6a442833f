//! The symbols that compiled Rust code expects of a C library, for images that have none: `memcpy` and its kin,
//! and the two unwinder entry points that the prebuilt `core` and `alloc` name.
//!
//! An image refers to this crate once (`use freestanding as _;`) and the linker finds the rest. Nothing here is
//! exported under test, where the C library's functions are in use by the test itself.

#![cfg_attr(not(test), no_std)]

mod mem;
#[cfg(not(test))]
mod unwind;
