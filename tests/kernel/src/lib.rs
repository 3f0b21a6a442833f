//! Shared by the root tasks that test the kernel: objects, a guest of a few bytes, a console.
#![cfg_attr(feature = "image", no_std)]
#![cfg(feature = "image")]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod bench;
pub mod console;
pub mod guest;
pub mod long_mode;
