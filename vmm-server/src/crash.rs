//! The log of a crashed guest: its registers, and the top of its stack. CR2 is missing, since seL4 lets no VMM read it.

use arch::Mode;
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
    /// The mode of its code, of which 16 and 32 bits are one.
    pub mode: Mode,
    pub rip: u64,
    pub rsp: u64,
    pub rflags: u64,
    /// As the guest sees them.
    pub control: Real,
    pub efer: u64,
    pub gprs: Gprs,
    /// From RSP up, where it leads to memory; words of 64 bits in 64-bit code, else of 32.
    pub stack: [Option<u64>; WORDS],
}

impl<V: Vmcs> Guest<'_, V> {
    /// Its state at its last exit.
    pub fn state(&mut self, now: Present) -> State {
        control::refresh(self);
        let mode = self.cpu.pointers();
        let [rsp, base] = [VmcsField::GuestRsp, VmcsField::GuestSsBase].map(|field| self.cpu.vmcs.read(field));
        let [cr0, cr3, cr4] = [Cr::Cr0, Cr::Cr3, Cr::Cr4].map(|cr| self.cpu.control.read(cr));
        let (exit, efer, mut stack) = (self.cpu.exit, self.cpu.control.efer(), [None; WORDS]);
        let memory = Linear::system(self, now);
        let half = |at: u64| memory.peek(at).map(u64::from);
        for (word, n) in stack.iter_mut().zip(0..) {
            *word = match mode {
                Mode::Bits64 => {
                    let at = rsp.wrapping_add(8 * n);
                    half(at).zip(half(at.wrapping_add(4))).map(|(low, high)| high << 32 | low)
                }
                Mode::Bits16 | Mode::Bits32 => half(base.wrapping_add(rsp).wrapping_add(4 * n)),
            };
        }
        let control = Real { cr0, cr3, cr4 };
        State { mode, rip: exit.rip, rsp, rflags: exit.rflags, control, efer, gprs: exit.gprs, stack }
    }
}

impl State {
    /// Writes it to the log.
    pub fn log(&self) {
        match self.mode {
            Mode::Bits64 => self.log_wide(),
            Mode::Bits16 | Mode::Bits32 => self.log_narrow(),
        }
        if self.stack.iter().all(Option::is_none) {
            log::warn!("  the stack pointer leads to no memory");
        }
    }

    fn log_wide(&self) {
        let Self { rip, rsp, rflags, control: Real { cr0, cr3, cr4 }, efer, gprs, stack, .. } = self;
        log::warn!("  rip {rip:016x} rsp {rsp:016x} rflags {rflags:08x}");
        log::warn!("  cr0 {cr0:08x} cr3 {cr3:016x} cr4 {cr4:08x} efer {efer:04x}");
        let Gprs { rax, rbx, rcx, rdx, rsi, rdi, rbp, r8, r9, r10, r11, r12, r13, r14, r15 } = gprs;
        log::warn!("  rax {rax:016x} rbx {rbx:016x} rcx {rcx:016x} rdx {rdx:016x}");
        log::warn!("  rsi {rsi:016x} rdi {rdi:016x} rbp {rbp:016x} r8  {r8:016x}");
        log::warn!("  r9  {r9:016x} r10 {r10:016x} r11 {r11:016x} r12 {r12:016x}");
        log::warn!("  r13 {r13:016x} r14 {r14:016x} r15 {r15:016x}");
        if stack.iter().any(Option::is_some) {
            let [a, b, c, d, e, f, g, h] = stack.map(|word| word.unwrap_or(0));
            log::warn!("  stack {a:016x} {b:016x} {c:016x} {d:016x}");
            log::warn!("        {e:016x} {f:016x} {g:016x} {h:016x}");
        }
    }

    fn log_narrow(&self) {
        let Self { rip, rsp, rflags, control: Real { cr0, cr3, cr4 }, gprs, stack, .. } = self;
        log::warn!("  eip {rip:08x} esp {rsp:08x} eflags {rflags:08x} cr0 {cr0:08x} cr3 {cr3:08x} cr4 {cr4:08x}");
        let Gprs { rax, rbx, rcx, rdx, rsi, rdi, rbp, .. } = gprs;
        log::warn!(
            "  eax {rax:08x} ebx {rbx:08x} ecx {rcx:08x} edx {rdx:08x} esi {rsi:08x} edi {rdi:08x} ebp {rbp:08x}"
        );
        if stack.iter().any(Option::is_some) {
            let [a, b, c, d, e, f, g, h] = stack.map(|word| word.unwrap_or(0));
            log::warn!("  stack {a:08x} {b:08x} {c:08x} {d:08x} {e:08x} {f:08x} {g:08x} {h:08x}");
        }
    }
}
