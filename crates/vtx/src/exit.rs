//! A VM exit, decoded. SDM volume 3, "VM Exits" (exit qualifications) and Appendix C (basic exit reasons).
//! Decoding is total and pure: every value of every field gives an `Exit`, and every bit field of an exit is here.
//! What an exit does not carry (interruption information, the linear address, instruction information) stays in the
//! VMCS; the few exits that need it say so.

pub use crate::words::RawExit;
pub use arch::Width;

use crate::{gpr::Gpr, words::Words};

/// Basic exit reasons that a busy guest has (Appendix C).
#[allow(missing_docs)]
pub mod reason {
    pub const CPUID: u32 = 10;
    pub const IO: u32 = 30;
    pub const RDMSR: u32 = 31;
    pub const WRMSR: u32 = 32;
    pub const EPT_VIOLATION: u32 = 48;
    pub const PREEMPTION_TIMER: u32 = 52;
}

/// Why the guest stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// An exception of the exception bitmap, or an NMI; which one is in the VMCS (`ExitInterruptionInfo`).
    ExceptionOrNmi,
    /// An interrupt for the host. The kernel keeps this one to itself.
    ExternalInterrupt,
    /// A fault while delivering a double fault.
    TripleFault,
    /// An INIT signal.
    Init,
    /// A start-up IPI with this vector.
    Sipi(u8),
    /// An SMI, right after an I/O instruction or at another time.
    Smi,
    /// The guest can take an interrupt now (asked for by `PrimaryControls::INTERRUPT_WINDOW`).
    InterruptWindow,
    /// The guest can take an NMI now.
    NmiWindow,
    /// A hardware task switch, by CALL, JMP, IRET or through a task gate.
    TaskSwitch {
        /// Selector of the new task's TSS.
        selector: u16,
        /// What started it.
        source: TaskSwitchSource,
    },
    /// CPUID: leaf in EAX, subleaf in ECX.
    Cpuid,
    /// GETSEC; exits before its checks.
    Getsec,
    /// HLT.
    Hlt,
    /// INVD.
    Invd,
    /// INVLPG of this linear address.
    Invlpg(u64),
    /// RDPMC.
    Rdpmc,
    /// RDTSC.
    Rdtsc,
    /// RSM.
    Rsm,
    /// VMCALL, from any privilege level.
    Vmcall,
    /// VMXOFF, VMXON, VMREAD, … or VMFUNC. They exit before their privilege check.
    VmxInstruction,
    /// MOV to or from a control register, CLTS or LMSW.
    CrAccess(CrAccess),
    /// MOV to or from a debug register.
    DrAccess(DrAccess),
    /// IN, OUT, INS or OUTS.
    Io(Io),
    /// RDMSR of the register in ECX.
    Rdmsr,
    /// WRMSR to the register in ECX.
    Wrmsr,
    /// The guest was not entered. Its state is as the VMM left it.
    EntryFailure(EntryFailure),
    /// MWAIT.
    Mwait,
    /// One instruction has run under the monitor trap flag.
    MonitorTrap,
    /// MONITOR.
    Monitor,
    /// PAUSE, or too many of them in a loop.
    Pause,
    /// The virtual TPR fell below its threshold.
    TprBelowThreshold,
    /// An access to the APIC-access page at this offset.
    ApicAccess {
        /// Offset in the page, 0 to 0xfff.
        offset: u16,
    },
    /// An EOI of this vector that the VMM wants to see.
    VirtualEoi(u8),
    /// A write to this offset of the virtual-APIC page.
    ApicWrite {
        /// Offset in the page, 0 to 0xfff.
        offset: u16,
    },
    /// LGDT, LIDT, SGDT, SIDT, LLDT, LTR, SLDT or STR, where descriptor-table exiting is on.
    DescriptorTable,
    /// An access that the EPT does not allow.
    EptViolation(EptViolation),
    /// An EPT entry that no processor accepts, found on the way to this guest-physical address. The fault is ours.
    EptMisconfiguration(u64),
    /// RDTSCP.
    Rdtscp,
    /// The VMX-preemption timer reached zero.
    PreemptionTimer,
    /// WBINVD or WBNOINVD.
    Wbinvd,
    /// XSETBV, where CR4.OSXSAVE is set. The check of privilege comes first (SDM volume 3, "Relative Priority of Faults and VM
    /// Exits"), but not in Bochs.
    Xsetbv,
    /// RDRAND.
    Rdrand,
    /// INVPCID.
    Invpcid,
    /// ENCLS or ENCLV.
    Enclave,
    /// RDSEED.
    Rdseed,
    /// The page-modification log is full.
    PageLogFull,
    /// XSAVES or XRSTORS.
    SupervisorXsave,
    /// PCONFIG.
    Pconfig,
    /// A miss or misconfiguration of sub-page permissions.
    SubPage,
    /// UMWAIT or TPAUSE.
    UserWait,
    /// LOADIWKEY.
    LoadIwkey,
    /// A reason that the SDM reserves, or one newer than this list; also a control-register exit that makes no sense.
    Other(u32),
}

