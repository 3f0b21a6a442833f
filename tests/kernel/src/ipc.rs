//! System calls and faults.

use sel4::cap;
use sel4::{Fault, MessageInfo, UserContext, Word, reply, sys};

use crate::bench::Bench;
use crate::check::{Check, Outcome, Seen, expect};
use crate::thread::{LOWER, Thread, rest, run_guest};

/// The checks of this file.
pub const CHECKS: &[Check] = &[
    Check { defect: "vmenter", name: "VMEnter without a VCPU is a fault", run: vmenter_without_vcpu },
    Check { defect: "fault-address", name: "the address of a page fault has 64 bits", run: fault_address },
    Check {
        defect: "suspended-call",
        name: "a suspended thread resumes behind its call",
        run: resumes_behind_its_call,
    },
    Check { defect: "suspended-call", name: "a suspended thread that still waits calls again", run: calls_again },
];

/// Runs a thread from `rip` on until it faults.
fn first_fault(bench: &mut Bench, rip: Word) -> Result<Fault, Seen> {
    let handler: cap::Endpoint = bench.make()?;
    let mut registers = UserContext::default();
    *registers.pc_mut() = rip;
    let thread = Thread::with_fault_handler(bench, registers, handler)?;
    thread.start()?;
    let (message, _) = handler.recv();
    Ok(Fault::from_ipc_buffer(message))
}

/// 0008: it is handled as an unknown system call.
fn vmenter_without_vcpu(bench: &mut Bench) -> Outcome {
    match first_fault(bench, run_guest as *const () as usize as Word)? {
        Fault::UnknownSyscall { number, .. } => expect("number of the system call", number, sys::seL4_SysVMEnter),
        other => expect("fault", Some(other), None),
    }
}

/// 0020: the thread starts at an unmapped address.
fn fault_address(bench: &mut Bench) -> Outcome {
    const NOWHERE: Word = 0x1234_5678_9000;
    match first_fault(bench, NOWHERE)? {
        Fault::Vm { address, .. } => expect("address", address, NOWHERE),
        other => expect("fault", Some(other), None),
    }
}

/// Calls in a loop, with the number of the call and the label of the last reply.
extern "C" fn count_calls(endpoint: Word) -> ! {
    let mut label = 0;
    for number in 0.. {
        let call = [number, label, 0, 0];
        label = cap::Endpoint::from_bits(endpoint).call_with_mrs(MessageInfo::new(0, 0, 0, 2), call).0.label();
    }
    rest()
}

/// 0026: a thread that has its reply, but has not run since, is suspended and resumed. Its registers contain the reply,
/// so a repeated call would use the reply's badge as CPtr, and return an error.
fn resumes_behind_its_call(bench: &mut Bench) -> Outcome {
    const ANSWER: Word = 77;
    let calls: cap::Endpoint = bench.make()?;
    let caller = Thread::new(bench, count_calls, calls.bits(), LOWER)?;
    caller.start()?;
    expect("number of the first call", calls.recv_with_mrs().mrs[0], 0)?;
    reply(MessageInfo::new(ANSWER, 0, 0, 0));
    caller.tcb.tcb_suspend()?;
    caller.tcb.tcb_resume()?;
    let [number, answer, ..] = calls.recv_with_mrs().mrs;
    expect("number of the next call", number, 1)?;
    expect("answer to the first", answer, ANSWER)
}

/// 0026: without its reply, it still has to repeat the call.
fn calls_again(bench: &mut Bench) -> Outcome {
    let calls: cap::Endpoint = bench.make()?;
    let caller = Thread::new(bench, count_calls, calls.bits(), LOWER)?;
    caller.start()?;
    expect("number of the first call", calls.recv_with_mrs().mrs[0], 0)?;
    caller.tcb.tcb_suspend()?;
    caller.tcb.tcb_resume()?;
    expect("number of the repeated call", calls.recv_with_mrs().mrs[0], 0)
}
