//! VMEnter: the way into the guest and back, and the VMCS through the VCPU capability. The only module that makes system
//! calls: one to enter, one more before it if an exit changed a general register, one for each VMCS field touched.

use sel4::{VmEnter, VmEnterResult, VmFault, cap, vcpu::VCpuContext};

use crate::{
    exit::RawExit,
    gpr::Gprs,
    vmcs::{PrimaryControls, Vmcs, VmcsField},
};

/// The virtual CPU behind a capability; it belongs to the calling thread.
#[derive(Clone, Copy, Debug)]
pub struct Vcpu(cap::VCpu);

/// Why the guest stopped running.
#[derive(Clone, Copy, Debug)]
pub enum Wake {
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
    Exit(RawExit),
}

impl Vcpu {
    /// The virtual CPU whose capability is at `cptr`.
    pub const fn new(cptr: u64) -> Self {
        Self(cap::VCpu::from_bits(cptr))
    }

    /// Runs the guest from `rip` until it exits or a signal comes. `inject` is an event to deliver first, or zero.
    #[inline]
    pub fn enter(&self, rip: u64, primary: PrimaryControls, inject: u32) -> Wake {
        let enter = VmEnter { rip, primary_controls: primary.bits().into(), entry_info: inject.into() };
        match self.0.vm_enter(&enter) {
            VmEnterResult::Signal { badge, guest } => {
                Wake::Signal { bits: badge, rip: guest.rip, inject: guest.entry_info as u32 }
            }
            VmEnterResult::Fault(fault) => Wake::Exit(raw(&fault)),
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
