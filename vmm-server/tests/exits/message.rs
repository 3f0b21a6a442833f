//! An exit in the kernel's message, and what is answered without taking it over: held against what the SDM says of each
//! instruction, and against the same exit of a guest that is single-stepped, which the vCPU has to take over.

use std::cell::Cell;

use devices::Effect;
use proptest::prelude::*;
use vmm_server::{
    answer::{Answer, Next},
    run,
};
use vtx::{
    cpuid::{self, Processor},
    exit::RawExit,
    gpr::{Gprs, MessageGpr},
    msr,
    words::{self, Words},
};

use crate::{
    anything,
    fake::{Guest, TSC, answer, answer_message, guest, present, raw, reason},
};

/// Registers reach the guest when they are written; then, or when all words are taken, the message is gone: it is consumed.
pub struct Message<'a> {
    words: RawExit,
    written: &'a Cell<Gprs>,
}

impl<'a> Message<'a> {
    pub fn new(exit: &RawExit, written: &'a Cell<Gprs>) -> Self {
        Self { words: *exit, written }
    }
}

impl Words for Message<'_> {
    fn reason(&self) -> u32 {
        self.words.reason
    }

    fn qualification(&self) -> u64 {
        self.words.qualification
    }

    fn instruction_len(&self) -> u32 {
        self.words.instruction_len
    }

    fn guest_physical(&self) -> u64 {
        self.words.guest_physical
    }

    fn rip(&self) -> u64 {
        self.words.rip
    }

    fn rflags(&self) -> u64 {
        self.words.rflags
    }

    fn interruptibility(&self) -> u32 {
        self.words.interruptibility
    }

    fn cr3(&self) -> u64 {
        self.words.cr3
    }

    fn register(&self, place: MessageGpr) -> u64 {
        self.words.gprs.at(place)
    }
}

impl words::Message for Message<'_> {
    fn set_register(&mut self, place: MessageGpr, value: u64) {
        *self.words.gprs.at_mut(place) = value;
    }

    fn write_registers(self) {
        self.written.set(self.words.gprs);
    }

    fn load(self, to: &mut RawExit) {
        *to = self.words;
    }
}

/// Where the guest goes on, and with which registers, if the exit is answered without being taken over.
pub fn resumed(guest: &mut Guest, exit: &RawExit) -> Option<(u64, Gprs)> {
    match answer_message(guest, exit) {
        (Answer::Resume { rip }, gprs) => Some((rip, gprs)),
        (Answer::ResumeTimed { .. }, _) => panic!("a timer is set"),
        (Answer::Taken { .. }, _) => None,
    }
}

#[test]
fn a_guest_that_is_stepped_or_shadowed_is_taken_over() {
    let exit = raw(reason::CPUID, 0, Gprs::default());
    assert!(resumed(&mut guest(), &exit).is_some());
    for more in [
        RawExit { rflags: 0x302, ..exit },
        RawExit { interruptibility: 1, ..exit },
        RawExit { interruptibility: 2, ..exit },
    ] {
        assert_eq!(resumed(&mut guest(), &more), None);
    }
}

#[test]
fn what_has_to_be_settled_before_the_next_entry_is_not_lost() {
    let exit = raw(reason::IO, 0x80 << 16 | 8, Gprs { rax: 0x1200, ..Gprs::default() });
    for late in [Effect::TIMERS, Effect::LINES] {
        let mut guest = guest();
        let Guest { vm, cpu } = &mut guest;
        let effect = present(|now| run::answer_late(vm, cpu, exit, late, now));
        assert!(effect.contains(late));
        assert_eq!((guest.cpu.next, guest.cpu.exit.gprs), (Next::Skip, exit.gprs));
        assert!(guest.cpu.take_registers_changed());
    }
}

