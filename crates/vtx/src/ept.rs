//! Device memory in the guest's physical address space. Maps frames that the process was handed in the guest's EPT, and
//! adds missing paging structures from a stock. Structures are never unmapped.

use sel4::{CapRights, Error, VmAttributes, cap};

use crate::stock::{Stock, Unused};

/// Frame sizes, as log2 of the bytes.
const SMALL: u8 = 12;
const LARGE: u8 = 21;

/// Why a frame is not mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MapError {
    /// The size is neither 4 KiB nor 2 MiB.
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

    /// Unmaps a frame. Unmapping one that is not mapped is no error.
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

    /// Adds the paging structures that are missing at `gpa`. The kernel's refusal of a page table shows that the page
    /// directory is missing too.
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

/// The structure is mapped already: the process did so before it was restarted.
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
