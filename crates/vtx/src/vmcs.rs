//! VMCS fields and control bits by their SDM names (volume 3, Appendix B "Field Encoding in VMCS" and "VMX
//! Controls"). Guest state, the controls that seL4 lets a VMM set, and read-only exit data; no host state, which is the
//! kernel's. `decodeReadVMCS` and `decodeWriteVMCS` of the kernel say what user space may touch: of the entry controls
//! neither side before 15.0.0 (the pinned kernel has both), of the read-only data only the read.

use bitflags::bitflags;

use crate::{msr::Gp, syscall::SyscallMsr};

/// Access to a VMCS, and to the MSRs that the kernel switches with it: one system call each, or a map in tests.
pub trait Vmcs {
    /// Reads a field.
    fn read(&mut self, field: VmcsField) -> u64;
    /// Writes a field.
    fn write(&mut self, field: VmcsField, value: u64);
    /// The guest's value of an MSR. The kernel has to support 64-bit guests.
    fn read_msr(&mut self, msr: SyscallMsr) -> u64;
    /// Sets it. A value that [the register does not take](SyscallMsr::takes) is #GP, as with WRMSR.
    fn write_msr(&mut self, msr: SyscallMsr, value: u64) -> Result<(), Gp>;
}

/// A field that `VCPU_ReadVMCS` or `VCPU_WriteVMCS` takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u32)]
#[allow(missing_docs)] // selector, base, limit and access rights of each segment register
pub enum VmcsField {
    GuestEsSelector = 0x0800,
    GuestCsSelector = 0x0802,
    GuestSsSelector = 0x0804,
    GuestDsSelector = 0x0806,
    GuestFsSelector = 0x0808,
    GuestGsSelector = 0x080a,
    GuestLdtrSelector = 0x080c,
    GuestTrSelector = 0x080e,

    /// IA32_DEBUGCTL; an entry loads it only on processors whose controls cannot turn "load debug controls" off.
    GuestDebugctl = 0x2802,
    /// IA32_PAT: saved at exits, loaded at entries with [`EntryControls::LOAD_PAT`]. Without, the guest runs with the host's.
    GuestPat = 0x2804,
    /// IA32_EFER: saved at exits, loaded at entries with [`EntryControls::LOAD_EFER`]. Without, LMA and LME are as
    /// [`EntryControls::IA_32E_MODE`] says, and the other bits the host's. The pinned kernel takes SCE, LME, LMA and NXE.
    GuestEfer = 0x2806,
    /// First of the four page-directory-pointer-table entries that an entry loads where the guest uses PAE.
    GuestPdpte0 = 0x280a,
    /// See `GuestPdpte0`.
    GuestPdpte1 = 0x280c,
    /// See `GuestPdpte0`.
    GuestPdpte2 = 0x280e,
    /// See `GuestPdpte0`.
    GuestPdpte3 = 0x2810,

    /// [`PinControls`].
    PinControls = 0x4000,
    /// [`PrimaryControls`]. VMEnter sets it as well, from message register 1.
    PrimaryControls = 0x4002,
    /// A bit per exception vector that exits. Leave #NM (bit 7) clear: see [`crate::cr`]. The kernel forces #DB and #AC.
    ExceptionBitmap = 0x4004,
    /// [`ExitControls`].
    ExitControls = 0x400c,
    /// [`EntryControls`]. Not in kernels before 15.0.0, except for the pinned one, which takes those.
    EntryControls = 0x4012,
    /// Event to inject, see [`crate::event`]. VMEnter sets it as well, from message register 2.
    EntryInterruptionInfo = 0x4016,
    /// Its error code: zero, as the VMM does not write it (decision 0007).
    EntryExceptionErrorCode = 0x4018,
    /// Length of its instruction, if it is a software event: zero, as the VMM does not write it.
    EntryInstructionLength = 0x401a,
    /// [`SecondaryControls`]: write only.
    SecondaryControls = 0x401e,

    /// Why VMLAUNCH or VMRESUME failed.
    InstructionError = 0x4400,
    /// Exception or NMI that caused the exit, as [`crate::event`] lays it out.
    ExitInterruptionInfo = 0x4404,
    /// Its error code.
    ExitInterruptionErrorCode = 0x4406,
    /// Event whose delivery the exit cut short.
    IdtVectoringInfo = 0x4408,
    /// Its error code.
    IdtVectoringErrorCode = 0x440a,
    /// Length of the instruction that exited.
    ExitInstructionLength = 0x440c,
    /// Operands of the instruction that exited; which bits depends on the reason.
    ExitInstructionInfo = 0x440e,

