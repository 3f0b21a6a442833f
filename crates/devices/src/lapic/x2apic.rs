//! x2APIC mode: the registers as MSRs, and IA32_APIC_BASE, which turns the mode on and off (SDM volume 3, "Extended XAPIC
//! (x2APIC)"). The x2APIC ID is 0, so the logical one is 1: the first of cluster 0.

use super::registers::{self, Register};
use super::{BASE, BASE_MSR, Lapic, MASKED, SPURIOUS_WRITABLE, Vectors};

/// The MSRs: the register at offset `n * 16` is number `0x800 + n`.
pub const MSRS: core::ops::RangeInclusive<u32> = 0x800..=0x83f;
/// The one that sends an interrupt to its own processor, and that there is no other way to.
const SELF_IPI: u32 = 0x83f;

/// Of IA32_APIC_BASE: x2APIC mode.
const EXTENDED: u64 = 1 << 10;
/// Of IA32_APIC_BASE: enabled.
const ON: u64 = 1 << 11;
const OFF: u64 = BASE_MSR & !ON;
const _: () = assert!(OFF & !0x1ff == BASE, "the address is what is left");
const X2APIC: u64 = BASE_MSR | EXTENDED;

const LOGICAL_ID: u64 = 1;
const ALL: u32 = u32::MAX;
/// Bits of an LVT entry that are read-only: delivery status and remote IRR.
const LVT_STATUS: u32 = 1 << 12 | 1 << 14;
/// Bits of the divide configuration.
const DIVIDE: u64 = 0xb;

/// How software gets at the registers (SDM, table "x2APIC Operating Mode Configurations").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interface {
    /// Not at all: the APIC is disabled, and LINT0 is the processor's INTR pin.
    Off,
    /// As memory: an xAPIC.
    Memory,
    /// As MSRs: an x2APIC.
    Msrs,
}

/// The access is #GP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused;

impl Lapic {
    /// IA32_APIC_BASE.
    pub const fn base(&self) -> u64 {
        match self.interface {
            Interface::Off => OFF,
            Interface::Memory => BASE_MSR,
            Interface::Msrs => X2APIC,
        }
    }

    /// WRMSR to IA32_APIC_BASE. The address stays; an xAPIC becomes an x2APIC, and an x2APIC an xAPIC by way of being disabled, which
    /// resets it (SDM, "x2APIC State Transitions"). An xAPIC itself cannot be disabled here.
    pub fn set_base(&mut self, value: u64) -> Result<(), Refused> {
        let to = match value {
            OFF => Interface::Off,
            BASE_MSR => Interface::Memory,
            X2APIC => Interface::Msrs,
            _ => return Err(Refused),
        };
        match (self.interface, to) {
            (from, to) if from == to => {}
            (Interface::Off, Interface::Memory) | (Interface::Memory, Interface::Msrs) => self.interface = to,
            (Interface::Msrs, Interface::Off) => {
                let ended = core::mem::replace(&mut self.tmr, Vectors::NONE);
                *self = Self { interface: to, svr: 0xff, lvt: [MASKED; registers::LVT], ended, ..Self::new() };
            }
            _ => return Err(Refused),
        }
        Ok(())
    }

    /// RDMSR of one of [`MSRS`].
    pub fn read_msr(&mut self, number: u32, tsc: u64) -> Result<u64, Refused> {
        let register = self.register(number)?;
        self.advance(tsc);
        match register {
            Register::LogicalDestination => Ok(LOGICAL_ID),
            Register::Command => Ok(u64::from(self.icr[1]) << 32 | u64::from(self.icr[0])),
            Register::End
            | Register::SelfIpi
            | Register::DestinationFormat
            | Register::Destination
            | Register::Unused => Err(Refused),
            other => Ok(self.read_register(other, tsc).into()),
        }
    }