/// What a task switch began with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum TaskSwitchSource {
    Call,
    Iret,
    Jmp,
    TaskGate,
}

/// A control register with an exit of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Cr {
    Cr0,
    Cr3,
    Cr4,
    Cr8,
}

/// An access to a control register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CrAccess {
    /// MOV `cr`, `gpr`.
    MovTo {
        /// Destination.
        cr: Cr,
        /// Source.
        gpr: Gpr,
    },
    /// MOV `gpr`, `cr`.
    MovFrom {
        /// Source.
        cr: Cr,
        /// Destination.
        gpr: Gpr,
    },
    /// CLTS.
    Clts,
    /// LMSW.
    Lmsw {
        /// The operand; only its low four bits reach CR0.
        value: u16,
    },
}

/// An access to a debug register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DrAccess {
    /// Which one, 0 to 7.
    pub dr: u8,
    /// To the register (`Out`) or from it (`In`).
    pub direction: Direction,
    /// The other operand.
    pub gpr: Gpr,
}

/// Which way data goes, seen from the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Into the guest's register or memory.
    In,
    /// Out of the guest.
    Out,
}

/// An I/O instruction. The data is in AL, AX or EAX, or, for a string access, in memory: `VmcsField::GuestLinearAddress`
/// has the operand's linear address, segment base included.
///
/// This is the exit that a guest takes most, so it stays as the processor gave it until somebody asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Io(Bits);

impl Io {
    /// First port.
    pub const fn port(self) -> u16 {
        self.0.field(16, 16) as u16
    }

    /// Bytes per access.
    pub const fn width(self) -> Width {
        /// By the size of the access less one, of which the SDM reserves 2 and all above 3.
        const WIDTHS: [Width; 8] = {
            let mut widths = [Width::Dword; 8];
            (widths[0], widths[1]) = (Width::Byte, Width::Word);
            widths
        };
        WIDTHS[self.0.field(0, 3) as usize]
    }

    /// All ones in the width of an access.
    pub const fn mask(self) -> u32 {
        const MASKS: [u32; 8] = {
            let mut masks = [u32::MAX; 8];
            (masks[0], masks[1]) = (0xff, 0xffff);
            masks
        };
        MASKS[self.0.field(0, 3) as usize]
    }

    /// The bits of RAX that an IN leaves alone.
    pub const fn kept(self) -> u64 {
        const KEPT: [u64; 8] = {
            let mut kept = [0; 8];
            (kept[0], kept[1]) = (!0xff, !0xffff);
            kept
        };
        KEPT[self.0.field(0, 3) as usize]
    }

    /// IN or OUT.
    pub const fn direction(self) -> Direction {
        if self.0.set(3) { Direction::In } else { Direction::Out }
    }

    /// INS or OUTS.
    pub const fn string(self) -> bool {
        self.0.set(4)
    }

