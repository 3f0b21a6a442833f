//! CPtrs, paths to slots, and the operations on slots (seL4 manual, chapter 3).

use crate::{Badge, CapRights, Result, WORD_BITS, Word, cap, sys};

/// An address in the caller's CSpace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CPtr(Word);

impl CPtr {
    /// The CPtr `bits`.
    pub const fn from_bits(bits: Word) -> Self {
        Self(bits)
    }

    /// The CPtr as a word.
    pub const fn bits(self) -> Word {
        self.0
    }
}

/// The path to a slot below some CNode: the upper bits of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CPtrWithDepth {
    bits: Word,
    depth: u8,
}

impl CPtrWithDepth {
    /// The CNode itself: no bits are looked up.
    pub const EMPTY: Self = Self { bits: 0, depth: 0 };

    /// `depth` bits of `bits` are looked up.
    pub const fn from_bits_with_depth(bits: Word, depth: u8) -> Self {
        Self { bits, depth }
    }

    /// The address to look up.
    pub const fn bits(self) -> Word {
        self.bits
    }

    /// How many of its bits are looked up.
    pub const fn depth(self) -> u8 {
        self.depth
    }
}

impl From<CPtr> for CPtrWithDepth {
    /// All bits are looked up.
    fn from(cptr: CPtr) -> Self {
        Self { bits: cptr.bits(), depth: WORD_BITS as u8 }
    }
}

impl<T> From<cap::Cap<T>> for CPtrWithDepth {
    fn from(cap: cap::Cap<T>) -> Self {
        cap.cptr().into()
    }
}

impl cap::CNode {
    /// The slot at `path` in this CNode.
    pub fn absolute_cptr(self, path: impl Into<CPtrWithDepth>) -> AbsoluteCPtr {
        AbsoluteCPtr { root: self, path: path.into() }
    }
}

/// A slot: a CNode and a path below it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AbsoluteCPtr {
    root: cap::CNode,
    path: CPtrWithDepth,
}

impl AbsoluteCPtr {
    /// The CNode in which the look-up starts.
    pub const fn root(&self) -> cap::CNode {
        self.root
    }

    /// The path to look up.
    pub const fn path(&self) -> CPtrWithDepth {
        self.path
    }

    /// Copies the capability at `source` to this slot, with at most `rights`.
    pub fn copy(&self, source: &Self, rights: CapRights) -> Result<()> {
        let (to, from) = (self.path, source.path);
        sys::seL4_CNode_Copy(
            self.root.bits(),
            to.bits,
            to.depth,
            source.root.bits(),
            from.bits,
            from.depth,
            rights.into_sys(),
        )
    }

    /// Mints the capability at `source` to this slot, with at most `rights` and with `badge`.
    pub fn mint(&self, source: &Self, rights: CapRights, badge: Badge) -> Result<()> {
        self.mint_word(source, rights, badge)
    }

    /// Mints the CNode capability at `source` to this slot, with a guard.
    pub fn mint_cnode(&self, source: &Self, rights: CapRights, guard: CNodeCapData) -> Result<()> {
        self.mint_word(source, rights, guard.into_word())
    }

    pub(crate) fn mint_word(&self, source: &Self, rights: CapRights, data: Word) -> Result<()> {
        let (to, from) = (self.path, source.path);
        sys::seL4_CNode_Mint(
            self.root.bits(),
            to.bits,
            to.depth,
            source.root.bits(),
            from.bits,
            from.depth,
            rights.into_sys(),
            cap_data(data),
        )
    }

    /// Moves the capability at `source` to this slot.
    pub fn move_from(&self, source: &Self) -> Result<()> {
        let (to, from) = (self.path, source.path);
        sys::seL4_CNode_Move(self.root.bits(), to.bits, to.depth, source.root.bits(), from.bits, from.depth)
    }

    /// Deletes the capability in this slot, and its object if it is the last capability to it.
    pub fn delete(&self) -> Result<()> {
        sys::seL4_CNode_Delete(self.root.bits(), self.path.bits, self.path.depth)
    }

    /// Deletes every capability derived from the one in this slot.
    pub fn revoke(&self) -> Result<()> {
        sys::seL4_CNode_Revoke(self.root.bits(), self.path.bits, self.path.depth)
    }
}

/// The guard of a CNode: bits of a CPtr that must match before the index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CNodeCapData {
    guard: Word,
    bits: u8,
}

impl CNodeCapData {
    /// A guard of `bits` bits.
    pub const fn new(guard: Word, bits: u8) -> Self {
        Self { guard, bits }
    }

    /// The guard with which a CNode of 2^`radix` slots is addressed by small numbers: zeros above the index.
    pub const fn skip_high_bits(radix: u8) -> Self {
        Self { guard: 0, bits: (WORD_BITS as u8).saturating_sub(radix) }
    }

    /// The encoding for the kernel.
    pub const fn into_word(self) -> Word {
        #[cfg(capdata_union)]
        return sys::seL4_CapData_Guard_new(self.guard, self.bits as Word).words[0];
        #[cfg(not(capdata_union))]
        return sys::seL4_CNode_CapData_new(self.guard, self.bits as Word).words[0];
    }
}

/// A badge or guard in the type that this kernel's invocations have.
#[cfg(capdata_union)]
pub(crate) fn cap_data(word: Word) -> sys::seL4_CapData_t {
    sys::seL4_CapData_t { words: [word] }
}

/// A badge or guard in the type that this kernel's invocations have.
#[cfg(not(capdata_union))]
pub(crate) fn cap_data(word: Word) -> Word {
    word
}