    /// WRMSR to one of [`MSRS`]. A reserved bit that is set is #GP, and changes nothing.
    pub fn write_msr(&mut self, number: u32, value: u64, tsc: u64) -> Result<(), Refused> {
        let register = self.register(number)?;
        let writable: u64 = match register {
            Register::Command => !u64::from(u32::MAX) | u64::from(registers::COMMAND_WRITABLE),
            Register::TaskPriority | Register::SelfIpi => 0xff,
            Register::End | Register::ErrorStatus => 0,
            Register::Spurious => SPURIOUS_WRITABLE.into(),
            Register::Lvt(entry) => (entry.writable() | LVT_STATUS).into(),
            Register::InitialCount => u32::MAX.into(),
            Register::Divide => DIVIDE,
            _ => return Err(Refused),
        };
        if value & !writable != 0 {
            return Err(Refused);
        }
        self.advance(tsc);
        if register == Register::Command {
            self.icr[1] = (value >> 32) as u32;
        }
        self.write_register(register, value as u32, tsc);
        Ok(())
    }

    /// Whether the destination of an interrupt command, in ICR, is this processor.
    pub(super) const fn is_addressed_x2(&self, logical: bool) -> bool {
        let destination = self.icr[1];
        let cluster = destination >> 16 == 0;
        destination == ALL || if logical { cluster && destination as u64 & LOGICAL_ID != 0 } else { destination == 0 }
    }