    GuestEsLimit = 0x4800,
    GuestCsLimit = 0x4802,
    GuestSsLimit = 0x4804,
    GuestDsLimit = 0x4806,
    GuestFsLimit = 0x4808,
    GuestGsLimit = 0x480a,
    GuestLdtrLimit = 0x480c,
    GuestTrLimit = 0x480e,
    GuestGdtrLimit = 0x4810,
    GuestIdtrLimit = 0x4812,
    /// [`access_rights`], as for the next seven.
    GuestEsAccessRights = 0x4814,
    GuestCsAccessRights = 0x4816,
    GuestSsAccessRights = 0x4818,
    GuestDsAccessRights = 0x481a,
    GuestFsAccessRights = 0x481c,
    GuestGsAccessRights = 0x481e,
    GuestLdtrAccessRights = 0x4820,
    GuestTrAccessRights = 0x4822,
    /// [`Interruptibility`].
    GuestInterruptibility = 0x4824,
    /// [`activity`].
    GuestActivity = 0x4826,
    GuestSysenterCs = 0x482a,
    /// Counts down while the guest runs, at the TSC's rate shifted right by IA32_VMX_MISC[4:0].
    PreemptionTimer = 0x482e,

    /// Bits of CR0 that the VMM owns: the guest reads the shadow's, and a write that differs from it exits.
    Cr0Mask = 0x6000,
    /// The same for CR4.
    Cr4Mask = 0x6002,
    /// What the guest reads in the owned bits of CR0.
    Cr0Shadow = 0x6004,
    /// What the guest reads in the owned bits of CR4.
    Cr4Shadow = 0x6006,

    /// RCX before a string I/O instruction exited; valid only where IA32_VMX_BASIC[54] says so.
    IoRcx = 0x6402,
    /// Linear address of an EPT violation's operand, or of a string I/O's.
    GuestLinearAddress = 0x640a,

    /// CR0 as the processor uses it. The kernel forces NE, and on a processor without "unrestricted guest" PE and PG.
    GuestCr0 = 0x6800,
    /// CR3 as the processor uses it.
    GuestCr3 = 0x6802,
    /// CR4 as the processor uses it. The kernel forces VMXE.
    GuestCr4 = 0x6804,
    GuestEsBase = 0x6806,
    GuestCsBase = 0x6808,
    GuestSsBase = 0x680a,
    GuestDsBase = 0x680c,
    GuestFsBase = 0x680e,
    GuestGsBase = 0x6810,
    GuestLdtrBase = 0x6812,
    GuestTrBase = 0x6814,
    GuestGdtrBase = 0x6816,
    GuestIdtrBase = 0x6818,
    /// DR7: saved at exits, loaded at entries like `GuestDebugctl`.
    GuestDr7 = 0x681a,
    GuestRsp = 0x681c,
    /// VMEnter sets it as well, from message register 0.
    GuestRip = 0x681e,
    GuestRflags = 0x6820,
    /// #DB conditions that wait for the next instruction boundary.
    GuestPendingDebug = 0x6822,
    GuestSysenterEsp = 0x6824,
    GuestSysenterEip = 0x6826,

    /// DR0. This and the next four are in no VMCS: the kernel keeps them with it, where `sel4-config` says
    /// `X86_VTX_GUEST_DEBUG_REGISTERS`, and refuses them elsewhere.
    GuestDr0 = 0x1_0000,
    /// DR1.
    GuestDr1 = 0x1_0001,
    /// DR2.
    GuestDr2 = 0x1_0002,
    /// DR3.
    GuestDr3 = 0x1_0003,
    /// DR6. At an exit for #DB, the kernel records the reasons in it; a write sets only B0 to B3, BD, BS and BT.
    GuestDr6 = 0x1_0006,
    /// How often this guest's cached address translations were discarded; read only, and in no VMCS either.
    TranslationsDiscarded = 0x1_0010,
}

bitflags! {
    /// Pin-based controls. The kernel forces the first three.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct PinControls: u32 {
        /// Interrupts exit, whatever the guest's RFLAGS.IF.
        const EXTERNAL_INTERRUPT = 1 << 0;
        /// NMIs exit.
        const NMI = 1 << 3;
        /// NMI blocking is the guest's own.
        const VIRTUAL_NMIS = 1 << 5;
        /// The preemption timer counts.
        const PREEMPTION_TIMER = 1 << 6;
    }
}

bitflags! {
    /// VM-exit controls. The kernel forces those that the host needs.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct ExitControls: u32 {
        /// An exit saves what is left of the preemption timer; else the next entry begins with the same count. Not without
        /// [`PinControls::PREEMPTION_TIMER`].
        const SAVE_PREEMPTION_TIMER = 1 << 22;
    }
}

bitflags! {
    /// VM-entry controls.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct EntryControls: u32 {
        /// The guest is in long mode: in 64-bit mode or in compatibility mode, as its code segment says.
        const IA_32E_MODE = 1 << 9;
        /// An entry loads `GuestPat`.
        const LOAD_PAT = 1 << 14;
        /// An entry loads `GuestEfer`.
        const LOAD_EFER = 1 << 15;
    }
}

