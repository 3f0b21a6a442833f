//! The log of a crashed guest: its registers, and the top of its stack. CR2 is missing, since seL4 lets no VMM read it.

use vtx::{
    cr::Real,
    exit::Cr,
    gpr::Gprs,
    vmcs::{Vmcs, VmcsField},
};

use crate::{control, guest::Guest, linear::Linear, time::Present};

/// Words of a stack's top.
const WORDS: usize = 8;

/// A guest's state at its last exit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // names of registers
pub struct State {
    pub rip: u64,
    pub rsp: u64,
    pub rflags: u64,
    /// As the guest sees them.
    pub control: Real,
    pub gprs: Gprs,
    /// From RSP up, where it leads to memory.
    pub stack: [Option<u32>; WORDS],
}

impl<V: Vmcs> Guest<'_, V> {
    /// Its state at its last exit.
    pub fn state(&mut self, now: Present) -> State {
        control::refresh(self);
        let [rsp, base] = [VmcsField::GuestRsp, VmcsField::GuestSsBase].map(|field| self.cpu.vmcs.read(field));
        let [cr0, cr3, cr4] = [Cr::Cr0, Cr::Cr3, Cr::Cr4].map(|cr| self.cpu.control.read(cr));
        let (exit, mut stack) = (self.cpu.exit, [None; WORDS]);
        let memory = Linear::system(self, now);
        for (word, offset) in stack.iter_mut().zip((0..).step_by(4)) {
            *word = memory.peek(base.wrapping_add(rsp).wrapping_add(offset));
        }
        let control = Real { cr0, cr3, cr4 };
        State { rip: exit.rip, rsp, rflags: exit.rflags, control, gprs: exit.gprs, stack }
    }
}

impl State {
    /// Writes it to the log.
    pub fn log(&self) {
        let Self { rip, rsp, rflags, control: Real { cr0, cr3, cr4 }, gprs, stack } = self;
        log::warn!("  eip {rip:08x} esp {rsp:08x} eflags {rflags:08x} cr0 {cr0:08x} cr3 {cr3:08x} cr4 {cr4:08x}");
        let Gprs { rax, rbx, rcx, rdx, rsi, rdi, rbp, r8, r9, r10, r11, r12, r13, r14, r15 } = gprs;
        log::warn!(
            "  eax {rax:08x} ebx {rbx:08x} ecx {rcx:08x} edx {rdx:08x} esi {rsi:08x} edi {rdi:08x} ebp {rbp:08x}"
        );
        if [r8, r9, r10, r11, r12, r13, r14, r15].into_iter().any(|&register| register != 0) {
            log::warn!(
                "  r8 {r8:08x} r9 {r9:08x} r10 {r10:08x} r11 {r11:08x} r12 {r12:08x} r13 {r13:08x} r14 {r14:08x} r15 {r15:08x}"
            );
        }
        if stack.iter().all(Option::is_none) {
            log::warn!("  the stack pointer leads to no memory");
        } else {
            let [a, b, c, d, e, f, g, h] = stack.map(|word| word.unwrap_or(0));
            log::warn!("  stack {a:08x} {b:08x} {c:08x} {d:08x} {e:08x} {f:08x} {g:08x} {h:08x}");
        }
    }
}
