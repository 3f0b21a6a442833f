//! The build tool behind `cargo xtask`, from an empty machine to a guest's prompt.
//!
//! It sets the host up (`packages`, `setup`, `doctor`), makes what a system consists of (`kernel`, `guest`, `image`,
//! `iso`; `cache` keeps it), runs it in Bochs (`bochs`, `console`, `run`) or QEMU (`qemu`) and proves that it works (`test`,
//! `tests`; of the documentation, `walkthrough`).
//! Everything it makes lies in cargo's target directory; nothing is written elsewhere but Debian packages, through apt.
#![forbid(unsafe_code)]

pub mod bench;
pub mod board_memory;
pub mod bochs;
pub mod cache;
pub mod console;
pub mod doctor;
pub mod guest;
pub mod image;
pub mod import;
pub mod interrupt;
pub mod iso;
pub mod kernel;
pub mod map;
pub mod modules;
pub mod native;
pub mod packages;
pub mod process;
pub mod programs;
pub mod progress;
pub mod project;
pub mod qemu;
pub mod room;
pub mod run;
pub mod setup;
pub mod test;
pub mod tests;
pub mod walkthrough;
