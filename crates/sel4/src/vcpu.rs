//! Virtual processors (seL4 manual, section 7.3; Intel SDM volume 3, chapters 24 to 27).
//!
//! [`vm_enter`](cap::VCpu::vm_enter) is the hot path: one system call, with four words each way in registers. The other
//! words of an exit stay in the IPC buffer until a method reads them.

#[cfg(not(vtx))]
use crate::vspace::without_vtx;
use crate::{Badge, Result, Word, cap, sys};

/// The guest's general registers, without the stack pointer; r8 to r15 only if the kernel supports 64-bit guests.
pub type VCpuContext = sys::seL4_VCPUContext;

/// How many registers that is.
pub const REGISTERS: usize = size_of::<VCpuContext>() / size_of::<Word>();

/// The registers, in the kernel's order: rax, rbx, rcx, rdx, rsi, rdi, rbp, r8 to r15. A kernel without 64-bit guests takes
/// the first seven.
#[inline]
pub const fn context(registers: &[Word; 15]) -> VCpuContext {
    let &[eax, ebx, ecx, edx, esi, edi, ebp, ..] = registers;
    #[cfg(guests_of_64_bits)]
    let &[.., r8, r9, r10, r11, r12, r13, r14, r15] = registers;
    VCpuContext {
        eax,
        ebx,
        ecx,
        edx,
        esi,
        edi,
        ebp,
        #[cfg(guests_of_64_bits)]
        r8,
        #[cfg(guests_of_64_bits)]
        r9,
        #[cfg(guests_of_64_bits)]
        r10,
        #[cfg(guests_of_64_bits)]
        r11,
        #[cfg(guests_of_64_bits)]
        r12,
        #[cfg(guests_of_64_bits)]
        r13,
        #[cfg(guests_of_64_bits)]
        r14,
        #[cfg(guests_of_64_bits)]
        r15,
    }
}

/// The arguments of a VM entry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VmEnter {
    /// The guest's instruction pointer.
    pub rip: Word,
    /// Primary processor-based controls (SDM table 24-6); the kernel sets further bits that it requires.
    pub primary_controls: Word,
    /// VM-entry interruption information (SDM table 24-16): an event to inject, or zero.
    pub entry_info: Word,
}

/// Why VMEnter returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VmEnterResult {
    /// The notification bound to the thread was signalled.
    Signal {
        /// Its bits.
        badge: Badge,
        /// The guest's state, for the next entry.
        guest: VmEnter,
    },
    /// The guest exited.
    Fault(VmFault),
}

/// A VM exit. The methods read the IPC buffer, so call them before the next invocation or message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VmFault {
    /// The guest's state at the exit. `entry_info` is an event whose delivery the exit interrupted.
    pub guest: VmEnter,
    /// The exit reason (SDM appendix C).
    pub reason: Word,
}

