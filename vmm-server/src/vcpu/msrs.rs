//! The MSRs whose values the vCPU has itself, in the VMCS or beside it. `control` writes EFER, since that changes the mode.

use vtx::{
    msr::{self, Own},
    vmcs::{Vmcs, VmcsField},
};

use super::Vcpu;
use crate::{answer::Next, paging::is_canonical};

impl<V: Vmcs> Vcpu<V> {
    /// The value of such an MSR.
    pub fn own_msr(&mut self, own: Own) -> u64 {
        match own {
            Own::ApicBase => self.lapic.base(),
            Own::Efer => self.control.efer(),
            Own::Pat => self.vmcs.read(VmcsField::GuestPat),
            Own::MtrrDefType => self.mtrr_def_type,
            Own::FsBase => self.vmcs.read(VmcsField::GuestFsBase),
            Own::GsBase => self.vmcs.read(VmcsField::GuestGsBase),
            Own::Syscall(msr) => self.vmcs.read_msr(msr),
        }
    }

    /// Writes one that is neither EFER nor IA32_APIC_BASE.
    pub fn write_own_msr(&mut self, own: Own, value: u64) -> Next {
        match own {
            Own::Pat if msr::pat_is_valid(value) => self.vmcs.write(VmcsField::GuestPat, value),
            Own::MtrrDefType if msr::mtrr_def_type_is_valid(value) => self.mtrr_def_type = value,
            Own::FsBase if is_canonical(value) => self.vmcs.write(VmcsField::GuestFsBase, value),
            Own::GsBase if is_canonical(value) => self.vmcs.write(VmcsField::GuestGsBase, value),
            Own::Syscall(msr) if self.vmcs.write_msr(msr, value).is_ok() => {}
            _ => return Next::PROTECTION,
        }
        Next::Skip
    }
}
