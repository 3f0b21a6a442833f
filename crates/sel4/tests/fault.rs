//! Faults as their handler finds them in the IPC buffer. One test, as there is one buffer.

use sel4::{Fault, MessageInfo, ipc_buffer, sys};

/// The fault of `label` with these words, given as (index, value).
fn fault(label: u64, words: &[(u64, u64)]) -> Fault {
    for index in 0..MessageInfo::MAX_LENGTH {
        ipc_buffer().set_word(index, 0xdead);
    }
    for (index, value) in words {
        ipc_buffer().set_word(*index as usize, *value);
    }
    Fault::from_ipc_buffer(MessageInfo::new(label, 0, 0, words.len()))
}

#[test]
fn every_kind_of_fault_is_distinguished() {
    let vm = fault(
        sys::seL4_Fault_VMFault,
        &[
            (sys::seL4_VMFault_IP, 0x40_1000),
            (sys::seL4_VMFault_Addr, 8),
            (sys::seL4_VMFault_PrefetchFault, 0),
            (sys::seL4_VMFault_FSR, 6),
        ],
    );
    assert_eq!(vm, Fault::Vm { ip: 0x40_1000, address: 8, instruction: false, error_code: 6 });

    let cap = fault(
        sys::seL4_Fault_CapFault,
        &[(sys::seL4_CapFault_IP, 1), (sys::seL4_CapFault_Addr, 77), (sys::seL4_CapFault_InRecvPhase, 1)],
    );
    assert_eq!(cap, Fault::Cap { ip: 1, cptr: 77, receiving: true });

    let call = fault(
        sys::seL4_Fault_UnknownSyscall,
        &[(sys::seL4_UnknownSyscall_FaultIP, 2), (sys::seL4_UnknownSyscall_Syscall, !99)],
    );
    assert_eq!(call, Fault::UnknownSyscall { ip: 2, number: !99 });

    let user = fault(
        sys::seL4_Fault_UserException,
        &[
            (sys::seL4_UserException_FaultIP, 3),
            (sys::seL4_UserException_SP, 4),
            (sys::seL4_UserException_Number, 13),
            (sys::seL4_UserException_Code, 0),
        ],
    );
    assert_eq!(user, Fault::User { ip: 3, sp: 4, number: 13, code: 0 });

    assert_eq!(fault(500, &[]), Fault::Other { label: 500 });
}
