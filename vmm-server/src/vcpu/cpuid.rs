//! The answers to CPUID: the host's own, with the policy of `vtx::cpuid` applied. They change with
//! CR4.OSXSAVE at most, and some guests ask often (Linux serialises with CPUID), so answers are cached.

use core::arch::x86_64::{__cpuid_count, CpuidResult};

use arch::Mode;
use vtx::{
    cpuid::{self, Processor},
    vmcs::Vmcs,
};

use super::Vcpu;
use crate::answer::Next;

/// Entries of the cache: a power of two, more than the leaves that a guest asks for often.
const KEPT: usize = 64;

#[derive(Clone, Copy, Debug)]
struct CachedLeaf {
    leaf: u32,
    subleaf: u32,
    result: CpuidResult,
}

/// A leaf that no processor has, with the right answer for it.
const EMPTY: CachedLeaf =
    CachedLeaf { leaf: u32::MAX, subleaf: u32::MAX, result: CpuidResult { eax: 0, ebx: 0, ecx: 0, edx: 0 } };

/// The leaves of CPUID that the guest sees.
#[derive(Clone, Debug)]
pub struct Leaves {
    processor: Processor,
    xcr0: u64,
    tsc_hz: u64,
    /// CR4.OSXSAVE.
    os_xsave: bool,
    kept: [CachedLeaf; KEPT],
}

impl Leaves {
    /// An empty cache, with CR4.OSXSAVE clear. `xcr0` is the guest's, zero without XSAVE; `tsc_hz` is the rate of the TSC.
    pub const fn new(processor: Processor, xcr0: u64, tsc_hz: u64) -> Self {
        Self { processor, xcr0, tsc_hz, os_xsave: false, kept: [EMPTY; KEPT] }
    }

    /// Takes over CR4.OSXSAVE, which CPUID shows.
    pub fn set_os_xsave(&mut self, os_xsave: bool) {
        if self.os_xsave != os_xsave {
            (self.os_xsave, self.kept) = (os_xsave, [EMPTY; KEPT]);
        }
    }

    /// EAX to EDX after CPUID with `leaf` in EAX and `subleaf` in ECX.
    #[inline]
    pub fn leaf(&mut self, leaf: u32, subleaf: u32) -> CpuidResult {
        // Leaves differ in their low bits, ranges of leaves in the highest ones.
        let place = (leaf ^ leaf >> 26 ^ subleaf << 3) as usize % KEPT;
        if (self.kept[place].leaf, self.kept[place].subleaf) != (leaf, subleaf) {
            self.kept[place] = CachedLeaf { leaf, subleaf, result: self.answer(leaf, subleaf) };
        }
        self.kept[place].result
    }

    #[cold]
    fn answer(&self, leaf: u32, subleaf: u32) -> CpuidResult {
        let mut result = cpuid::leaf(self.processor, self.xcr0, leaf, subleaf, host(leaf, subleaf), self.tsc_hz);
        if leaf == 1 && self.os_xsave {
            result.ecx |= cpuid::OSXSAVE;
        }
        result
    }
}

impl<V: Vmcs> Vcpu<V> {
    /// Answers CPUID for the leaf that depends on the mode.
    pub(crate) fn extended_features(&mut self) -> Next {
        let answer = self.cpuid.leaf(cpuid::EXTENDED_FEATURES, 0);
        let CpuidResult { eax, ebx, ecx, edx } = match self.pointers() {
            Mode::Bits64 => answer,
            Mode::Bits16 | Mode::Bits32 => cpuid::outside_64_bit_mode(answer),
        };
        let gprs = self.gprs_mut();
        (gprs.rax, gprs.rbx, gprs.rcx, gprs.rdx) = (eax.into(), ebx.into(), ecx.into(), edx.into());
        Next::Skip
    }
}

/// The host's own CPUID, unfiltered. Zeros for leaves that it does not have, for which a processor repeats another one.
fn host(leaf: u32, subleaf: u32) -> CpuidResult {
    const EXTENDED: u32 = 0x8000_0000;
    if leaf & !EXTENDED > 0x7fff || leaf > __cpuid_count(leaf & EXTENDED, 0).eax {
        return CpuidResult { eax: 0, ebx: 0, ecx: 0, edx: 0 };
    }
    __cpuid_count(leaf, subleaf)
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;

    #[test]
    fn an_answer_is_the_same_however_often_and_whatever_was_asked_in_between() {
        let mut leaves = Leaves::new(Processor::Bits64, 0, 50_000_000);
        let range = |first: u32| (first..first + 0x40).flat_map(|leaf| (0..4).map(move |subleaf| (leaf, subleaf)));
        for _ in 0..2 {
            for (leaf, subleaf) in
                range(0).chain(range(0x4000_0000)).chain(range(0x8000_0000)).chain([(u32::MAX, u32::MAX)])
            {
                let expected = cpuid::leaf(Processor::Bits64, 0, leaf, subleaf, host(leaf, subleaf), 50_000_000);
                assert_eq!(leaves.leaf(leaf, subleaf), expected, "{leaf:#x}.{subleaf}");
                assert_eq!(leaves.leaf(leaf, subleaf), expected, "{leaf:#x}.{subleaf} again");
            }
        }
    }
}