    fn register(&self, number: u32) -> Result<Register, Refused> {
        let offset = (number.wrapping_sub(*MSRS.start()) << 4) as u16;
        match self.interface {
            Interface::Msrs if number == SELF_IPI => Ok(Register::SelfIpi),
            Interface::Msrs => Register::at(offset).ok_or(Refused),
            Interface::Off | Interface::Memory => Err(Refused),
        }
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use std::vec::Vec;

    use super::*;
    use crate::Width;

    // Numbers and bits are written again from the SDM.
    const XAPIC: u64 = 0xfee0_0900;
    const X2APIC: u64 = 0xfee0_0d00;
    const OFF: u64 = 0xfee0_0100;

    fn x2apic() -> Lapic {
        let mut lapic = Lapic::new();
        lapic.set_base(X2APIC).unwrap();
        lapic
    }

    fn write(lapic: &mut Lapic, number: u32, value: u64) -> Result<(), Refused> {
        lapic.write_msr(number, value, 0)
    }

    fn read(lapic: &mut Lapic, number: u32) -> Result<u64, Refused> {
        lapic.read_msr(number, 0)
    }

    #[test]
    fn modes_change_as_the_sdm_says() {
        let mut lapic = Lapic::new();
        assert_eq!(lapic.base(), XAPIC);
        for refused in [OFF, 0xfee0_0500, 0xfed0_0900, 0xfee0_0800, 0xfee0_0901, 1 << 40 | XAPIC] {
            assert_eq!(lapic.set_base(refused), Err(Refused), "{refused:#x}");
        }
        assert_eq!((lapic.set_base(X2APIC), lapic.base()), (Ok(()), X2APIC));
        assert_eq!(lapic.set_base(XAPIC), Err(Refused), "by way of being disabled only");
        assert_eq!((lapic.set_base(OFF), lapic.base()), (Ok(()), OFF));
        assert_eq!(lapic.set_base(X2APIC), Err(Refused));
        assert_eq!((lapic.set_base(XAPIC), lapic.base()), (Ok(()), XAPIC));
    }

    #[test]
    fn there_is_one_interface_at_a_time() {
        let mut lapic = Lapic::new();
        for number in MSRS {
            assert_eq!((read(&mut lapic, number), write(&mut lapic, number, 0)), (Err(Refused), Err(Refused)));
        }
        lapic.write(0x80, Width::Dword, 0x30, 0);
        lapic.set_base(X2APIC).unwrap();
        assert_eq!(read(&mut lapic, 0x808), Ok(0x30), "the registers keep their values");
        lapic.write(0x80, Width::Dword, 0x40, 0);
        assert_eq!((read(&mut lapic, 0x808), lapic.read(0x80, Width::Dword, 0)), (Ok(0x30), 0xffff_ffff));
        assert!(!lapic.end_quietly(0xb0));
    }

    #[test]
    fn each_register_has_its_number_and_its_direction() {
        let mut lapic = x2apic();
        let readable: Vec<u32> = MSRS.filter(|&number| read(&mut lapic, number).is_ok()).collect();
        let ranges = [0x802..=0x803, 0x808..=0x808, 0x80a..=0x80a, 0x80d..=0x80d, 0x80f..=0x828, 0x830..=0x830]
            .into_iter()
            .chain([0x832..=0x839, 0x83e..=0x83e]);
        assert_eq!(readable, ranges.flatten().collect::<Vec<u32>>());
        let writable: Vec<u32> = MSRS.filter(|&number| write(&mut lapic, number, 0).is_ok()).collect();
        let ranges = [0x808..=0x808, 0x80b..=0x80b, 0x80f..=0x80f, 0x828..=0x828, 0x830..=0x830, 0x832..=0x838];
        assert_eq!(writable, ranges.into_iter().chain([0x83e..=0x83f]).flatten().collect::<Vec<u32>>());
        assert_eq!([0x802, 0x803, 0x80d].map(|number| read(&mut lapic, number)), [Ok(0), Ok(0x0005_0015), Ok(1)]);
    }

    #[test]
    fn reserved_bits_are_refused() {
        let mut lapic = x2apic();
        for (number, value) in [
            (0x808, 0x100),
            (0x80b, 1),
            (0x80f, 0x1ff | 1 << 12),
            (0x828, 1),
            (0x830, 1 << 12 | 0xfb),
            (0x832, 1 << 19),
            (0x838, 1 << 32),
            (0x83e, 4),
            (0x83f, 0x100),
        ] {
            assert_eq!(write(&mut lapic, number, value), Err(Refused), "{number:#x} {value:#x}");
        }
        assert!(!lapic.pending());
    }

    #[test]
    fn an_interrupt_goes_to_whom_its_command_names() {
        const LOGICAL: u64 = 1 << 11;
        const ALL: u64 = 0xffff_ffff << 32;
        for (command, arrives) in [
            (0xfb, true),
            (1 << 32 | 0xfb, false),
            (0xff << 32 | 0xfb, false),
            (ALL | 0xfb, true),
            (ALL | LOGICAL | 0xfb, true),
            (1 << 32 | LOGICAL | 0xfb, true),
            (2 << 32 | LOGICAL | 0xfb, false),
            (0x1_0001 << 32 | LOGICAL | 0xfb, false),
            (3 << 18 | 0xfb, false),
        ] {
            let mut lapic = x2apic();
            write(&mut lapic, 0x830, command).unwrap();
            assert_eq!(lapic.pending(), arrives, "{command:#x}");
            assert_eq!(read(&mut lapic, 0x830), Ok(command));
        }
    }

    #[test]
    fn an_interrupt_to_itself_is_taken_and_ended_by_msrs() {
        let mut lapic = x2apic();
        write(&mut lapic, 0x83f, 0xfb).unwrap();
        assert_eq!(read(&mut lapic, 0x827), Ok(1 << 27));
        assert_eq!(lapic.acknowledge(), Some(0xfb));
        assert_eq!(read(&mut lapic, 0x80a), Ok(0xf0));
        write(&mut lapic, 0x80b, 0).unwrap();
        assert_eq!((read(&mut lapic, 0x817), read(&mut lapic, 0x80a)), (Ok(0), Ok(0)));
    }

    #[test]
    fn a_disabled_one_lets_the_8259_through_and_has_forgotten_all() {
        let mut lapic = x2apic();
        write(&mut lapic, 0x835, 1 << 16 | 0x700).unwrap();
        lapic.receive_level(0x31);
        assert!(!lapic.passes_external() && lapic.pending());
        lapic.set_base(OFF).unwrap();
        assert!(lapic.passes_external() && !lapic.pending() && !lapic.accepts());
        assert!(lapic.take_ended().contains(0x31), "its sender may send it again");
        lapic.set_base(XAPIC).unwrap();
        assert!(!lapic.passes_external(), "as after a reset, LINT0 is masked");
        assert_eq!(lapic.read(0xf0, Width::Dword, 0), 0xff);
    }
}
