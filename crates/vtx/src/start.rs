//! The processor as a 32-bit boot protocol wants it (Linux, Documentation/arch/x86/boot.rst): flat 4 GiB segments,
//! interrupts off, and everything else as after a reset (SDM volume 3, "Processor State After Reset"). `cr` has the
//! control registers.

use crate::{
    event,
    vmcs::{ExitControls, PinControls, SecondaryControls, Vmcs, VmcsField as F, access_rights},
};

/// The parameters that a boot protocol leaves open.
#[derive(Clone, Copy, Debug)]
pub struct Start {
    /// Selector of the flat code segment.
    pub code: u16,
    /// Selector of the flat data segment.
    pub data: u16,
    /// Address and limit of the GDT.
    pub gdt: (u64, u32),
    /// The VMX-preemption timer's count: at zero, the guest exits, until it is written again.
    pub preemption: u32,
    /// A kernel with 64-bit guests sets the entry control "IA-32e mode guest" in every new VCPU, and this state is that
    /// of 32-bit code. A kernel without them may refuse the field.
    pub clear_entry_controls: bool,
}

const DR7_RESET: u64 = 0x400;
/// RFLAGS as after a reset.
pub const RFLAGS_RESET: u64 = 0x2;

/// Sets a virtual CPU to that state. Returns whether it has a preemption timer.
pub fn set(vmcs: &mut impl Vmcs, start: &Start) -> bool {
    let (gdt, gdt_limit) = start.gdt;
    let data = u64::from(start.data);
    for (selector, base, limit, rights) in [
        (F::GuestEsSelector, F::GuestEsBase, F::GuestEsLimit, F::GuestEsAccessRights),
        (F::GuestSsSelector, F::GuestSsBase, F::GuestSsLimit, F::GuestSsAccessRights),
        (F::GuestDsSelector, F::GuestDsBase, F::GuestDsLimit, F::GuestDsAccessRights),
        (F::GuestFsSelector, F::GuestFsBase, F::GuestFsLimit, F::GuestFsAccessRights),
        (F::GuestGsSelector, F::GuestGsBase, F::GuestGsLimit, F::GuestGsAccessRights),
    ] {
        segment(vmcs, [selector, base, limit, rights], [data, 0, 0xffff_ffff, access_rights::FLAT_DATA.into()]);
    }
    let code = [F::GuestCsSelector, F::GuestCsBase, F::GuestCsLimit, F::GuestCsAccessRights];
    segment(vmcs, code, [start.code.into(), 0, 0xffff_ffff, access_rights::FLAT_CODE.into()]);
    let ldt = [F::GuestLdtrSelector, F::GuestLdtrBase, F::GuestLdtrLimit, F::GuestLdtrAccessRights];
    segment(vmcs, ldt, [0, 0, 0xffff, access_rights::UNUSABLE.into()]);
    let task = [F::GuestTrSelector, F::GuestTrBase, F::GuestTrLimit, F::GuestTrAccessRights];
    segment(vmcs, task, [0, 0, 0xffff, access_rights::BUSY_TSS.into()]);
    for (field, value) in [
        (F::GuestGdtrBase, gdt),
        (F::GuestGdtrLimit, gdt_limit.into()),
        (F::GuestIdtrBase, 0),
        (F::GuestIdtrLimit, 0),
        (F::GuestRsp, 0),
        (F::GuestRflags, RFLAGS_RESET),
        (F::GuestDr7, DR7_RESET),
        (F::GuestDebugctl, 0),
        (F::GuestInterruptibility, 0),
        (F::GuestActivity, 0),
        (F::GuestPendingDebug, 0),
        (F::GuestSysenterCs, 0),
        (F::GuestSysenterEsp, 0),
        (F::GuestSysenterEip, 0),
        (F::ExceptionBitmap, event::EXITING.into()),
        (F::SecondaryControls, SecondaryControls::WBINVD.bits().into()),
    ] {
        vmcs.write(field, value);
    }
    if start.clear_entry_controls {
        vmcs.write(F::EntryControls, 0);
    }
    preemption_timer(vmcs, start.preemption)
}

/// Turns on the preemption timer and the saving of its remaining count, if the processor has both; one without the
/// other is of no use. The kernel clears controls that the processor does not have, so reading them back shows which it
/// has.
fn preemption_timer(vmcs: &mut impl Vmcs, count: u32) -> bool {
    const PIN: PinControls = PinControls::EXTERNAL_INTERRUPT.union(PinControls::NMI).union(PinControls::VIRTUAL_NMIS);
    const PIN_TIMER: PinControls = PIN.union(PinControls::PREEMPTION_TIMER);
    const SAVE: ExitControls = ExitControls::SAVE_PREEMPTION_TIMER;
    vmcs.write(F::PinControls, PIN_TIMER.bits().into());
    vmcs.write(F::ExitControls, SAVE.bits().into());
    let pin = PinControls::from_bits_retain(vmcs.read(F::PinControls) as u32);
    let exit = ExitControls::from_bits_retain(vmcs.read(F::ExitControls) as u32);
    let there = pin.contains(PIN_TIMER) && exit.contains(SAVE);
    if there {
        vmcs.write(F::PreemptionTimer, count.into());
    } else {
        vmcs.write(F::PinControls, PIN.bits().into());
        vmcs.write(F::ExitControls, 0);
    }
    there
}

fn segment(vmcs: &mut impl Vmcs, fields: [F; 4], values: [u64; 4]) {
    for (field, value) in fields.into_iter().zip(values) {
        vmcs.write(field, value);
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use std::collections::BTreeMap;

    use super::*;
    use crate::{msr::Gp, syscall::SyscallMsr};

    impl Vmcs for BTreeMap<F, u64> {
        fn read(&mut self, field: F) -> u64 {
            self.get(&field).copied().unwrap_or(0)
        }

        fn write(&mut self, field: F, value: u64) {
            self.insert(field, value);
        }

        fn read_msr(&mut self, msr: SyscallMsr) -> u64 {
            unreachable!("{msr:?} is no part of this state")
        }

        fn write_msr(&mut self, msr: SyscallMsr, _value: u64) -> Result<(), Gp> {
            unreachable!("{msr:?} is no part of this state")
        }
    }

    /// SDM volume 3, table "Definitions of VM-Entry Controls": bit 9.
    #[test]
    fn ia_32e_mode_is_switched_off_where_the_kernel_presets_it() {
        for (clear_entry_controls, expected) in [(true, 0), (false, 1 << 9)] {
            let mut fields = BTreeMap::from([(F::EntryControls, 1 << 9)]);
            set(&mut fields, &Start { code: 8, data: 16, gdt: (0, 0), preemption: 1, clear_entry_controls });
            assert_eq!(fields.get(&F::EntryControls), Some(&expected));
        }
    }
}
