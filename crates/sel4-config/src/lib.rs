//! The configuration of the installed seL4: a constant per option, without the `CONFIG_` in front.
//!
//! Switches are `bool`, numbers `u64`, anything else `&str`. Generated from `gen_config.json`.
//! An `if sel4_config::DEBUG_BUILD` costs nothing, but both branches must compile with every kernel.

#![no_std]
#![forbid(unsafe_code)]

include!(concat!(env!("OUT_DIR"), "/config.rs"));
