//! The processor as Linux's boot protocols want it (Documentation/arch/x86/boot.rst): flat segments, interrupts off, and
//! everything else as after a reset (SDM volume 3, "Processor State After Reset"). `cr` has the control registers.
//!
//! [`set`] makes the state of the 32-bit protocol, in which every life begins; [`set_long`] makes that of the 64-bit protocol
//! of it.

use crate::{
    cpuid::Processor,
    event,
    msr::PAT_RESET,
    syscall::SyscallMsr,
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
    /// What the kernel supports. With [`Processor::Bits64`], the caller sets the entry controls by [`crate::cr::Program::long`]
    /// before the first entry; without, the kernel may refuse the field.
    pub processor: Processor,
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
    ] {
        vmcs.write(field, value);
    }
    let mut secondary = SecondaryControls::WBINVD;
    if start.processor == Processor::Bits64 {
        secondary |= SecondaryControls::RDTSCP | SecondaryControls::INVPCID;
        vmcs.write(F::GuestPat, PAT_RESET);
        for msr in SyscallMsr::ALL {
            // All of them take a zero.
            let _ = vmcs.write_msr(msr, 0);
        }
    }
    vmcs.write(F::SecondaryControls, secondary.bits().into());
    preemption_timer(vmcs, start.preemption)
}

/// Changes that state to the one of the 64-bit boot protocol: code of 64 bits. Control registers are those of
/// [`crate::cr::ControlRegisters::start_long`].
pub fn set_long(vmcs: &mut impl Vmcs) {
    vmcs.write(F::GuestCsAccessRights, access_rights::LONG_CODE.into());
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
            unreachable!("{msr:?} is not read")
        }

        fn write_msr(&mut self, _: SyscallMsr, value: u64) -> Result<(), Gp> {
            assert_eq!(value, 0);
            Ok(())
        }
    }

    fn started(processor: Processor) -> BTreeMap<F, u64> {
        let mut fields = BTreeMap::new();
        set(&mut fields, &Start { code: 8, data: 16, gdt: (0, 0), preemption: 1, processor });
        fields
    }

    /// SDM volume 3, table "Definitions of Secondary Processor-Based VM-Execution Controls".
    #[test]
    fn a_kernel_without_64_bit_guests_sees_no_field_of_theirs() {
        let fields = started(Processor::Bits32);
        assert_eq!([F::EntryControls, F::GuestEfer, F::GuestPat].map(|field| fields.get(&field)), [None; 3]);
        assert_eq!(fields.get(&F::SecondaryControls), Some(&(1 << 6)));
        let fields = started(Processor::Bits64);
        assert_eq!(fields.get(&F::SecondaryControls), Some(&(1 << 6 | 1 << 3 | 1 << 12)));
        assert_eq!(fields.get(&F::GuestPat), Some(&0x0007_0406_0007_0406));
    }

    /// A segment with L and D both set is refused (SDM volume 3, "Checks on Guest Segment Registers").
    #[test]
    fn code_of_64_bits_has_l_and_not_d() {
        let mut fields = started(Processor::Bits64);
        set_long(&mut fields);
        assert_eq!(fields.get(&F::GuestCsAccessRights).map(|rights| rights >> 13 & 3), Some(1));
    }
}
