//! VMEnter, which runs the guest until an exit or a signal, and VMCS accesses through the VCPU capability. Each
//! operation here is a system call: one to enter, one more before it if an exit changed a general register, one for
//! each VMCS field that is read or written.
//!
//! The kernel leaves most words of an exit in the IPC buffer, which the next system call overwrites. Reading all of
//! them costs as much as answering a simple exit, so [`Unread`] reads them one by one.

use core::marker::PhantomData;

use sel4::{VmEnter, VmEnterResult, VmFault, cap, vcpu};

use crate::{
    exit::RawExit,
    gpr::{Gprs, MessageGpr},
    msr::Gp,
    syscall::SyscallMsr,
    vmcs::{PrimaryControls, Vmcs, VmcsField},
    words::{Message, Words},
};

/// The kernel object of a virtual CPU, by its capability; it belongs to the calling thread.
#[derive(Clone, Copy, Debug)]
pub struct VcpuObject(cap::VCpu);

/// Why the guest stopped running.
#[derive(Debug)]
pub enum Wake<'a> {
    /// The thread's notification was signalled.
    Signal {
        /// Its bits.
        bits: u64,
        /// The guest's RIP.
        rip: u64,
        /// The entry-interruption information; its valid bit is set if the event was not delivered.
        inject: u32,
    },
    /// The guest exited.
    Exit(Unread<'a>),
}

/// An exit that is still in the kernel's message. It borrows the virtual CPU, so that nothing else uses it meanwhile.
/// No other system call may be made either: a caller that needs one calls [`load`](Message::load) first.
#[derive(Debug)]
pub struct Unread<'a> {
    vcpu: VcpuObject,
    fault: VmFault,
    borrowed: PhantomData<&'a mut VcpuObject>,
}

impl Words for Unread<'_> {
    #[inline(always)]
    fn reason(&self) -> u32 {
        self.fault.reason as u32
    }

    #[inline(always)]
    fn qualification(&self) -> u64 {
        self.fault.qualification()
    }

    #[inline(always)]
    fn instruction_len(&self) -> u32 {
        self.fault.instruction_length() as u32
    }

    #[inline(always)]
    fn guest_physical(&self) -> u64 {
        self.fault.guest_physical()
    }

    #[inline(always)]
    fn rip(&self) -> u64 {
        self.fault.guest.rip
    }

    #[inline(always)]
    fn rflags(&self) -> u64 {
        self.fault.rflags()
    }

    #[inline(always)]
    fn interruptibility(&self) -> u32 {
        self.fault.interruptibility() as u32
    }

    #[inline(always)]
    fn cr3(&self) -> u64 {
        self.fault.cr3()
    }

    #[inline(always)]
    fn register(&self, place: MessageGpr) -> u64 {
        self.fault.register(place as usize)
    }
}

impl Message for Unread<'_> {
    #[inline(always)]
    fn set_register(&mut self, place: MessageGpr, value: u64) {
        self.fault.set_register(place as usize, value);
    }

    #[inline(always)]
    fn write_registers(self) {
        allowed(self.vcpu.0.vcpu_write_registers(&self.fault.registers()), "registers");
    }

    #[inline(always)]
    fn load(self, to: &mut RawExit) {
        load(self.fault.guest.rip, self.fault.reason, to);
    }
}

/// Copies the words of an exit: the slow path. It is not inlined, and takes only the two words that are in registers,
/// so that the fast path keeps the other processor registers for itself.
#[cold]
#[inline(never)]
fn load(rip: u64, reason: u64, to: &mut RawExit) {
    let fault = VmFault { guest: VmEnter { rip, ..VmEnter::default() }, reason };
    // One by one: the words are volatile reads, and all of them together would not fit the processor's registers.
    to.reason = reason as u32;
    to.rip = rip;
    to.qualification = fault.qualification();
    to.instruction_len = fault.instruction_length() as u32;
    to.guest_physical = fault.guest_physical();
    to.rflags = fault.rflags();
    to.interruptibility = fault.interruptibility() as u32;
    to.cr3 = fault.cr3();
    let register = |place| match place as usize {
        place if place < vcpu::REGISTERS => fault.register(place),
        _ => 0,
    };
    to.gprs.rax = register(MessageGpr::Rax);
    to.gprs.rbx = register(MessageGpr::Rbx);
    to.gprs.rcx = register(MessageGpr::Rcx);
    to.gprs.rdx = register(MessageGpr::Rdx);
    to.gprs.rsi = register(MessageGpr::Rsi);
    to.gprs.rdi = register(MessageGpr::Rdi);
    to.gprs.rbp = register(MessageGpr::Rbp);
    to.gprs.r8 = register(MessageGpr::R8);
    to.gprs.r9 = register(MessageGpr::R9);
    to.gprs.r10 = register(MessageGpr::R10);
    to.gprs.r11 = register(MessageGpr::R11);
    to.gprs.r12 = register(MessageGpr::R12);
    to.gprs.r13 = register(MessageGpr::R13);
    to.gprs.r14 = register(MessageGpr::R14);
    to.gprs.r15 = register(MessageGpr::R15);
}

