//! The registers (AHCI 1.3.1, section 3), by the names that they have there.

/// What a controller that is not there reads as.
pub const ABSENT: u32 = u32::MAX;
/// The alignment of the structures in memory: that of the command list is the largest, and the others are placed behind it.
pub const ALIGN: u64 = 1024;

// Of the controller: capabilities, global control, interrupt status, ports implemented, further capabilities, handover from
// the firmware (BOHC).
pub const CAP: u32 = 0x00;
pub const GHC: u32 = 0x04;
pub const IS: u32 = 0x08;
pub const PI: u32 = 0x0c;
pub const CAP2: u32 = 0x24;
pub const HANDOVER: u32 = 0x28;
/// The first port's registers, and how far the next one's are.
pub const PORT: u32 = 0x100;
pub const PORT_STEP: u32 = 0x80;

// Of a port: command list, received frames (64 bits each), interrupt status and enable, command, task file, signature, SATA
// status, control and error, commands issued.
pub const CLB: u32 = 0x00;
pub const FB: u32 = 0x08;
pub const PX_IS: u32 = 0x10;
pub const PX_IE: u32 = 0x14;
pub const CMD: u32 = 0x18;
pub const TFD: u32 = 0x20;
pub const SIG: u32 = 0x24;
pub const SSTS: u32 = 0x28;
pub const SCTL: u32 = 0x2c;
pub const SERR: u32 = 0x30;
pub const CI: u32 = 0x38;

/// Global control: the registers are AHCI's.
pub const AHCI: u32 = 1 << 31;
/// SATA status: what is at the port, and that it is there and its link is up.
pub const DET: u32 = 0xf;
pub const DET_PRESENT: u32 = 3;

/// Bits of the registers.
pub struct Bits;

impl Bits {
    /// Capabilities: addresses of 64 bits.
    pub const S64A: u32 = 1 << 31;
    /// Further capabilities: handover.
    pub const BOH: u32 = 1 << 0;
    /// Handover: the firmware owns the controller; the system wants it; the firmware is busy.
    pub const BOS: u32 = 1 << 0;
    pub const OOS: u32 = 1 << 1;
    pub const BB: u32 = 1 << 4;
    /// Global control: reset, interrupts.
    pub const HR: u32 = 1 << 0;
    pub const IE: u32 = 1 << 1;

    /// Command: start, spin up, power on, receive frames; that commands and frames are processed.
    pub const ST: u32 = 1 << 0;
    pub const SUD: u32 = 1 << 1;
    pub const POD: u32 = 1 << 2;
    pub const FRE: u32 = 1 << 4;
    pub const FR: u32 = 1 << 14;
    pub const CR: u32 = 1 << 15;
    /// Of a port that is on, but receives nothing and carries out nothing.
    pub const POWERED: u32 = Self::SUD | Self::POD;
    /// Task file.
    pub const ERR: u32 = 1 << 0;
    pub const DRQ: u32 = 1 << 3;
    pub const DF: u32 = 1 << 5;
    pub const BSY: u32 = 1 << 7;
    /// SATA control: reset of the link; the link never goes to sleep, which would look as if the disk had gone.
    pub const COMRESET: u32 = 1;
    pub const NO_SLUMBER: u32 = 3 << 8;

    /// Interrupts: a frame that ends a command (Register, or PIO Setup).
    pub const ENDS: u32 = 1 << 0 | 1 << 1;
    /// The link has changed (PCS, PRCS).
    pub const LINK: u32 = 1 << 6 | 1 << 22;
    /// The disk reports an error in the task file (TFES).
    pub const DISK_ERROR: u32 = 1 << 30;
    /// Overflow, interface, host bus data, host bus (OFS, IFS, HBDS, HBFS).
    pub const ERRORS: u32 = 1 << 24 | 1 << 27 | 1 << 28 | 1 << 29;
    /// All of these.
    pub const INTERRUPTS: u32 = Self::ENDS | Self::LINK | Self::DISK_ERROR | Self::ERRORS;
}
