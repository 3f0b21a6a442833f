//! Builds the system in named phases: objects, address spaces, capabilities, threads. Then it checks the result against
//! the specification, starts the processes in order, and handles faults, notices and requests until the machine ends.
//!
//! The console and the power-off port come first, so that every failure is printed and ends the machine. If this
//! machine cannot have what the specification lists (it has too little memory, say), root-task reports the object's
//! name and starts nothing.
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
    serial::Uart,
};

use console::{Post, Progress};
use objects::Objects;

root_task!(main);

/// Why the system cannot be built: the step that failed, and the kernel's error.
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
    /// The bundle is malformed, or the specification contradicts itself.
    BadSpec(&'static str),
    /// The physical addresses of frames are not all RAM, or not all device memory, as the specification says.
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
            Why::OutOfMemory => f.write_str(
                "no memory left: give the machine more of it, or the VMs less; all of a VM's memory is needed at once",
            ),
            Why::OutOfSlots => f.write_str("no capability slot left (see the kernel's KernelRootCNodeSizeBits)"),
            Why::BadSpec(mistake) => f.write_str(mistake),
            Why::NotThere(wanted, there) => {
                write!(f, "not all of its physical addresses are {}; this machine has there", name(*wanted))?;
                for (n, (Range { start, end }, what)) in there.iter().enumerate() {
                    let comma = if n == 0 { "" } else { "," };
                    write!(f, "{comma} {start:#x} to {:#x} {}", end - 1, name(*what))?;
                }
                f.write_str(match wanted {
                    // Chosen by the build (capdl-spec/src/compile/placement.rs), below what firmware reserves on most boards.
                    What::Ram => {
                        "; memory for devices without an IOMMU is at fixed addresses: let the VM have less of it"
                    }
                    What::Device | What::Taken => {
                        "; compare the addresses in the description with the board's /proc/iomem"
                    }
                })
            }
        }
    }
}

/// Names the step in which the kernel refused.
pub trait Context<T> {
    /// As `map_err`; makes the name only on failure.
    fn context(self, what: impl FnOnce() -> String) -> Result<T, Failure>;
}

impl<T> Context<T> for sel4::Result<T> {
    fn context(self, what: impl FnOnce() -> String) -> Result<T, Failure> {
        self.map_err(|error| Failure { what: what(), why: Why::Kernel(error) })
    }
}

fn main(bootinfo: BootInfoPtr) -> ! {
    let bundle = bundle::bundle(bootinfo);
    let kernels_console = Uart::of_kernel(bootinfo);
    let mut objects = Objects::new(bootinfo);
    let Failure { what, why } = match decode(bundle) {
        Ok(spec) => match build(objects, bundle, &spec, kernels_console) {
            Ok(mut system) => system.serve(),
            Err(failure) => failure,
        },
        Err(failure) => {
            console::open_without_specification(&mut objects, kernels_console);
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

fn build<'a>(
    mut objects: Objects,
    bundle: &'a [u8],
    spec: &'a Spec,
    kernels_console: Option<Uart>,
) -> Result<supervise::System<'a>, Failure> {
    console::open(&mut objects, spec, kernels_console)?;
    let post = Post::open(&mut objects, spec);
    post.show(Progress::Console);
    log::info!("on {}", sel4_config::ABOUT);
    objects.create(spec)?;
    post.show(Progress::Objects);
    log::info!("{}: {} objects, {} KiB of memory left", spec.name, spec.objects.len(), objects.free() >> 10);
    let mut scratch = Scratch::new();
    spaces::fill(&objects, spec, bundle, &mut scratch)?;
    spaces::map(&mut objects, spec)?;
    post.show(Progress::Spaces);
    objects.distribute(spec)?;
    for process in &spec.processes {
        program::configure(&objects, process)?;
    }
    let signals = supervise::signals(&mut objects, spec)?;
    post.show(Progress::Processes);
    let report = verify::verify(&objects, spec)?;
    log::info!("checked: {report}");
    post.show(Progress::Checked);
    for process in &spec.processes {
        program::start(&objects, process)?;
        log::info!("started {} (priority {})", process.name, process.priority);
    }
    post.show(Progress::Started);
    Ok(supervise::System::new(objects, spec, bundle, scratch, signals))
}
