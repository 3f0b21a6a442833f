//! A description: its text and its mistakes, what a user writes, typed, and what the tables know of boards, images and kernels.

pub mod board;
pub mod bytes;
pub mod channel;
pub mod console;
pub mod count;
pub mod debian;
pub mod defects;
pub mod devices;
pub mod disks;
pub mod emulator;
pub(crate) mod file;
pub(crate) mod form;
pub mod guest;
pub(crate) mod keys;
pub mod lifecycle;
pub mod mistake;
pub mod network;
pub mod never;
pub mod owners;
pub mod pipe;
mod settle;
pub mod snippet;
pub(crate) mod source;
pub mod system;
pub mod text;
pub mod vsock;
