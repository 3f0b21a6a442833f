//! The guest's debug registers (SDM volume 3, "Debug Registers"). MOV DR exits. Where the kernel switches DR0 to DR3
//! and DR6 with the VCPU, the guest's values go into these registers: the processor then finds breakpoints on code and
//! data, and raises #DB, which exits. The VMM compares the accesses that it emulates, to ports and to memory without
//! RAM, with the breakpoints itself, since the processor has not completed them. On another kernel, the model only
//! stores the values, and no breakpoint stops the guest: all guests share the real registers.

use vtx::vmcs::{Vmcs, VmcsField};

/// Reserved bits of DR6 that are set.
const DR6_FIXED: u64 = 0xffff_0ff0;
/// BT, BS, BD and B0 to B3.
const DR6_BITS: u64 = 0xe00f;
/// B0 to B3: a #DB replaces these, and leaves the others.
const DR6_HITS: u64 = 0xf;
/// A single step.
const DR6_BS: u64 = 1 << 14;
/// The reserved bit of DR7 that is set.
const DR7_FIXED: u64 = 0x400;
/// L0 to G3, LE, GE, GD, and the conditions.
const DR7_BITS: u64 = 0xffff_23ff;
const DR7_GD: u64 = 1 << 13;
/// L0 to G3: some breakpoint is enabled.
const DR7_ENABLED: u64 = 0xff;

/// The debug registers of one guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DebugRegisters {
    /// DR0 to DR3.
    addresses: [u64; 4],
    /// DR6 where the registers are only stored; else it is in the VCPU.
    dr6: u64,
    dr7: u64,
    in_force: bool,
    /// The registers are in force, and some breakpoint is enabled.
    armed: bool,
}

/// What a breakpoint waits for, as DR7 encodes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Watch {
    /// The guest writes memory.
    Write = 1,
    /// The guest uses a port.
    Port = 2,
    /// The guest reads memory. Breakpoints for this stop at writes as well.
    Read = 3,
}

impl DebugRegisters {
    /// After a reset. `in_force`: the kernel keeps them for each VCPU, so that they may stop something.
    pub const fn new(in_force: bool) -> Self {
        Self { addresses: [0; 4], dr6: DR6_FIXED, dr7: DR7_FIXED, in_force, armed: false }
    }

    /// Whether the VMM has to compare emulated accesses with breakpoints.
    #[inline(always)]
    pub const fn armed(&self) -> bool {
        self.armed
    }

    /// B0 to B3 of the breakpoints that an access to `bytes` bytes at `at` hits.
    pub fn hit(&self, watch: Watch, at: u64, bytes: u64) -> u64 {
        let mut hits = 0;
        for (n, &address) in self.addresses.iter().enumerate() {
            let condition = self.dr7 >> (16 + 4 * n);
            let kind = condition & 3;
            let matches = kind == watch as u64 || watch == Watch::Write && kind == Watch::Read as u64;
            // The length's code 2, 8 bytes, is for 64-bit mode, and undefined elsewhere.
            let length = [1, 2, 8, 4][(condition >> 2 & 3) as usize];
            let first = address & !(length - 1);
            let overlap = at.wrapping_sub(first) < length || first.wrapping_sub(at) < bytes;
            if self.armed() && self.dr7 >> (2 * n) & 3 != 0 && matches && overlap {
                hits |= 1 << n;
            }
        }
        hits
    }

    /// A #DB exits, for the reasons in `qualification`. Where the registers are in force, the kernel has noted them in DR6.
    pub(crate) const fn trapped(&mut self, qualification: u64) {
        self.dr7 &= !DR7_GD;
        if !self.in_force {
            self.dr6 |= qualification & DR6_BITS;
        }
    }

    /// DR6.
    pub(crate) fn dr6(&self, vmcs: &mut impl Vmcs) -> u64 {
        self.read(6, vmcs)
    }

