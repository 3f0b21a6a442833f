//! A guest of a few bytes: 32-bit code at guest-physical address 0, flat segments, the first 4 MiB identity-mapped.
//! Its page directory is the next page, and there is no other memory.

use sel4::cap::{self, cap_type};
use sel4::{CapRights, EptAttributes, Error, Result, VmEnter, VmEnterResult, Word, init_thread};
use vtx::cpuid::Processor;
use vtx::cr::{cr0, cr4};
use vtx::msr::Gp;
use vtx::start::{self, Start};
use vtx::syscall::SyscallMsr;
use vtx::vmcs::{PrimaryControls, Vmcs, VmcsField as F};

use crate::bench::{Bench, SELF, delete};

/// Reasons of VM exits (SDM volume 3, appendix "VMX Basic Exit Reasons").
pub mod reason {
    /// An exception, or an NMI.
    pub const EXCEPTION: u32 = 0;
    /// HLT.
    pub const HLT: u32 = 12;
    /// MOV to or from a control register.
    pub const CONTROL_REGISTER: u32 = 28;
    /// An I/O instruction.
    pub const PORT: u32 = 30;
    /// The processor refuses the guest's state.
    pub const BAD_GUEST_STATE: u32 = 33;
    /// An access that the EPT does not allow.
    pub const EPT_VIOLATION: u32 = 48;
    /// The kernel's value for an entry that failed.
    pub const NOT_ENTERED: u32 = u32::MAX;
}

/// `hlt`.
pub const HALT: [u8; 1] = [0xf4];
/// `jmp` to itself.
pub const SPIN: [u8; 2] = [0xeb, 0xfe];

/// Guest-physical address of the page directory.
const DIRECTORY: Word = 0x1000;
/// An entry of it: a page of 4 MiB at 0, present and writable.
const LARGE_PAGE: [u8; 4] = [0x83, 0, 0, 0];

/// A guest. Dropping it deletes its VCPU.
pub struct Guest {
    /// Its processor.
    pub vcpu: cap::VCpu,
    /// Its address space.
    pub ept: cap::EptPml4,
    /// The page with its code. This capability is not mapped, so that `Scratch` can map it.
    pub code: cap::Granule,
}

/// An exit.
pub struct Exit {
    /// Why.
    pub reason: u32,
    /// The instruction behind the one that exited.
    pub next: Word,
    /// The guest's EAX.
    pub eax: Word,
}

impl Guest {
    /// A guest for the calling thread.
    pub fn new(bench: &mut Bench, code: &[u8]) -> Result<Self> {
        Self::of_thread(bench, SELF, code)
    }

    /// A guest for this thread.
    pub fn of_thread(bench: &mut Bench, tcb: cap::Tcb, code: &[u8]) -> Result<Self> {
        let vcpu = bench.make()?;
        Self::with(bench, vcpu, tcb, code)
    }

    /// A guest with this VCPU, for this thread.
    pub fn with(bench: &mut Bench, vcpu: cap::VCpu, tcb: cap::Tcb, code: &[u8]) -> Result<Self> {
        let guest = Self { vcpu, ept: bench.make()?, code: bench.make()? };
        init_thread::slot::ASID_POOL.cap().asid_pool_assign(guest.ept)?;
        bench.make::<cap_type::EptPdpt>()?.ept_pdpt_map(guest.ept, 0, EptAttributes::DEFAULT)?;
        bench.make::<cap_type::EptPageDirectory>()?.ept_page_directory_map(guest.ept, 0, EptAttributes::DEFAULT)?;
        bench.make::<cap_type::EptPageTable>()?.ept_page_table_map(guest.ept, 0, EptAttributes::DEFAULT)?;
        let directory: cap::Granule = bench.make()?;
        bench.scratch.write(directory, 0, &LARGE_PAGE)?;
        bench.scratch.write(guest.code, 0, code)?;
        guest.map(directory, DIRECTORY)?;
        guest.map(bench.copy(guest.code)?, 0)?;
        guest.bind(tcb)?;
        guest.reset()?;
        Ok(guest)
    }

