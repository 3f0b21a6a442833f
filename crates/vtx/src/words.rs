//! A VM exit, word by word. Reading all words costs as much as answering a simple exit, so the fast path reads only
//! those that it needs, and changes registers in place.

use crate::{
    gpr::{Gprs, MessageGpr},
    vmcs::Interruptibility,
};

/// RFLAGS.TF: the guest is being single-stepped.
pub const RFLAGS_TF: u64 = 1 << 8;
/// RFLAGS.RF: the instruction hits no breakpoint on itself.
pub const RFLAGS_RF: u64 = 1 << 16;

/// An exit as VMEnter returned it (`sel4/arch/vmenter.h`, message registers 0 and 3 to 16).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RawExit {
    /// Basic exit reason. The kernel cuts it to 16 bits, and gives all ones where VMLAUNCH or VMRESUME itself failed.
    pub reason: u32,
    /// Exit qualification; zero for the reasons that have none.
    pub qualification: u64,
    /// Length of the instruction that exited, 1 to 15 bytes; undefined for exits that no instruction caused.
    pub instruction_len: u32,
    /// Guest-physical address of an EPT exit; stale otherwise.
    pub guest_physical: u64,
    /// Guest RIP.
    pub rip: u64,
    /// Guest RFLAGS.
    pub rflags: u64,
    /// Guest interruptibility state: [`crate::vmcs::Interruptibility`].
    pub interruptibility: u32,
    /// The CR3 that the processor uses, which is not the guest's own while its paging is off: see [`crate::cr`].
    pub cr3: u64,
    /// General registers without RSP.
    pub gprs: Gprs,
}

/// The words of an exit, as in [`RawExit`].
pub trait Words {
    /// Basic exit reason.
    fn reason(&self) -> u32;
    /// Exit qualification.
    fn qualification(&self) -> u64;
    /// Length of the instruction.
    fn instruction_len(&self) -> u32;
    /// Guest-physical address of an EPT exit.
    fn guest_physical(&self) -> u64;
    /// RIP.
    fn rip(&self) -> u64;
    /// RFLAGS.
    fn rflags(&self) -> u64;
    /// Interruptibility state.
    fn interruptibility(&self) -> u32;
    /// CR3.
    fn cr3(&self) -> u64;
    /// A general register.
    fn register(&self, place: MessageGpr) -> u64;

    /// Whether stepping past the instruction takes more than to add to RIP: a single step, or a shadow of STI or MOV SS.
    /// RFLAGS.RF, which every EPT violation saves as set, matters only where breakpoints are armed.
    #[inline(always)]
    fn is_stepped_or_shadowed(&self) -> bool {
        self.stepped_or_shadowed() != 0
    }

    /// The bits that say so.
    #[inline(always)]
    fn stepped_or_shadowed(&self) -> u64 {
        let shadow = self.interruptibility() & Interruptibility::SHADOW.bits();
        self.rflags() & RFLAGS_TF | u64::from(shadow)
    }

    /// Where the guest continues after an instruction of `length` bytes, if it is not the last one below 4 GiB: 32-bit code wraps
    /// around there, and the exit does not say how wide the code is.
    #[inline(always)]
    fn after(&self, length: u32) -> u64 {
        self.rip().wrapping_add(length.into())
    }
}

/// An exit that is still in the kernel's message, which the next system call overwrites. Both ways to go on consume it,
/// since each ends the use of the message: the guest continues with the registers in it, or all words are copied.
pub trait Message: Words + Sized {
    /// Changes a general register in the message.
    fn set_register(&mut self, place: MessageGpr, value: u64);
    /// Has the guest continue with the general registers in the message.
    fn write_registers(self);
    /// Copies all words.
    fn load(self, to: &mut RawExit);
}

impl Words for RawExit {
    fn reason(&self) -> u32 {
        self.reason
    }

    fn qualification(&self) -> u64 {
        self.qualification
    }

    fn instruction_len(&self) -> u32 {
        self.instruction_len
    }

    fn guest_physical(&self) -> u64 {
        self.guest_physical
    }

    fn rip(&self) -> u64 {
        self.rip
    }

    fn rflags(&self) -> u64 {
        self.rflags
    }

    fn interruptibility(&self) -> u32 {
        self.interruptibility
    }

    fn cr3(&self) -> u64 {
        self.cr3
    }

    fn register(&self, place: MessageGpr) -> u64 {
        self.gprs.at(place)
    }
}

/// An exit whose words have all been read. Its registers reach the guest when the vCPU that takes the exit over writes
/// them before the next entry.
impl Message for RawExit {
    fn set_register(&mut self, place: MessageGpr, value: u64) {
        *self.gprs.at_mut(place) = value;
    }

    fn write_registers(self) {}

    fn load(self, to: &mut RawExit) {
        *to = self;
    }
}
