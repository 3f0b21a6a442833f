//! Whatever an exit brings, and whatever lies in the guest's memory and VMCS: an answer, no panic, in bounded time.

use proptest::prelude::*;
use vmm_server::answer::Next;
use vtx::{
    exit::RawExit,
    gpr::Gprs,
    vmcs::{Vmcs, VmcsField},
};

use crate::fake::{at_now, guest_with};

/// Enough for code, page tables and data.
const RAM: u64 = 64 << 10;

/// Addresses at the edges of RAM and of everything, and any others.
fn word() -> impl Strategy<Value = u64> {
    prop_oneof![
        4 => 0..RAM,
        2 => RAM - 16..RAM + 16,
        2 => 0..0x1000u64,
        2 => any::<u32>().prop_map(u64::from),
        1 => 0xffff_fff0..=0xffff_ffffu64,
        1 => any::<u64>(),
    ]
}

/// Exits of all kinds.
pub fn exit() -> impl Strategy<Value = RawExit> {
    let reason = prop_oneof![4 => 0..72u32, 4 => prop::sample::select(vec![28, 30, 48]), 1 => any::<u32>()];
    let gprs = (word(), word(), word(), word(), word(), word(), word())
        .prop_map(|(rax, rbx, rcx, rdx, rsi, rdi, rbp)| Gprs { rax, rbx, rcx, rdx, rsi, rdi, rbp, ..Gprs::default() });
    let qualification = prop_oneof![any::<u64>(), 0..0x1_0000u64, any::<u32>().prop_map(u64::from)];
    (reason, qualification, any::<u32>(), word(), word(), word(), any::<u32>(), word(), gprs).prop_map(
        |(reason, qualification, instruction_len, guest_physical, rip, rflags, interruptibility, cr3, gprs)| RawExit {
            reason,
            qualification,
            instruction_len,
            guest_physical,
            rip,
            rflags,
            interruptibility,
            cr3,
            gprs,
        },
    )
}

const FIELDS: [VmcsField; 12] = [
    VmcsField::GuestCr0,
    VmcsField::GuestCr4,
    VmcsField::GuestCsBase,
    VmcsField::GuestDsBase,
    VmcsField::GuestEsBase,
    VmcsField::GuestSsBase,
    VmcsField::GuestRsp,
    VmcsField::GuestCsAccessRights,
    VmcsField::GuestSsAccessRights,
    VmcsField::GuestLinearAddress,
    VmcsField::ExitInstructionInfo,
    VmcsField::IdtVectoringInfo,
];

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(96) })]

    #[test]
    fn every_exit_has_an_answer(
        exits in prop::collection::vec((exit(), prop::collection::vec((0..FIELDS.len(), word()), 0..4)), 1..60),
        pieces in prop::collection::vec((0..RAM - 64, prop::collection::vec(any::<u8>(), 1..64)), 0..40),
    ) {
        let mut guest = guest_with(RAM);
        for (at, bytes) in pieces {
            guest.vm.ram.write(at, &bytes).unwrap();
        }
        for (raw, fields) in exits {
            for (field, value) in fields {
                guest.cpu.vmcs.write(FIELDS[field], value);
            }
            let (next, _) = at_now(&mut guest, &raw);
            guest.cpu.follow();
            if let Next::Reset(_) = next {
                let _ = guest.vm.board.reset();
            }
        }
    }
}
