//! The symbols that compiled Rust code needs from a C library, for images that have none: `memcpy` and related
//! functions, and the two unwinder entry points that the prebuilt `core` and `alloc` refer to.
//!
//! An image refers to this crate once (`use freestanding as _;`), so that the linker resolves the symbols. The crate
//! exports nothing under test, where the test itself uses the C library's functions.

#![cfg_attr(not(test), no_std)]

mod mem;
#[cfg(not(test))]
mod unwind;
