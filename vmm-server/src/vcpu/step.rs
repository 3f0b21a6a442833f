//! A step that the vCPU is in, over an instruction that the processor executes on page tables of the VMM: what
//! [`crate::native`] puts back after it.

use super::tables::Tables;

/// The step that a guest is in, if it is.
#[derive(Clone, Debug, Default)]
pub struct Native(pub(crate) Option<NativeStep>);

/// What to put back after it, and what it has so far.
#[derive(Clone, Debug)]
pub(crate) struct NativeStep {
    pub cr3: u64,
    pub cr4: u64,
    /// With PAE paging: an exit with any other leaves nothing of value in these fields.
    pub pdptes: Option<[u64; 4]>,
    pub dr6: u64,
    /// The instruction.
    pub rip: u64,
    /// The guest is single-stepping itself.
    pub stepped: bool,
    /// Breakpoints that MOV SS has hit, whose trap comes after the instruction.
    pub pending: u64,
    pub tables: Tables,
}

impl Native {
    /// Whether the guest is in a step. No interrupt may be injected then.
    pub const fn is_active(&self) -> bool {
        self.0.is_some()
    }
}
