//! What a component needs, for crates outside of this repository: `templates/component` is one.
//!
//! | module | what it is for |
//! |---|---|
//! | `rt`, with the feature `image` | the process: its main function, signals, waiting, the end |
//! | [`layout`] | its configuration, its slots and events |
//! | [`channel`] | channels to guests and other components |
//! | [`vsock`] | stream sockets to them |
//! | [`ethernet`] | a port of a network's switch |
//! | [`disk`] | drivers of disks |
//! | [`proto`] | calls to servers |
//! | [`mmio`] | shared memory and device registers |
//! | [`log`] | the log, which goes to the console |
#![no_std]
#![forbid(unsafe_code)]

#[cfg(feature = "image")]
pub use rt;
pub use {channel, disk, ethernet, layout, log, mmio, proto, vsock};