impl VcpuObject {
    /// Whether the kernel switches DR0 to DR3 and DR6 with the virtual CPU, and so lets a VMM access them as fields.
    pub const DEBUG_REGISTERS: bool = sel4_config::X86_VTX_GUEST_DEBUG_REGISTERS;
    /// Whether the kernel supports 64-bit guests: see [`crate::start::Start::clear_entry_controls`].
    pub const GUESTS_OF_64_BITS: bool = sel4_config::X86_64_VTX_64BIT_GUESTS;

    /// XCR0 while a guest runs: the kernel's own, which saves that state for each guest. Zero where it saves the FXSAVE state only, or
    /// components that no guest is shown.
    pub const XCR0: u64 = match sel4_config::XSAVE_FEATURE_SET {
        set if sel4_config::XSAVE && set & !crate::cpuid::COMPONENTS == 0 => set,
        _ => 0,
    };

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
            VmEnterResult::Fault(fault) => Wake::Exit(Unread { vcpu: *self, fault, borrowed: PhantomData }),
        }
    }

    /// Sets the general registers for the next entry.
    #[inline]
    pub fn set_registers(&self, gprs: &Gprs) {
        let &Gprs { rax, rbx, rcx, rdx, rsi, rdi, rbp, r8, r9, r10, r11, r12, r13, r14, r15 } = gprs;
        let context = vcpu::context(&[rax, rbx, rcx, rdx, rsi, rdi, rbp, r8, r9, r10, r11, r12, r13, r14, r15]);
        allowed(self.0.vcpu_write_registers(&context), "registers");
    }

    /// Lets the guest use ports without an exit; `ports` is the address of a capability to them.
    pub fn allow_ports(&self, ports: u64, first: u16, last: u16) -> sel4::Result<()> {
        self.0.vcpu_enable_io_port(cap::IoPort::from_bits(ports), first, last)
    }

    /// Makes the guest's accesses to ports exit again.
    pub fn deny_ports(&self, first: u16, last: u16) -> sel4::Result<()> {
        self.0.vcpu_disable_io_port(first, last)
    }
}

impl Vmcs for VcpuObject {
    fn read(&mut self, field: VmcsField) -> u64 {
        allowed(self.0.vcpu_read_vmcs(field as u32), "read")
    }

    fn write(&mut self, field: VmcsField, value: u64) {
        allowed(self.0.vcpu_write_vmcs(field as u32, value), "write");
    }

    fn read_msr(&mut self, msr: SyscallMsr) -> u64 {
        match self.0.vcpu_read_msr(msr as u32) {
            Err(_) if !msr.is_everywhere() => 0,
            value => allowed(value, "MSR"),
        }
    }

    fn write_msr(&mut self, msr: SyscallMsr, value: u64) -> Result<(), Gp> {
        if !msr.takes(value) {
            return Err(Gp);
        }
        match self.0.vcpu_write_msr(msr as u32, value) {
            // It is 0, and stays so.
            Err(_) if !msr.is_everywhere() => {
                if value == 0 {
                    Ok(())
                } else {
                    Err(Gp)
                }
            }
            written => {
                allowed(written, "MSR");
                Ok(())
            }
        }
    }
}

/// `VmcsField` lists only fields that the kernel allows, so a refusal means that this was built for another kernel.
fn allowed<T>(result: sel4::Result<T>, what: &str) -> T {
    result.unwrap_or_else(|error| panic!("the kernel refuses the VCPU {what}: {error:?}"))
}
