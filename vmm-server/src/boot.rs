//! Loads the guest into its memory: follows the plan of `linux` with bytes from fileserver, and returns the address of
//! the first instruction. Runs at the start and after each reset; it relies on nothing that an earlier run left.

use core::fmt;

use layout::config::Vmm;
use mmio::{OutOfRange, SharedBuffer, Span};
use proto::{
    file::{self, File},
    wire::Transport,
};

use vtx::cpuid::Processor;

use crate::{
    linux::{self, Entry, GuestParts, Image, LoadStep, Plan, Unreadable},
    vm::Vm,
};

/// Why the guest cannot be started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// fileserver refused the kernel.
    Kernel(file::Error),
    /// fileserver refused the initial RAM disk.
    Initrd(file::Error),
    /// The kernel is not one that can be booted.
    Linux(linux::Error),
    /// The plan leaves the guest's memory; a mistake of ours.
    Memory,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Kernel(error) => write!(f, "kernel: fileserver says {error:?}"),
            Error::Initrd(error) => write!(f, "initrd: fileserver says {error:?}"),
            Error::Linux(error) => write!(f, "kernel: {error}"),
            Error::Memory => write!(f, "the kernel does not fit the guest's memory"),
        }
    }
}

impl From<OutOfRange> for Error {
    fn from(_: OutOfRange) -> Self {
        Error::Memory
    }
}

/// An image of fileserver, read in pieces.
struct ServerFile<'a, T> {
    files: &'a file::Client<T>,
    buffer: &'a SharedBuffer,
    file: File,
}

impl<T: Transport> Image for ServerFile<'_, T> {
    fn size(&self) -> u64 {
        self.file.size
    }

    fn read(&mut self, offset: u64, into: &mut [u8]) -> Result<usize, Unreadable> {
        let mut done = 0;
        while let Some(rest) = into.get_mut(done..).filter(|rest| !rest.is_empty()) {
            let whole = self.buffer.whole();
            let len = whole.len.min(u32::try_from(rest.len()).unwrap_or(u32::MAX));
            let span = Span { len, ..whole };
            let at = offset.checked_add(done as u64).ok_or(Unreadable)?;
            let count = self.files.read(self.file, at, span).map_err(|_| Unreadable)?;
            if count == 0 {
                break;
            }
            let read = self.buffer.copy_in(Span { len: count, ..span }, rest).map_err(|_| Unreadable)?;
            done += read.len();
        }
        Ok(done)
    }
}

/// Loads the guest of `config` into the memory of `vm`; returns its first instruction.
pub fn load<T: Transport>(
    config: &Vmm,
    processor: Processor,
    files: &file::Client<T>,
    buffer: &SharedBuffer,
    vm: &Vm,
) -> Result<Entry, Error> {
    let ram = &vm.ram;
    let kernel = files.open(&config.kernel).map_err(Error::Kernel)?;
    let initrd = match &config.initrd {
        Some(name) => Some(files.open(name).map_err(Error::Initrd)?),
        None => None,
    };
    let command_line = config.cmdline.as_bytes();
    let (ram_bytes, ram_at, windows) = (config.ram, config.ram_at, windows(config));
    let acpi = vm.board.acpi(ram_at + ram_bytes);
    let initrd_bytes = initrd.map_or(0, |file| file.size);
    let guest = GuestParts { processor, ram: ram_bytes, ram_at, windows, acpi, initrd: initrd_bytes, command_line };
    let plan = Plan::new(&mut ServerFile { files, buffer, file: kernel }, &guest).map_err(Error::Linux)?;
    for step in &plan.steps {
        match *step {
            LoadStep::Zero { gpa, len } => ram.fill(gpa, len, 0)?,
            LoadStep::Copy { file: linux::File::Kernel, offset, gpa, len } => {
                files.copy(kernel, offset, len, buffer, &ram.part(gpa, len)?, 0).map_err(Error::Kernel)?;
            }
            LoadStep::Copy { file: linux::File::Initrd, offset, gpa, len } => {
                let file = initrd.ok_or(Error::Initrd(file::Error::NotFound))?;
                files.copy(file, offset, len, buffer, &ram.part(gpa, len)?, 0).map_err(Error::Initrd)?;
            }
        }
    }
    let mut written = Ok(());
    plan.low_memory(command_line, |at, bytes| {
        written = written.and(ram.write(at, bytes));
    });
    written?;
    Ok(plan.entry)
}

/// Where the dataports of channels have their homes: first byte, and the one behind the last.
fn windows(config: &Vmm) -> Option<(u64, u64)> {
    let dataports = config.channels.iter().flat_map(|channel| &channel.dataports);
    let homes = dataports.filter_map(|one| Some((one.gpa?, one.gpa?.saturating_add(one.window.len))));
    homes.reduce(|(first, end), (from, to)| (first.min(from), end.max(to)))
}
