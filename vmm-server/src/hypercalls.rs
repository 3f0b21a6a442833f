//! Hypercalls: VMCALL, with a number in EAX. [`TABLE`] is the only place to add one
//! (docs/walkthroughs/add-a-hypercall.md).
//!
//! Arguments are in EBX, ECX, EDX and ESI, and the result replaces EAX, or RAX in 64-bit mode: the convention of KVM, and so of Linux's
//! `kvm_hypercall0` to `kvm_hypercall4` (Linux, Documentation/virt/kvm/x86/hypercalls.rst). Errors are KVM's numbers too.

use crate::{answer::Next, guest::Guest, vm::Vm};

/// All hypercalls.
const TABLE: &[Hypercall] = &[];

/// `-KVM_ENOSYS`: there is no such hypercall.
const UNKNOWN: i32 = -1000;
/// `-KVM_EPERM`: it is not for this caller.
const NOT_PERMITTED: i32 = -1;

/// A hypercall.
#[derive(Clone, Copy, Debug)]
pub struct Hypercall {
    /// What the guest has in EAX.
    pub number: u32,
    /// Who may make it.
    pub by: Caller,
    /// Answers it, given EBX, ECX, EDX and ESI, which the guest chooses freely. It must end soon, whatever they are: the
    /// guest does not run meanwhile. Negative results are errors.
    pub answer: fn(&mut Vm, [u32; 4]) -> i32,
}

/// Who may make a hypercall.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Caller {
    /// The guest's kernel: privilege levels 0 to 2.
    Kernel,
    /// Its user programs too.
    Anyone,
}

/// Answers a VMCALL.
pub fn answer<V: vtx::vmcs::Vmcs>(guest: &mut Guest<V>) -> Next {
    answer_by(TABLE, guest)
}

/// The same, by another table.
pub fn answer_by<V: vtx::vmcs::Vmcs>(table: &[Hypercall], guest: &mut Guest<V>) -> Next {
    let gprs = guest.cpu.exit.gprs;
    let [number, b, c, d, si] = [gprs.rax, gprs.rbx, gprs.rcx, gprs.rdx, gprs.rsi].map(|register| register as u32);
    let is_user = guest.cpu.privilege() == 3;
    let result = match table.iter().find(|hypercall| hypercall.number == number) {
        Some(hypercall) if !is_user || hypercall.by == Caller::Anyone => (hypercall.answer)(guest.vm, [b, c, d, si]),
        _ if is_user => NOT_PERMITTED,
        _ => {
            if guest.vm.unknown_hypercalls.is_new(number) {
                log::warn!("the guest makes hypercall {number}, which is unknown");
            }
            UNKNOWN
        }
    };
    let mode = guest.cpu.pointers();
    guest.cpu.gprs_mut().rax = mode.wrap(i64::from(result) as u64);
    Next::Skip
}

const _: () = {
    let mut n = 0;
    while n < TABLE.len() {
        let mut other = n + 1;
        while other < TABLE.len() {
            assert!(TABLE[n].number != TABLE[other].number, "two hypercalls have one number");
            other += 1;
        }
        n += 1;
    }
};
