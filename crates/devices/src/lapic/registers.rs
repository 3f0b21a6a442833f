//! The local APIC's registers by their offsets (SDM volume 3, table "Local APIC Register Address Map"), and the bits of
//! those that have bits.

/// A register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Register {
    Id,
    Version,
    TaskPriority,
    ProcessorPriority,
    End,
    LogicalDestination,
    DestinationFormat,
    Spurious,
    /// 32 vectors of the in-service register.
    InService(u8),
    /// 32 vectors of the trigger mode register.
    TriggerMode(u8),
    /// 32 vectors of the interrupt request register.
    Requested(u8),
    ErrorStatus,
    Command,
    Destination,
    Lvt(Lvt),
    InitialCount,
    CurrentCount,
    Divide,
    /// Sends an interrupt to its own processor. Only an x2APIC has it.
    SelfIpi,
    /// The registers for arbitration between processors, which APICs of this version do not have.
    Unused,
}

impl Register {
    /// The end of interrupt.
    pub const EOI: u16 = 0xb0;

    /// The register at `offset`, or around it.
    pub const fn at(offset: u16) -> Option<Self> {
        Some(match offset & 0xff0 {
            0x020 => Self::Id,
            0x030 => Self::Version,
            0x080 => Self::TaskPriority,
            0x090 | 0x0c0 => Self::Unused,
            0x0a0 => Self::ProcessorPriority,
            Self::EOI => Self::End,
            0x0d0 => Self::LogicalDestination,
            0x0e0 => Self::DestinationFormat,
            0x0f0 => Self::Spurious,
            at @ 0x100..0x180 => Self::InService((at >> 4) as u8 & 7),
            at @ 0x180..0x200 => Self::TriggerMode((at >> 4) as u8 & 7),
            at @ 0x200..0x280 => Self::Requested((at >> 4) as u8 & 7),
            0x280 => Self::ErrorStatus,
            0x300 => Self::Command,
            0x310 => Self::Destination,
            0x320 => Self::Lvt(Lvt::Timer),
            0x330 => Self::Lvt(Lvt::Thermal),
            0x340 => Self::Lvt(Lvt::Performance),
            0x350 => Self::Lvt(Lvt::Lint0),
            0x360 => Self::Lvt(Lvt::Lint1),
            0x370 => Self::Lvt(Lvt::Error),
            0x380 => Self::InitialCount,
            0x390 => Self::CurrentCount,
            0x3e0 => Self::Divide,
            _ => return None,
        })
    }
}

/// An entry of the local vector table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lvt {
    Timer,
    Thermal,
    Performance,
    Lint0,
    Lint1,
    Error,
}

/// Entries of the local vector table.
pub const LVT: usize = 6;
/// The place of the error's.
pub const ERROR: usize = Lvt::Error as usize;

/// An entry is masked.
pub const MASKED: u32 = 1 << 16;
const VECTOR: u32 = 0xff;
const DELIVERY: u32 = 7 << 8;
const NMI: u32 = 4 << 8;
/// Delivery mode of LINT0 for the 8259: it has the vector.
pub const EXTERNAL: u32 = 7 << 8;
/// The bits of LINT0 that decide whether it passes on the 8259's interrupts.
pub const LINT0: u32 = MASKED | DELIVERY;
/// Polarity and trigger mode, of pins.
const PIN: u32 = 1 << 13 | 1 << 15;
const TIMER_MODE: u32 = 3 << 17;

/// The table for a system that does not program the APIC (virtual wire mode): the 8259 on LINT0, NMI on LINT1.
pub const VIRTUAL_WIRE: [u32; LVT] = [MASKED, MASKED, MASKED, EXTERNAL, NMI, MASKED];

impl Lvt {
    /// Bits that can be written.
    pub const fn writable(self) -> u32 {
        MASKED
            | VECTOR
            | match self {
                Self::Timer => TIMER_MODE,
                Self::Thermal | Self::Performance => DELIVERY,
                Self::Lint0 | Self::Lint1 => DELIVERY | PIN,
                Self::Error => 0,
            }
    }
}

/// Bits of the interrupt command that can be written: all but the delivery status, and reserved ones.
pub const COMMAND_WRITABLE: u32 = 0x000c_cfff;

/// Shorthand of an interrupt command: to its own processor.
pub const TO_SELF: u32 = 1 << 18;

/// Whether an interrupt command is one of a vector: fixed, or for the lowest priority of one processor.
pub const fn is_fixed(command: u32) -> bool {
    command & DELIVERY <= 1 << 8
}
