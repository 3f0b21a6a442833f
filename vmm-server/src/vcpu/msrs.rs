//! The MSRs whose values the vCPU has itself, in the VMCS or beside it, and those of its local APIC. `control` writes EFER, since
//! that changes the mode.

use devices::lapic;
use vtx::{
    msr::{self, Own},
    vmcs::{Vmcs, VmcsField},
};

use super::Vcpu;
use crate::{answer::Next, guest::Guest, paging::is_canonical, time::Present};

impl<V: Vmcs> Guest<'_, V> {
    /// Answers a RDMSR that `msr::read` has refused.
    pub(crate) fn read_own_msr(&mut self, now: Present) -> Next {
        let number = self.cpu.exit.gprs.rcx as u32;
        let value = match msr::own(self.cpu.processor(), number) {
            Some(own) => self.cpu.own_msr(own),
            None if lapic::MSRS.contains(&number) => {
                let (value, effect) = self.cpu.read_x2apic(number, now);
                self.join(effect);
                let Ok(value) = value else { return Next::PROTECTION };
                value
            }
            None => return Next::PROTECTION,
        };
        let gprs = self.cpu.gprs_mut();
        (gprs.rax, gprs.rdx) = (value & 0xffff_ffff, value >> 32);
        Next::Skip
    }

    /// Answers a WRMSR to one that is not EFER, which `msr::write` has refused.
    pub(crate) fn write_own_msr(&mut self, number: u32, value: u64, now: Present) -> Next {
        let (written, effect) = match msr::own(self.cpu.processor(), number) {
            Some(Own::ApicBase) => self.cpu.set_apic_base(value),
            Some(own) => return self.cpu.write_own_msr(own, value),
            None if lapic::MSRS.contains(&number) => self.cpu.write_x2apic(number, value, now),
            None => return Next::PROTECTION,
        };
        self.join(effect);
        written.map_or(Next::PROTECTION, |()| Next::Skip)
    }
}

impl<V: Vmcs> Vcpu<V> {
    fn own_msr(&mut self, own: Own) -> u64 {
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

    fn write_own_msr(&mut self, own: Own, value: u64) -> Next {
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
