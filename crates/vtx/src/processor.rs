//! The two kinds of processor that guests can have.

/// The processor that guests of a kernel have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Processor {
    /// Without long mode.
    Bits32,
    /// With long mode, an EFER and a PAT of the guest's own.
    Bits64,
}
