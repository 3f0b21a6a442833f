//! VMEnter: the way into the guest and back, and the VMCS through the VCPU capability. The only module that makes system
//! calls: one to enter, one more before it if an exit changed a general register, one for each VMCS field touched.
//!
//! The kernel leaves most words of an exit in the IPC buffer, which the next system call overwrites. Reading them all costs
//! as much as answering a simple exit, so [`Unread`] hands them out one by one, and ends with [`Unread::load`].

use sel4::{VmEnter, VmEnterResult, VmFault, cap, vcpu::VCpuContext};

use crate::{
    exit::{Io, RawExit, Width},
    gpr::Gprs,
    vmcs::{Interruptibility, PrimaryControls, Vmcs, VmcsField},
};

const RFLAGS_TF: u64 = 1 << 8;

/// The virtual CPU behind a capability; it belongs to the calling thread.
#[derive(Clone, Copy, Debug)]
pub struct Vcpu(cap::VCpu);

/// Why the guest stopped running.
#[derive(Debug)]
pub enum Wake<'a> {
    /// The thread's notification was signalled.
    Signal {
        /// Its bits.
        bits: u64,
        /// Where the guest stands.
        rip: u64,
        /// The entry-interruption information; its valid bit is set if the event was not delivered.
        inject: u32,
    },
    /// The guest exited.
    Exit(Unread<'a>),
}

/// An exit that is still where the kernel put it. As long as it is there, the virtual CPU that it borrows is not to be had,
/// and no other system call may be made: whoever needs one calls [`load`](Self::load) first.
#[derive(Debug)]
pub struct Unread<'a> {
    vcpu: &'a mut Vcpu,
    fault: VmFault,
}

impl Unread<'_> {
    /// Basic exit reason, as [`RawExit::reason`].
    #[inline]
    pub fn reason(&self) -> u32 {
        self.fault.reason as u32
    }

    /// The I/O instruction that exited, if it was one.
    #[inline]
    pub fn io(&self) -> Option<Io> {
        Io::of(self.reason(), self.fault.qualification())
    }

    /// The guest's RAX.
    #[inline]
    pub fn rax(&self) -> u64 {
        self.fault.rax()
    }

    /// Where the guest goes on after the instruction, if RIP is all that changes with it: no single step, no shadow of STI
    /// or MOV SS.
    #[inline]
    pub fn next(&self) -> Option<u64> {
        let shadow = (Interruptibility::STI | Interruptibility::MOV_SS).bits();
        let more = self.fault.rflags() & RFLAGS_TF | self.fault.interruptibility() & u64::from(shadow);
        let next = self.fault.guest.rip.wrapping_add(self.fault.instruction_length());
        (more == 0).then_some(next & 0xffff_ffff)
    }

    /// All of it.
    #[inline]
    pub fn load(self) -> RawExit {
        raw(&self.fault)
    }

    /// Puts the result of an IN into AL, AX or EAX for the next entry; the narrow ones leave the rest of the register alone.
    #[inline]
    pub fn set_accumulator(self, width: Width, value: u32) {
        let kept = self.rax() as u32 & !width.mask();
        let context = VCpuContext { eax: (kept | value).into(), ..self.fault.registers() };
        allowed(self.vcpu.0.vcpu_write_registers(&context), "registers");
    }
}

impl Vcpu {
    /// The virtual CPU whose capability is at `cptr`.
    pub const fn new(cptr: u64) -> Self {
        Self(cap::VCpu::from_bits(cptr))
    }

    /// Runs the guest from `rip` until it exits or a signal comes. `inject` is an event to deliver first, or zero.
    #[inline]
    pub fn enter(&mut self, rip: u64, primary: PrimaryControls, inject: u32) -> Wake<'_> {
        let enter = VmEnter { rip, primary_controls: primary.bits().into(), entry_info: inject.into() };
        match self.0.vm_enter(&enter) {
            VmEnterResult::Signal { badge, guest } => {
                Wake::Signal { bits: badge, rip: guest.rip, inject: guest.entry_info as u32 }
            }
            VmEnterResult::Fault(fault) => Wake::Exit(Unread { vcpu: self, fault }),
        }
    }

    /// Sets the general registers for the next entry.
    #[inline]
    pub fn set_registers(&self, gprs: &Gprs) {
        let &Gprs { rax, rbx, rcx, rdx, rsi, rdi, rbp } = gprs;
        let context = VCpuContext { eax: rax, ebx: rbx, ecx: rcx, edx: rdx, esi: rsi, edi: rdi, ebp: rbp };
        allowed(self.0.vcpu_write_registers(&context), "registers");
    }

    /// Lets the guest use ports without an exit; `ports` is the address of a capability to them.
    pub fn allow_ports(&self, ports: u64, first: u16, last: u16) -> sel4::Result<()> {
        self.0.vcpu_enable_io_port(cap::IoPort::from_bits(ports), first, last)
    }
}

impl Vmcs for Vcpu {
    fn read(&mut self, field: VmcsField) -> u64 {
        allowed(self.0.vcpu_read_vmcs(field as u32), "read")
    }

    fn write(&mut self, field: VmcsField, value: u64) {
        allowed(self.0.vcpu_write_vmcs(field as u32, value), "write");
    }
}

/// `VmcsField` lists what the kernel allows, so a refusal means that the kernel is not the one this was built for.
fn allowed<T>(result: sel4::Result<T>, what: &str) -> T {
    result.unwrap_or_else(|error| panic!("the kernel refuses the VCPU {what}: {error:?}"))
}

#[inline]
fn raw(fault: &VmFault) -> RawExit {
    let VCpuContext { eax, ebx, ecx, edx, esi, edi, ebp } = fault.registers();
    RawExit {
        reason: fault.reason as u32,
        qualification: fault.qualification(),
        instruction_len: fault.instruction_length() as u32,
        guest_physical: fault.guest_physical(),
        rip: fault.guest.rip,
        rflags: fault.rflags(),
        interruptibility: fault.interruptibility() as u32,
        cr3: fault.cr3(),
        gprs: Gprs { rax: eax, rbx: ebx, rcx: ecx, rdx: edx, rsi: esi, rdi: edi, rbp: ebp },
    }
}