    /// Hides the end of a single step of the VMM from the guest, whose DR6 was `dr6`, unless the guest steps itself
    /// (`stepped`) or breakpoints are among the `reasons`. Returns whether the guest gets a trap.
    pub(crate) fn after_step(&mut self, dr6: u64, reasons: u64, stepped: bool, vmcs: &mut impl Vmcs) -> bool {
        let enabled = (0..4).filter(|n| self.dr7 >> (2 * n) & 3 != 0).fold(0, |all, n| all | 1 << n);
        let own = reasons & enabled | if stepped { DR6_BS } else { 0 };
        if own != 0 {
            self.dr7 &= !DR7_GD;
        } else if self.in_force && self.dr7 & DR7_GD != 0 {
            // The exit for #DB has cleared GD.
            vmcs.write(VmcsField::GuestDr7, self.dr7);
        }
        let kept = if own != 0 { dr6 & !DR6_HITS } else { dr6 };
        self.write(6, kept | own, vmcs);
        own != 0
    }

    /// Clears the breakpoints that are enabled for the old task only, as a task switch does: L0 to L3 and LE.
    pub(crate) fn leave_task(&mut self, vmcs: &mut impl Vmcs) {
        const LOCAL: u64 = 0x155;
        if self.dr7 & LOCAL != 0 {
            self.write(7, self.dr7 & !LOCAL, vmcs);
        }
    }

    /// Writes all of them to the VCPU, at the guest's start.
    pub fn load(&self, vmcs: &mut impl Vmcs) {
        if self.in_force {
            for (field, address) in ADDRESSES.into_iter().zip(self.addresses) {
                vmcs.write(field, address);
            }
            vmcs.write(VmcsField::GuestDr6, self.dr6);
            vmcs.write(VmcsField::GuestDr7, self.dr7);
        }
    }

    /// Whether a debugger guards the registers: DR7.GD is set, and in force.
    pub const fn guarded(&self) -> bool {
        self.in_force && self.dr7 & DR7_GD != 0
    }

    /// A MOV to or from a register that is guarded is #DB, for the debugger.
    pub(crate) fn detect(&mut self, vmcs: &mut impl Vmcs) {
        /// A MOV to or from a debug register while DR7.GD is set.
        const DR6_BD: u64 = 1 << 13;
        let dr6 = self.read(6, vmcs) | DR6_BD;
        self.write(6, dr6, vmcs);
        self.write(7, self.dr7 & !DR7_GD, vmcs);
    }

    /// DR0 to DR3, DR6 or DR7.
    pub(crate) fn read(&self, dr: u8, vmcs: &mut impl Vmcs) -> u64 {
        match (dr, self.addresses.get(usize::from(dr))) {
            (_, Some(&address)) => address,
            (6, _) if self.in_force => vmcs.read(VmcsField::GuestDr6),
            (6, _) => self.dr6,
            _ => self.dr7,
        }
    }

    /// Sets DR0 to DR3, DR6 or DR7, of which the last two have 32 bits.
    pub(crate) fn write(&mut self, dr: u8, value: u64, vmcs: &mut impl Vmcs) {
        let (field, value) = match (dr, self.addresses.get_mut(usize::from(dr)), ADDRESSES.get(usize::from(dr))) {
            (_, Some(address), Some(&field)) => {
                *address = value;
                (field, value)
            }
            (6, ..) => {
                self.dr6 = value & DR6_BITS | DR6_FIXED;
                (VmcsField::GuestDr6, self.dr6)
            }
            _ => {
                self.dr7 = value & DR7_BITS | DR7_FIXED;
                self.armed = self.in_force && self.dr7 & DR7_ENABLED != 0;
                (VmcsField::GuestDr7, self.dr7)
            }
        };
        if self.in_force {
            vmcs.write(field, value);
        }
    }
}

const ADDRESSES: [VmcsField; 4] = [VmcsField::GuestDr0, VmcsField::GuestDr1, VmcsField::GuestDr2, VmcsField::GuestDr3];