/// EAX and ECX: leaves of CPUID and their subleaves, numbers of MSRs, or neither.
fn number() -> impl Strategy<Value = (u64, u64)> {
    // Those that the vCPU has itself are for the slow path.
    let table = msr::TABLE.iter().filter(|msr| !matches!(msr.read, msr::Read::Own(_)));
    let msrs: Vec<u64> = table.map(|msr| msr.number.into()).collect();
    let leaf = prop_oneof![3 => 0..0x20u64, 1 => 0x8000_0000..0x8000_0010u64, 1 => any::<u64>()];
    let rcx = prop_oneof![2 => 0..4u64, 2 => prop::sample::select(msrs), 1 => any::<u64>()];
    (leaf, rcx)
}

/// What the SDM says of CPUID, RDMSR and WRMSR: registers, or none where the instruction faults.
fn expected(exit: &RawExit) -> Option<Gprs> {
    let Gprs { rax, rcx, rdx, .. } = exit.gprs;
    match exit.reason {
        reason::CPUID => {
            let (leaf, subleaf) = (rax as u32, rcx as u32);
            let found = cpuid::leaf(
                Processor::Bits32,
                0,
                leaf,
                subleaf,
                crate::fake::host_cpuid(leaf, subleaf),
                crate::fake::HZ,
            );
            let [rax, rbx, rcx, rdx] = [found.eax, found.ebx, found.ecx, found.edx].map(u64::from);
            Some(Gprs { rax, rbx, rcx, rdx, ..exit.gprs })
        }
        reason::RDMSR if rcx as u32 == msr::TSC_DEADLINE => Some(Gprs { rax: 0, rdx: 0, ..exit.gprs }),
        reason::RDMSR => {
            let value = msr::read(Processor::Bits32, rcx as u32, || TSC).ok()?;
            Some(Gprs { rax: value & 0xffff_ffff, rdx: value >> 32, ..exit.gprs })
        }
        _ => msr::write(Processor::Bits32, rcx as u32, rdx << 32 | rax & 0xffff_ffff).ok().map(|()| exit.gprs),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(500) })]

    #[test]
    fn an_instruction_does_what_the_sdm_says_stepped_or_not(
        exits in prop::collection::vec((anything::exit(), prop::sample::select(vec![10, 31, 32]), number()), 1..40),
    ) {
        let (mut plain, mut stepped) = (guest(), guest());
        for (exit, reason, (rax, rcx)) in exits {
            let rip = exit.rip & 0xffff_ffff;
            let exit = RawExit { reason, rip, rflags: 2, interruptibility: 0, gprs: Gprs { rax, rcx, ..exit.gprs }, ..exit };
            let found = answer_message(&mut plain, &exit);
            match (expected(&exit), found) {
                (Some(gprs), (Answer::Resume { rip, .. }, written)) => {
                    prop_assert_eq!(written, gprs);
                    prop_assert_eq!(rip, exit.rip.wrapping_add(exit.instruction_len.into()) & 0xffff_ffff);
                    prop_assert_eq!(answer(&mut stepped, RawExit { rflags: 0x102, ..exit }), Next::Skip);
                    stepped.cpu.skip();
                    prop_assert_eq!((stepped.cpu.exit.rip, stepped.cpu.exit.gprs), (rip, gprs));
                }
                // At 4 GiB, 32-bit code wraps around.
                (Some(gprs), (Answer::Taken { effect }, _)) if exit.after(exit.instruction_len) >> 32 != 0 => {
                    prop_assert_eq!((plain.cpu.next, effect), (Next::Skip, Effect::QUIET));
                    plain.cpu.skip();
                    let wrapped = exit.after(exit.instruction_len) & 0xffff_ffff;
                    prop_assert_eq!((plain.cpu.exit.rip, plain.cpu.exit.gprs), (wrapped, gprs));
                }
                (None, (Answer::Taken { effect }, _)) => {
                    prop_assert_eq!((plain.cpu.next, effect), (Next::PROTECTION, Effect::QUIET));
                    prop_assert_eq!(plain.cpu.exit.gprs, exit.gprs);
                }
                (expected, found) => prop_assert!(false, "{:x?}: {:x?}, not {:x?}", exit, found, expected),
            }
        }
    }
}
