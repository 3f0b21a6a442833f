//! A function that the description passes through, with its owner, and what a reset of it puts back.

use heapless::Vec;
use layout::limits::MAX_FUNCTION_LINES;
use proto::pci::{Function, GrantedLine};

use crate::hardware::Machine;
use crate::msix::Msix;
use crate::reset::{Reset, reset};
use crate::resources::Resources;
use crate::virtual_space::VirtualSpace;
use crate::wait_budget::WaitBudget;

/// A function with an owner.
pub(crate) struct Owned {
    pub owner: u8,
    /// Index in the configuration.
    pub index: u8,
    pub function: Function,
    pub space: VirtualSpace,
    pub lines: Vec<GrantedLine, MAX_FUNCTION_LINES>,
    pub msix: Option<Msix>,
}

impl Owned {
    /// For the owner's next start, before a reset: its windows begin where the machine has them, and no message is masked.
    pub fn renew(&mut self) {
        self.space.renew();
        if let Some(msix) = &mut self.msix {
            msix.renew();
        }
    }

    /// Resets the function, and restores its configuration space and its table.
    pub fn reset(&mut self, machine: &mut impl Machine, budget: &mut WaitBudget, resources: &Resources) -> Reset {
        let done = reset(machine, budget, &self.function, &mut self.space, resources, self.index);
        if let Some(msix) = &mut self.msix {
            msix.reset(machine, self.function.address);
        }
        done
    }
}
