//! The MSRs whose values the vCPU has itself, in the VMCS or beside it. `control` writes EFER, since that changes the mode.

use vtx::{
    msr::{self, Own},
    vmcs::{Vmcs, VmcsField},
};

use super::Vcpu;
use crate::{answer::Next, paging::is_canonical};

impl<V: Vmcs> Vcpu<V> {
    /// Answers a RDMSR that `msr::read` has refused.
    pub(crate) fn read_own_msr(&mut self) -> Next {
        let number = self.exit.gprs.rcx as u32;
        let Some(own) = msr::own(self.processor(), number) else { return Next::PROTECTION };
        let value = match own {
            Own::Efer => self.control.efer(),
            Own::Pat => self.vmcs.read(VmcsField::GuestPat),
            Own::MtrrDefType => self.mtrr_def_type,
            Own::FsBase => self.vmcs.read(VmcsField::GuestFsBase),
            Own::GsBase => self.vmcs.read(VmcsField::GuestGsBase),
            Own::Syscall(msr) => self.vmcs.read_msr(msr),
        };
        let gprs = self.gprs_mut();
        (gprs.rax, gprs.rdx) = (value & 0xffff_ffff, value >> 32);
        Next::Skip
    }

    /// Writes one that is not EFER.
    pub(crate) fn write_own_msr(&mut self, own: Own, value: u64) -> Next {
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