/// Message words of an exit that are not in registers.
macro_rules! fault_words {
    ($($(#[$doc:meta])* $name:ident = $index:ident;)*) => {
        impl VmFault {
            $($(#[$doc])*
            #[cfg(vtx)]
            #[inline]
            pub fn $name(&self) -> Word {
                sys::get_mr(sys::$index as usize)
            })*
        }
    };
}

fault_words! {
    /// The exit qualification (SDM section 27.2.1).
    qualification = SEL4_VMENTER_FAULT_QUALIFICATION_MR;
    /// The length of the instruction that caused the exit, if one did.
    instruction_length = SEL4_VMENTER_FAULT_INSTRUCTION_LEN_MR;
    /// The guest-physical address of an EPT violation.
    guest_physical = SEL4_VMENTER_FAULT_GUEST_PHYSICAL_MR;
    /// The guest's RFLAGS.
    rflags = SEL4_VMENTER_FAULT_RFLAGS_MR;
    /// The guest's interruptibility state (SDM table 24-3).
    interruptibility = SEL4_VMENTER_FAULT_GUEST_INT_MR;
    /// The guest's CR3.
    cr3 = SEL4_VMENTER_FAULT_CR3_MR;
}

#[cfg(vtx)]
impl VmFault {
    /// One of the guest's general registers, below [`REGISTERS`]: its place in [`VCpuContext`].
    #[inline(always)]
    pub fn register(&self, place: usize) -> Word {
        sys::get_mr(register_index(place))
    }

    /// Changes the register in the message, and thus the results of [`Self::register`] and [`Self::registers`].
    #[inline(always)]
    pub fn set_register(&mut self, place: usize, value: Word) {
        sys::set_mr(register_index(place), value);
    }

    /// The guest's general registers.
    #[inline]
    pub fn registers(&self) -> VCpuContext {
        VCpuContext::from_message(sys::SEL4_VMENTER_FAULT_EAX as usize)
    }
}

/// The message word of a register. Modulo 16, so that every index is inside the message without a check.
#[cfg(vtx)]
#[inline(always)]
const fn register_index(place: usize) -> usize {
    sys::SEL4_VMENTER_FAULT_EAX as usize + place % 16
}

// `vm_enter` relies on these positions of the message words.
#[cfg(vtx)]
const _: () = assert!(
    sys::SEL4_VMENTER_CALL_EIP_MR == 0
        && sys::SEL4_VMENTER_CALL_CONTROL_PPC_MR == 1
        && sys::SEL4_VMENTER_CALL_CONTROL_ENTRY_MR == 2
        && sys::SEL4_VMENTER_FAULT_REASON_MR == 3
);
// The registers of an exit have the order of the structure.
#[cfg(vtx)]
const _: () = assert!(sys::SEL4_VMENTER_FAULT_EBP == sys::SEL4_VMENTER_FAULT_EAX + 6);
#[cfg(guests_of_64_bits)]
const _: () = assert!(sys::SEL4_VMENTER_FAULT_R8 == sys::SEL4_VMENTER_FAULT_EAX + 7);
#[cfg(guests_of_64_bits)]
const _: () = assert!(sys::SEL4_VMENTER_FAULT_R15 == sys::SEL4_VMENTER_FAULT_EAX + 14 && REGISTERS == 15);

impl cap::VCpu {
    /// Runs the guest of this virtual processor, which must be bound to the calling thread, until it exits or the
    /// thread's bound notification is signalled.
    #[inline]
    #[cfg(vtx)]
    pub fn vm_enter(self, enter: &VmEnter) -> VmEnterResult {
        let mrs = [enter.rip, enter.primary_controls, enter.entry_info, 0];
        let back = sys::syscall::call(sys::seL4_SysVMEnter, self.bits(), 0, mrs);
        let [rip, primary_controls, entry_info, reason] = back.mrs;
        let guest = VmEnter { rip, primary_controls, entry_info };
        if back.info == sys::SEL4_VMENTER_RESULT_FAULT {
            VmEnterResult::Fault(VmFault { guest, reason })
        } else {
            VmEnterResult::Signal { badge: back.badge, guest }
        }
    }

    /// Binds the virtual processor to a thread.
    pub fn vcpu_set_tcb(self, tcb: cap::Tcb) -> Result<()> {
        #[cfg(vtx)]
        return sys::seL4_X86_VCPU_SetTCB(self.bits(), tcb.bits());
        #[cfg(not(vtx))]
        return without_vtx(tcb);
    }

    /// Reads a field of the VMCS (SDM appendix B). The kernel allows only some fields.
    #[inline]
    pub fn vcpu_read_vmcs(self, field: u32) -> Result<Word> {
        #[cfg(vtx)]
        return sys::seL4_X86_VCPU_ReadVMCS(self.bits(), field.into());
        #[cfg(not(vtx))]
        return without_vtx(field);
    }

    /// Writes a field of the VMCS. The kernel allows only some fields. Returns the value written, which includes the
    /// bits that the kernel requires.
    #[inline]
    pub fn vcpu_write_vmcs(self, field: u32, value: Word) -> Result<Word> {
        #[cfg(vtx)]
        return sys::seL4_X86_VCPU_WriteVMCS(self.bits(), field.into(), value);
        #[cfg(not(vtx))]
        return without_vtx((field, value));
    }

    /// Sets the guest's general registers.
    #[inline]
    #[cfg(vtx)]
    pub fn vcpu_write_registers(self, registers: &VCpuContext) -> Result<()> {
        sys::seL4_X86_VCPU_WriteRegisters(self.bits(), registers)
    }

    /// Reads an MSR of the guest that the kernel switches: STAR, LSTAR, CSTAR, FMASK, and on the pinned kernel KERNEL_GS_BASE and
    /// TSC_AUX. Other MSRs are refused, and all of them by a kernel without 64-bit guests.
    #[inline]
    pub fn vcpu_read_msr(self, number: u32) -> Result<Word> {
        #[cfg(guests_of_64_bits)]
        return sys::seL4_X86_VCPU_ReadMSR(self.bits(), number.into());
        #[cfg(not(guests_of_64_bits))]
        return without_64_bits(number);
    }

    /// Writes one. Returns the value written.
    #[inline]
    pub fn vcpu_write_msr(self, number: u32, value: Word) -> Result<Word> {
        #[cfg(guests_of_64_bits)]
        return sys::seL4_X86_VCPU_WriteMSR(self.bits(), number.into(), value);
        #[cfg(not(guests_of_64_bits))]
        return without_64_bits((number, value));
    }

    /// Clears the I/O bitmap for the ports `first` to `last` of `ports`: the guest accesses them without an exit.
    pub fn vcpu_enable_io_port(self, ports: cap::IoPort, first: u16, last: u16) -> Result<()> {
        #[cfg(vtx)]
        return sys::seL4_X86_VCPU_EnableIOPort(self.bits(), ports.bits(), first.into(), last.into());
        #[cfg(not(vtx))]
        return without_vtx((ports, first, last));
    }

    /// Sets the I/O bitmap for the ports `first` to `last`: accesses exit.
    pub fn vcpu_disable_io_port(self, first: u16, last: u16) -> Result<()> {
        #[cfg(vtx)]
        return sys::seL4_X86_VCPU_DisableIOPort(self.bits(), first.into(), last.into());
        #[cfg(not(vtx))]
        return without_vtx((first, last));
    }
}

/// As a kernel answers that does not know the invocation.
#[cfg(not(guests_of_64_bits))]
fn without_64_bits<T>(_arguments: impl Sized) -> Result<T> {
    Err(crate::Error::IllegalOperation)
}

impl cap::Tcb {
    /// Sets the EPT root for the thread's VM entries.
    pub fn tcb_set_ept_root(self, ept: cap::EptPml4) -> Result<()> {
        #[cfg(vtx)]
        return sys::seL4_TCB_SetEPTRoot(self.bits(), ept.bits());
        #[cfg(not(vtx))]
        return without_vtx(ept);
    }
}
