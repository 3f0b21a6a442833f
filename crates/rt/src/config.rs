//! The process's configuration, which capdl-spec wrote, and memory shared with other processes.

use core::slice;

use layout::{config, window};
use mmio::{RecordRing, Ring, Window};
use serde::de::DeserializeOwned;

/// Most bytes of a configuration: up to the next window.
const MAX_LEN: usize = (window::LOG - window::CONFIG) as usize - size_of::<u32>();

/// The configuration. Panics if it does not decode: then image and process do not belong together.
pub fn config<C: DeserializeOwned>() -> C {
    let page = window::CONFIG as *const u8;
    // SAFETY: root-task maps the configuration here before the process starts; the page is aligned.
    let len = unsafe { page.cast::<u32>().read() } as usize;
    assert!(len <= MAX_LEN, "the configuration is too long");
    // SAFETY: that many bytes follow; they are mapped read-only, in this process alone, and never change.
    let bytes = unsafe { slice::from_raw_parts(page.add(size_of::<u32>()), len) };
    match postcard::from_bytes(bytes) {
        Ok(config) => config,
        Err(error) => panic!("the configuration does not decode: {error}"),
    }
}

/// The memory of a window of the configuration, or device registers that root-task mapped. Access device registers by
/// the scalar methods only: each is one MOV of its width, which the compiler neither repeats nor omits.
///
/// Panics if the window would be the image, the stack or the IPC buffer: those belong to Rust and to the kernel.
pub fn shared(window: config::Window) -> Window {
    assert!(window.at >= window::LOG && window.at.checked_add(window.len).is_some(), "not shared memory");
    // SAFETY: from the log on there are only windows, and no Rust objects. root-task mapped the windows of the
    // configuration; an access to any other would be a page fault, which is not undefined behaviour.
    unsafe { Window::new(window.at as *mut u8, window.len) }
}

/// The ring of bytes in a window of the configuration, of which this process makes its end.
///
/// Panics as [`shared`] does, and if the window is no ring's.
pub fn bytes(window: config::Window) -> Ring {
    match Ring::new(shared(window)) {
        Ok(ring) => ring,
        Err(error) => panic!("{window:?}: {error:?}"),
    }
}

/// The ring of records in a window of the configuration, of which this process makes its end.
///
/// Panics as [`shared`] does, and if the window is no ring's.
pub fn records(window: config::Window) -> RecordRing {
    match RecordRing::new(shared(window)) {
        Ok(ring) => ring,
        Err(error) => panic!("{window:?}: {error:?}"),
    }
}
