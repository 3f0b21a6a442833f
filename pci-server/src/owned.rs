//! A function that the description passes through, with its owner, and what a reset of it puts back.

use heapless::Vec;
use layout::limits::MAX_FUNCTION_LINES;
use proto::pci::{Function, GrantedLine};

use crate::hardware::Machine;
use crate::msix::Msix;
use crate::refusals::is_logged;
use crate::reset::{Reset, is_there, reset};
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
    /// It has not answered since a reset, so nothing could be restored. It decodes no addresses and, as after any reset, reports no errors.
    pub away: bool,
    /// How many resets have left it away.
    pub absences: u32,
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
        self.away = !is_there(machine, &self.function);
        if self.away {
            self.absences = self.absences.saturating_add(1);
            if is_logged(self.absences) {
                log::warn!("{}: does not answer after its reset", self.function.address);
            }
        } else if let Some(msix) = &mut self.msix {
            msix.reset(machine, self.function.address);
        }
        done
    }

    /// Restores what the reset before could not, if the function answers now: drivers poll configuration space for longer than this
    /// server waits. Returns whether it is there: until then reads give all ones and writes are lost, as drivers expect that poll it.
    #[inline]
    pub fn settle(&mut self, machine: &mut impl Machine) -> bool {
        if self.away && is_there(machine, &self.function) {
            self.come_back(machine);
        }
        !self.away
    }

    #[cold]
    fn come_back(&mut self, machine: &mut impl Machine) {
        self.away = false;
        self.space.restore(machine);
        if let Some(msix) = &mut self.msix {
            msix.reset(machine, self.function.address);
        }
        if is_logged(self.absences) {
            log::info!("{}: answers again", self.function.address);
        }
    }
}
