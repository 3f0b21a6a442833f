//! Device memory in the guest's physical address space: frames that a process was handed are mapped in the guest's EPT,
//! with paging structures from a stock where some are missing. The structures stay for good.

use sel4::{CapRights, Error, VmAttributes, cap};

use crate::stock::{Stock, Unused};

/// Frame sizes, as log2 of the bytes.
const SMALL: u8 = 12;
const LARGE: u8 = 21;

/// Why a frame is not mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MapError {
    /// No frame has that size.
    Size,
    /// The stock has no paging structure left.
    Stock,
    /// The kernel refuses; its error.
    Kernel(Error),
}

/// A guest-physical address space, and paging structures for it.
#[derive(Clone, Debug)]
pub struct Ept<S> {
    root: cap::EptPml4,
    directories: Stock<S>,
    tables: Stock<S>,
}

impl<S: Iterator<Item = u64>> Ept<S> {
    /// The address space whose capability is at `root`; `directories` and `tables` are addresses of capabilities to paging
    /// structures that are not mapped yet.
    pub const fn new(root: u64, directories: S, tables: S) -> Self {
        Self { root: cap::EptPml4::from_bits(root), directories: Stock::new(directories), tables: Stock::new(tables) }
    }

    /// Maps the frame of 2^`bits` bytes whose capability is at `frame` at `gpa`, uncached.
    pub fn map(&mut self, frame: u64, bits: u8, gpa: u64) -> Result<(), MapError> {
        match self.try_map(frame, bits, gpa) {
            Err(MapError::Kernel(Error::FailedLookup)) => {
                self.add_structure(bits, gpa)?;
                self.try_map(frame, bits, gpa)
            }
            done => done,
        }
    }

    /// Takes a frame out of the guest's memory. One that is not mapped is none there.
    pub fn unmap(&self, frame: u64, bits: u8) -> Result<(), MapError> {
        let unmapped = match bits {
            SMALL => cap::Granule::from_bits(frame).frame_unmap(),
            LARGE => cap::LargePage::from_bits(frame).frame_unmap(),
            _ => return Err(MapError::Size),
        };
        unmapped.map_err(MapError::Kernel)
    }

    fn try_map(&self, frame: u64, bits: u8, gpa: u64) -> Result<(), MapError> {
        let (rights, attributes) = (CapRights::read_write(), VmAttributes::Uncacheable);
        let mapped = match bits {
            SMALL => cap::Granule::from_bits(frame).frame_map_ept(self.root, gpa, rights, attributes),
            LARGE => cap::LargePage::from_bits(frame).frame_map_ept(self.root, gpa, rights, attributes),
            _ => return Err(MapError::Size),
        };
        mapped.map_err(MapError::Kernel)
    }

    /// Adds what is missing at `gpa`. Whether that is the directory shows when a table finds no place.
    fn add_structure(&mut self, bits: u8, gpa: u64) -> Result<(), MapError> {
        if bits != SMALL {
            return self.add_directory(gpa);
        }
        match self.add_table(gpa) {
            Err(MapError::Kernel(Error::FailedLookup)) => {
                self.add_directory(gpa)?;
                self.add_table(gpa)
            }
            done => done,
        }
    }

    fn add_table(&mut self, gpa: u64) -> Result<(), MapError> {
        let root = self.root;
        let add = |table| cap::EptPageTable::from_bits(table).ept_page_table_map(root, gpa, VmAttributes::DEFAULT);
        self.tables.spend(add, is_mapped).map_err(MapError::from)
    }

    fn add_directory(&mut self, gpa: u64) -> Result<(), MapError> {
        let root = self.root;
        let add = |directory| {
            cap::EptPageDirectory::from_bits(directory).ept_page_directory_map(root, gpa, VmAttributes::DEFAULT)
        };
        self.directories.spend(add, is_mapped).map_err(MapError::from)
    }
}

/// A former life of the process has mapped the structure.
fn is_mapped(error: &Error) -> bool {
    *error == Error::InvalidCapability
}

impl From<Unused<Error>> for MapError {
    fn from(unused: Unused<Error>) -> Self {
        match unused {
            Unused::Empty => Self::Stock,
            Unused::Failed(error) => Self::Kernel(error),
        }
    }
}