    /// With a REP prefix: the count is in CX or ECX. A count of zero exits too, on some processors.
    pub const fn rep(self) -> bool {
        self.0.set(5)
    }

    /// The port number is part of the instruction, not in DX.
    pub const fn immediate(self) -> bool {
        self.0.set(6)
    }
}

impl From<Io> for Width {
    #[inline(always)]
    fn from(io: Io) -> Width {
        io.width()
    }
}

/// An access that the EPT refused. Like [`Io`], it keeps the raw exit qualification, and decodes a field only when it
/// is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EptViolation {
    /// Guest-physical address, to the byte.
    pub gpa: u64,
    qualification: Bits,
}

impl EptViolation {
    /// The access reads. A read-modify-write has this or [`write`](Self::write) or both.
    pub const fn read(self) -> bool {
        self.qualification.set(0)
    }

    /// The access writes.
    pub const fn write(self) -> bool {
        self.qualification.set(1)
    }

    /// The access fetches an instruction.
    pub const fn exec(self) -> bool {
        self.qualification.set(2)
    }

    /// What the processor was after.
    pub const fn target(self) -> EptTarget {
        match (self.qualification.set(7), self.qualification.set(8)) {
            (false, _) => EptTarget::NoLinear,
            (true, false) => EptTarget::PageWalk,
            (true, true) => EptTarget::Operand,
        }
    }

    /// IRET had just unblocked NMIs when it faulted, so blocking has to be put back before the instruction is retried.
    pub const fn nmi_unblocked(self) -> bool {
        self.qualification.set(12)
    }

    /// Whether an instruction reads its operand (`In`), or writes it (`Out`), and does not do both.
    #[inline(always)]
    pub const fn is_operand(self, direction: Direction) -> bool {
        const READ: u64 = 1 << 0;
        const WRITE: u64 = 1 << 1;
        const EXEC: u64 = 1 << 2;
        const OPERAND: u64 = 1 << 7 | 1 << 8;
        let access = match direction {
            Direction::In => READ,
            Direction::Out => WRITE,
        };
        self.qualification.0 & (READ | WRITE | EXEC | OPERAND) == OPERAND | access
    }
}

/// What an EPT violation's guest-physical address belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EptTarget {
    /// The address that an instruction used; `GuestLinearAddress` is valid.
    Operand,
    /// An entry of the guest's paging structures.
    PageWalk,
    /// No linear address at all, as when MOV to CR3 loads the PDPTEs.
    NoLinear,
}

/// Why a VM entry did not happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryFailure {
    /// VMLAUNCH or VMRESUME refused; `InstructionError` in the VMCS has the number.
    Instruction,
    /// The guest state fails the checks of "Checks on the Guest State Area".
    GuestState,
    /// The MSR-load area is bad.
    MsrLoad,
    /// A machine check during the entry.
    MachineCheck,
}

