//! The build tool behind `cargo xtask`, from an empty machine to a guest's prompt.
//!
//! It sets up the host (`packages`, `setup`, `doctor`), judges a board (`board`, `import`), builds the parts of a system (`kernel` and its `defects`, `guest`,
//! `image` and its `footprint`, `iso`; `cache` keeps them), runs it in Bochs (`bochs`, `console`, `run`) or QEMU (`qemu`)
//! and tests it (`test`, `tests`; for the documentation, `walkthrough`). It writes to cargo's target directory only, and
//! installs Debian packages through apt.
#![forbid(unsafe_code)]

pub mod audit;
pub mod bench;
pub mod board;
pub mod board_memory;
pub mod bochs;
pub mod cache;
pub mod console;
pub mod defects;
pub mod doctor;
pub mod footprint;
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
pub mod simulate;
mod slots;
pub mod test;
pub mod tests;
pub mod walkthrough;
