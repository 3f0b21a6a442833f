//! System descriptions: parse, check, and turn into the complete list of kernel objects and capabilities.
//!
//! `spec` is the result, which root-task interprets; it is all that an image needs of this crate. Everything that
//! leads there (feature `host`) runs on the developer's machine: authority is decided before boot.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod spec;