    /// Maps its memory.
    pub fn map(&self, frame: cap::Granule, gpa: Word) -> Result<()> {
        frame.frame_map_ept(self.ept, gpa, CapRights::read_write(), EptAttributes::DEFAULT)
    }

    /// Binds it to a thread.
    pub fn bind(&self, tcb: cap::Tcb) -> Result<()> {
        tcb.tcb_set_ept_root(self.ept)?;
        self.vcpu.vcpu_set_tcb(tcb)?;
        parted();
        Ok(())
    }

    /// Sets its registers.
    pub fn reset(&self) -> Result<()> {
        let mut fields = Fields { vcpu: self.vcpu, refused: None };
        let flat = Start {
            code: 0x08,
            data: 0x10,
            gdt: (0, 0xffff),
            preemption: u32::MAX,
            processor: if sel4_config::X86_64_VTX_64BIT_GUESTS { Processor::Bits64 } else { Processor::Bits32 },
        };
        start::set(&mut fields, &flat);
        if sel4_config::X86_64_VTX_64BIT_GUESTS {
            // The kernel sets "IA-32e mode guest" in every new VCPU.
            fields.write(F::EntryControls, 0);
        }
        fields.write(F::GuestTrSelector, 0x18);
        // With IF set: in Bochs, host interrupts do not exit from a guest that was entered with IF clear.
        fields.write(F::GuestRflags, 0x202);
        fields.write(F::GuestCr0, cr0::PG | cr0::NE | cr0::ET | cr0::PE);
        fields.write(F::GuestCr3, DIRECTORY);
        fields.write(F::GuestCr4, cr4::PSE | cr4::OSFXSR);
        fields.refused.map_or(Ok(()), Err)
    }

    /// The arguments of an entry at `rip`, with HLT exiting.
    pub fn entry(rip: Word) -> VmEnter {
        VmEnter { rip, primary_controls: PrimaryControls::HLT.bits().into(), entry_info: 0 }
    }

    /// Runs it in the calling thread, from `rip` on, until it exits.
    pub fn enter(&self, rip: Word) -> Exit {
        match self.vcpu.vm_enter(&Self::entry(rip)) {
            VmEnterResult::Fault(exit) => Exit {
                reason: exit.reason as u32,
                next: exit.guest.rip + exit.instruction_length(),
                eax: exit.registers().eax,
            },
            VmEnterResult::Signal { guest, .. } => {
                unreachable!("nothing is bound to this thread; rip {:#x}", guest.rip)
            }
        }
    }
}

/// To be called after this thread may have lost its VCPU. In releases with the defect `fpu-disabled`, that disables its FPU
/// until the kernel switches to it again; not every check is to end there.
pub fn parted() {
    sel4::yield_now();
}

impl Drop for Guest {
    fn drop(&mut self) {
        // The slot is empty if the check has deleted the VCPU.
        let _ = delete(self.vcpu);
        parted();
    }
}

struct Fields {
    vcpu: cap::VCpu,
    refused: Option<Error>,
}

impl Vmcs for Fields {
    fn read(&mut self, field: F) -> u64 {
        self.vcpu.vcpu_read_vmcs(field as u32).unwrap_or_else(|error| {
            self.refused = Some(error);
            0
        })
    }

    fn write(&mut self, field: F, value: u64) {
        if let Err(error) = self.vcpu.vcpu_write_vmcs(field as u32, value) {
            self.refused = Some(error);
        }
    }

    fn read_msr(&mut self, msr: SyscallMsr) -> u64 {
        self.vcpu.vcpu_read_msr(msr as u32).unwrap_or_else(|error| {
            self.refused = Some(error);
            0
        })
    }

    fn write_msr(&mut self, msr: SyscallMsr, value: u64) -> core::result::Result<(), Gp> {
        if let Err(error) = self.vcpu.vcpu_write_msr(msr as u32, value) {
            self.refused = Some(error);
        }
        Ok(())
    }
}
