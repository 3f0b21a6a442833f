//! Steps over instructions that the emulator does not know, with whatever exits come in one: an answer, no panic, and no guest
//! left on the VMM's page tables once its step is over.

use proptest::prelude::*;
use vmm_server::{answer::Next, linux::low};
use vtx::{
    exit::RawExit,
    gpr::Gprs,
    vmcs::{Vmcs, VmcsField},
};

use crate::fake::{RAM, RIP, at_now, guest};

/// Where there is nothing, a local APIC, RAM, the tables themselves, and anywhere.
fn address() -> impl Strategy<Value = u64> {
    prop_oneof![
        4 => 0xe000_0000..0xe000_3000u64,
        1 => 0xfee0_0000..0xfee0_1000u64,
        1 => 0..RAM,
        1 => low::NATIVE..low::NATIVE + 0x9000,
        1 => any::<u64>(),
    ]
}

/// movups, call, pusha, pop %ds, fxsave, and any bytes.
fn code() -> impl Strategy<Value = Vec<u8>> {
    let known: [&[u8]; 5] = [&[0x0f, 0x10, 0x06], &[0xff, 0x16], &[0x60], &[0x1f], &[0x0f, 0xae, 0x06]];
    prop_oneof![
        4 => prop::sample::select(known.map(<[u8]>::to_vec).to_vec()),
        1 => prop::collection::vec(any::<u8>(), 1..15),
    ]
}

/// EPT violations, exceptions, and other exits that a step may have.
fn exit() -> impl Strategy<Value = RawExit> {
    let reason = prop_oneof![4 => Just(48u32), 4 => Just(0u32), 1 => prop::sample::select(vec![2, 7, 9, 10, 30, 52])];
    let qualification = prop_oneof![3 => Just(0x181u64), 3 => Just(0x182u64), 2 => Just(0x4000u64), 2 => address()];
    let rip = prop_oneof![4 => Just(RIP), 2 => Just(RIP + 3), 1 => any::<u64>()];
    let rflags = prop_oneof![Just(0x202u64), Just(0x302u64), Just(0x1_0302u64), any::<u64>()];
    (reason, qualification, rip, rflags, address(), 0..4u32).prop_map(
        |(reason, qualification, rip, rflags, gpa, interruptibility)| RawExit {
            interruptibility,
            guest_physical: gpa,
            rip,
            rflags,
            ..RawExit {
                instruction_len: 3,
                ..crate::fake::raw(reason, qualification, Gprs { rsi: gpa, ..Gprs::default() })
            }
        },
    )
}

/// Interruption information and error code: a step's end, a page fault, and others.
fn exception() -> impl Strategy<Value = (u64, u64)> {
    let info = prop_oneof![4 => Just(0x8000_0301), 4 => Just(0x8000_0b0e), 2 => 0x8000_0300..0x8000_0320u64];
    (info, 0..4u64)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(256) })]

    #[test]
    fn every_exit_in_a_step_has_an_answer(
        exits in prop::collection::vec((exit(), exception(), code(), address()), 1..60),
    ) {
        let mut guest = guest();
        for (raw, (info, code), bytes, linear) in exits {
            if !guest.cpu.native.is_active() {
                guest.vm.ram.write(RIP, &bytes).unwrap();
            }
            for (field, value) in [
                (VmcsField::ExitInterruptionInfo, info),
                (VmcsField::ExitInterruptionErrorCode, code),
                (VmcsField::GuestLinearAddress, linear),
            ] {
                guest.cpu.vmcs.write(field, value);
            }
            let cr3 = guest.cpu.vmcs.read(VmcsField::GuestCr3);
            let (next, _) = at_now(&mut guest, &RawExit { cr3, ..raw });
            guest.cpu.follow();
            guest.interrupt();
            if let Next::Reset(_) = next {
                break;
            }
            let tables = guest.cpu.vmcs.read(VmcsField::GuestCr3) == low::NATIVE;
            let all = guest.cpu.vmcs.read(VmcsField::ExceptionBitmap) == vtx::event::ALL.into();
            prop_assert_eq!([tables, all], [guest.cpu.native.is_active(); 2], "{:x?}", raw);
        }
    }
}