bitflags! {
    /// Primary processor-based controls. The kernel forces I/O bitmaps, MSR bitmaps and the secondary controls.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct PrimaryControls: u32 {
        /// Exit as soon as the guest can take an interrupt.
        const INTERRUPT_WINDOW = 1 << 2;
        /// RDTSC adds the TSC offset. Useless here: the kernel lets no VMM set the offset.
        const TSC_OFFSET = 1 << 3;
        /// HLT exits.
        const HLT = 1 << 7;
        /// INVLPG exits.
        const INVLPG = 1 << 9;
        /// MWAIT exits.
        const MWAIT = 1 << 10;
        /// RDPMC exits.
        const RDPMC = 1 << 11;
        /// RDTSC exits.
        const RDTSC = 1 << 12;
        /// MOV to CR3 exits. A processor without "true" controls forces it, and the next.
        const CR3_LOAD = 1 << 15;
        /// MOV from CR3 exits.
        const CR3_STORE = 1 << 16;
        /// MOV to CR8 exits. Without it, 64-bit code writes the task priority of the host's local APIC; our kernel forces it.
        const CR8_LOAD = 1 << 19;
        /// MOV from CR8 exits.
        const CR8_STORE = 1 << 20;
        /// Exit as soon as the guest can take an NMI.
        const NMI_WINDOW = 1 << 22;
        /// MOV to or from a debug register exits.
        const MOV_DR = 1 << 23;
        /// All I/O exits; the bitmaps below overrule it.
        const UNCONDITIONAL_IO = 1 << 24;
        /// I/O exits by the bitmaps, which `VCPU_EnableIOPort` edits.
        const IO_BITMAPS = 1 << 25;
        /// Exit after one instruction.
        const MONITOR_TRAP = 1 << 27;
        /// MSR accesses exit by the bitmap: all but those of SYSENTER and, with 64-bit guests, the bases of
        /// FS and GS.
        const MSR_BITMAPS = 1 << 28;
        /// MONITOR exits.
        const MONITOR = 1 << 29;
        /// PAUSE exits.
        const PAUSE = 1 << 30;
        /// The secondary controls count.
        const SECONDARY = 1 << 31;
    }
}

bitflags! {
    /// Secondary processor-based controls. The kernel forces EPT, and VPID where there is one. Each instruction that
    /// has an enable bit here raises #UD in the guest while the bit is clear, which is how CPUID comes to hide it.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct SecondaryControls: u32 {
        /// Second-level address translation.
        const EPT = 1 << 1;
        /// LGDT and its kin exit.
        const DESCRIPTOR_TABLE = 1 << 2;
        /// RDTSCP works.
        const RDTSCP = 1 << 3;
        /// Tagged TLB entries.
        const VPID = 1 << 5;
        /// WBINVD exits.
        const WBINVD = 1 << 6;
        /// CR0.PE and CR0.PG may be clear. WriteVMCS returns it clear where the processor does not have it.
        const UNRESTRICTED_GUEST = 1 << 7;
        /// INVPCID works.
        const INVPCID = 1 << 12;
        /// XSAVES and XRSTORS work.
        const XSAVES = 1 << 20;
        /// UMWAIT, TPAUSE and UMONITOR work.
        const USER_WAIT = 1 << 26;
    }
}

bitflags! {
    /// What keeps events out of the guest for now (SDM "Guest Non-Register State").
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Interruptibility: u32 {
        /// The instruction after STI.
        const STI = 1 << 0;
        /// The instruction after MOV or POP to SS.
        const MOV_SS = 1 << 1;
        /// After an SMI.
        const SMI = 1 << 2;
        /// From an NMI to its IRET.
        const NMI = 1 << 3;
        /// What lasts for one instruction.
        const SHADOW = Self::STI.bits() | Self::MOV_SS.bits();
    }
}

/// Values of `GuestActivity`.
pub mod activity {
    /// Runs.
    pub const ACTIVE: u32 = 0;
    /// Sits in HLT; an injected event ends it. A HLT that exits leaves the guest active.
    pub const HLT: u32 = 1;
}

/// Values of the `…AccessRights` fields: a descriptor's second doubleword, bits 8 to 23, shifted down by eight.
pub mod access_rights {
    /// 32-bit code, ring 0, readable, accessed, limit in pages.
    pub const FLAT_CODE: u32 = 0xc09b;
    /// 32-bit data, ring 0, writable, accessed, limit in pages.
    pub const FLAT_DATA: u32 = 0xc093;
    /// A busy 32-bit TSS: TR may hold nothing less.
    pub const BUSY_TSS: u32 = 0x008b;
    /// No segment at all.
    pub const UNUSABLE: u32 = 0x1_0000;
    /// 64-bit code, ring 0, readable, accessed, limit in pages.
    pub const LONG_CODE: u32 = 0xa09b;
    /// In `GuestCsAccessRights`: 64-bit code, if the processor is in long mode.
    pub const LONG: u32 = 1 << 13;
    /// In `GuestCsAccessRights`: 32-bit default operand and address size.
    pub const DEFAULT_BIG: u32 = 1 << 14;
    /// In `GuestSsAccessRights`: where the current privilege level is.
    pub const DPL_SHIFT: u32 = 5;
}
