//! Builds the system in named phases: objects, address spaces, capabilities, threads; checks what is there against the
//! specification; starts the processes in their order; then hears of faults and of guests that went off, for ever.
//!
//! Console and switch of the board come first, so that whatever fails is printed and ends the machine. A specification
//! that cannot be built is a mistake found on this machine only (too little memory, say): it is reported with the object's
//! name, and nothing is started.
#![no_std]
#![no_main]
#![deny(unsafe_code)]

extern crate alloc;

mod console;
mod grants;
mod objects;
mod program;
mod spaces;
mod supervise;
mod verify;

use alloc::{string::String, vec::Vec};
use core::{fmt, ops::Range};

use capdl_spec::spec::{self, Spec};
use root_task::memory::What;
use sel4::BootInfoPtr;
use sel4_root_task::{
    Scratch, bundle,
    power::{self, End},
    root_task,
};

use objects::Objects;

root_task!(main);

/// Why the system cannot be built: what was being done, and what the kernel said.
pub struct Failure {
    what: String,
    why: Why,
}

/// See [`Failure`].
pub enum Why {
    /// An invocation failed.
    Kernel(sel4::Error),
    /// No untyped memory is left for it.
    OutOfMemory,
    /// The root CNode is full.
    OutOfSlots,
    /// The bundle is not one, or the specification contradicts itself.
    BadSpec(&'static str),
    /// At the physical addresses of frames there is something else than RAM, or than devices.
    NotThere(What, Vec<(Range<u64>, What)>),
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = |what| match what {
            What::Ram => "free RAM",
            What::Device => "device memory",
            What::Taken => "in use",
        };
        match self {
            Why::Kernel(error) => write!(f, "{error:?}"),
            Why::OutOfMemory => f.write_str("no memory left"),
            Why::OutOfSlots => f.write_str("no capability slot left"),
            Why::BadSpec(mistake) => f.write_str(mistake),
            Why::NotThere(wanted, there) => {
                write!(f, "not all of its physical addresses are {}; this machine has there", name(*wanted))?;
                for (n, (Range { start, end }, what)) in there.iter().enumerate() {
                    let comma = if n == 0 { "" } else { "," };
                    write!(f, "{comma} {start:#x} to {:#x} {}", end - 1, name(*what))?;
                }
                Ok(())
            }
        }
    }
}

/// Names what was being done when the kernel refused.
pub trait Context<T> {
    /// As `map_err`, with a name made only when it is needed.
    fn context(self, what: impl FnOnce() -> String) -> Result<T, Failure>;
}

impl<T> Context<T> for sel4::Result<T> {
    fn context(self, what: impl FnOnce() -> String) -> Result<T, Failure> {
        self.map_err(|error| Failure { what: what(), why: Why::Kernel(error) })
    }
}

fn main(bootinfo: BootInfoPtr) -> ! {
    let bundle = bundle::bundle(bootinfo);
    let mut objects = Objects::new(bootinfo);
    let Failure { what, why } = match decode(bundle) {
        Ok(spec) => match build(objects, bundle, &spec) {
            Ok(mut system) => system.serve(),
            Err(failure) => failure,
        },
        Err(failure) => {
            console::open_without_specification(&mut objects);
            failure
        }
    };
    console::fresh_line();
    console::failed(format_args!("the system was not started: {what}: {why}"));
    power::end(End::Failed)
}

fn decode(bundle: &[u8]) -> Result<Spec, Failure> {
    let bad = |mistake| Failure { what: "bundle".into(), why: Why::BadSpec(mistake) };
    let (header, rest) = bundle.split_at_checked(spec::HEADER_LEN).ok_or_else(|| bad("none in this image"))?;
    let (magic, lengths) = header.split_at(spec::MAGIC.len());
    if magic != spec::MAGIC {
        return Err(bad("no magic number"));
    }
    let word =
        |at: usize| lengths.get(at..at + 8).and_then(|bytes| bytes.try_into().ok()).map_or(0, u64::from_le_bytes);
    if word(8) as usize > bundle.len() {
        return Err(bad("shorter than it says"));
    }
    let encoded = rest.get(..word(0) as usize).ok_or_else(|| bad("shorter than its specification"))?;
    postcard::from_bytes(encoded).map_err(|_| bad("the specification does not decode"))
}

fn build<'a>(mut objects: Objects, bundle: &'a [u8], spec: &'a Spec) -> Result<supervise::System<'a>, Failure> {
    console::open(&mut objects, spec)?;
    objects.create(spec)?;
    log::info!("{}: {} objects, {} KiB of memory left", spec.name, spec.objects.len(), objects.free() >> 10);
    let mut scratch = Scratch::new();
    spaces::fill(&objects, spec, bundle, &mut scratch)?;
    spaces::map(&mut objects, spec)?;
    objects.distribute(spec)?;
    for process in &spec.processes {
        program::configure(&objects, process)?;
    }
    let stop_signals = supervise::stop_signals(&mut objects, spec)?;
    let report = verify::verify(&objects, spec)?;
    log::info!("checked: {report}");
    for process in &spec.processes {
        program::start(&objects, process)?;
        log::info!("started {} (priority {})", process.name, process.priority);
    }
    Ok(supervise::System::new(objects, spec, bundle, scratch, stop_signals))
}
