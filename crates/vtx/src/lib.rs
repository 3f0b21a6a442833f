//! VT-x as a VMM on seL4 sees it: what a VM exit says, what the VMCS fields are called, what CPUID, MSRs and control
//! registers look like to the guest, and how an event enters it. References are to the Intel SDM (order number 325384,
//! volume 3) by chapter title, since its numbering moves.
//!
//! The modules are pure: they know neither capabilities nor system calls, and run in host tests. Only `enter` and `ept` do,
//! which the feature `image` adds.
#![no_std]
#![forbid(unsafe_code)]

pub mod cpuid;
pub mod cr;
#[cfg(feature = "image")]
pub mod enter;
#[cfg(feature = "image")]
pub mod ept;
pub mod event;
pub mod exit;
pub mod gpr;
pub mod msr;
mod processor;
pub mod start;
pub mod stock;
pub mod syscall;
pub mod vmcs;
pub mod words;