impl Exit {
    /// Decodes an exit. Never fails; what has no meaning becomes [`Exit::Other`].
    ///
    /// Reads no more words than the kind of exit has a meaning for. Inlined into a match, it is that match.
    #[inline(always)]
    pub fn decode(exit: &impl Words) -> Exit {
        let reason = exit.reason();
        // First what a busy guest has most.
        if reason == reason::IO {
            return Exit::Io(Io(Bits(exit.qualification())));
        }
        if reason == u32::MAX {
            return Exit::EntryFailure(EntryFailure::Instruction);
        }
        let qualification = || Bits(exit.qualification());
        match reason & 0xffff {
            0 => Exit::ExceptionOrNmi,
            1 => Exit::ExternalInterrupt,
            2 => Exit::TripleFault,
            3 => Exit::Init,
            4 => Exit::Sipi(exit.qualification() as u8),
            5 | 6 => Exit::Smi,
            7 => Exit::InterruptWindow,
            8 => Exit::NmiWindow,
            9 => task_switch(qualification()),
            10 => Exit::Cpuid,
            11 => Exit::Getsec,
            12 => Exit::Hlt,
            13 => Exit::Invd,
            14 => Exit::Invlpg(exit.qualification()),
            15 => Exit::Rdpmc,
            16 => Exit::Rdtsc,
            17 => Exit::Rsm,
            18 => Exit::Vmcall,
            19..=27 | 50 | 53 | 59 => Exit::VmxInstruction,
            28 => cr_access(qualification()).map_or(Exit::Other(28), Exit::CrAccess),
            29 => Exit::DrAccess(dr_access(qualification())),
            30 => Exit::Io(Io(qualification())),
            31 => Exit::Rdmsr,
            32 => Exit::Wrmsr,
            33 => Exit::EntryFailure(EntryFailure::GuestState),
            34 => Exit::EntryFailure(EntryFailure::MsrLoad),
            36 => Exit::Mwait,
            37 => Exit::MonitorTrap,
            39 => Exit::Monitor,
            40 => Exit::Pause,
            41 => Exit::EntryFailure(EntryFailure::MachineCheck),
            43 => Exit::TprBelowThreshold,
            44 => Exit::ApicAccess { offset: qualification().field(0, 12) as u16 },
            45 => Exit::VirtualEoi(exit.qualification() as u8),
            46 | 47 => Exit::DescriptorTable,
            48 => Exit::EptViolation(EptViolation { gpa: exit.guest_physical(), qualification: qualification() }),
            49 => Exit::EptMisconfiguration(exit.guest_physical()),
            51 => Exit::Rdtscp,
            reason::PREEMPTION_TIMER => Exit::PreemptionTimer,
            54 => Exit::Wbinvd,
            55 => Exit::Xsetbv,
            56 => Exit::ApicWrite { offset: qualification().field(0, 12) as u16 },
            57 => Exit::Rdrand,
            58 => Exit::Invpcid,
            60 | 70 => Exit::Enclave,
            61 => Exit::Rdseed,
            62 => Exit::PageLogFull,
            63 | 64 => Exit::SupervisorXsave,
            65 => Exit::Pconfig,
            66 => Exit::SubPage,
            67 | 68 => Exit::UserWait,
            69 => Exit::LoadIwkey,
            other => Exit::Other(other),
        }
    }
}

/// An exit qualification, taken apart by bit position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Bits(u64);

impl Bits {
    const fn set(self, bit: u32) -> bool {
        self.0 >> bit & 1 != 0
    }

    const fn field(self, low: u32, width: u32) -> u64 {
        self.0 >> low & ((1 << width) - 1)
    }

    fn gpr(self) -> Gpr {
        Gpr::from_bits(self.field(8, 4) as u8)
    }
}

fn task_switch(q: Bits) -> Exit {
    let source = match q.field(30, 2) {
        0 => TaskSwitchSource::Call,
        1 => TaskSwitchSource::Iret,
        2 => TaskSwitchSource::Jmp,
        _ => TaskSwitchSource::TaskGate,
    };
    Exit::TaskSwitch { selector: q.field(0, 16) as u16, source }
}

fn cr_access(q: Bits) -> Option<CrAccess> {
    let cr = match q.field(0, 4) {
        0 => Some(Cr::Cr0),
        3 => Some(Cr::Cr3),
        4 => Some(Cr::Cr4),
        8 => Some(Cr::Cr8),
        _ => None,
    };
    Some(match q.field(4, 2) {
        0 => CrAccess::MovTo { cr: cr?, gpr: q.gpr() },
        1 => CrAccess::MovFrom { cr: cr?, gpr: q.gpr() },
        2 => CrAccess::Clts,
        _ => CrAccess::Lmsw { value: q.field(16, 16) as u16 },
    })
}

fn dr_access(q: Bits) -> DrAccess {
    let direction = if q.set(4) { Direction::In } else { Direction::Out };
    DrAccess { dr: q.field(0, 3) as u8, direction, gpr: q.gpr() }
}
