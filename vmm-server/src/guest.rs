//! A vCPU that has taken over its exit, with its VM: the operand of slow-path answers. They may make system calls, so
//! this is where accesses are forwarded to pci-server.

use devices::{Effect, Width, lapic::Lapic};

use crate::{answer::Next, board::Remote, time::Present, vcpu::Vcpu, vm::Vm};

/// A stopped vCPU, with its VM.
pub struct Guest<'a, V> {
    /// The VM.
    pub vm: &'a mut Vm,
    /// The vCPU whose exit is answered.
    pub cpu: &'a mut Vcpu<V>,
    /// The side effects of the accesses so far.
    effect: Effect,
}

impl<'a, V> Guest<'a, V> {
    /// A vCPU and its VM.
    pub const fn new(vm: &'a mut Vm, cpu: &'a mut Vcpu<V>) -> Self {
        Self { vm, cpu, effect: Effect::QUIET }
    }

    /// The side effects of all accesses.
    pub const fn effect(&self) -> Effect {
        self.effect
    }

    /// Adds side effects.
    pub fn join(&mut self, effect: Effect) {
        self.effect |= effect;
    }

    /// What the guest does after an access: a write to a reset port ends its instruction.
    pub fn next(&self) -> Next {
        Next::after(self.effect)
    }

    /// Reads a port.
    pub fn read_port(&mut self, port: u16, width: Width, now: Present) -> u32 {
        let (value, effect) = match self.vm.board.read(port, width, now) {
            Ok(answered) => answered,
            Err(Remote) => (self.vm.board.read_remote(port, width), Effect::QUIET),
        };
        self.effect |= effect;
        value
    }

    /// Writes a port.
    pub fn write_port(&mut self, port: u16, width: Width, value: u32, now: Present) {
        self.effect |= match self.vm.board.write(port, width, value, now) {
            Ok(effect) => effect,
            Err(Remote) => self.vm.board.write_remote(port, width, value),
        };
    }

    /// Reads memory where there is no RAM.
    pub fn read_memory(&mut self, gpa: u64, width: Width, now: Present) -> u32 {
        let (value, effect) = if Lapic::has(gpa) {
            self.cpu.read_apic(gpa, width, now)
        } else {
            match self.vm.board.read_memory(gpa, width) {
                Ok(answered) => answered,
                Err(Remote) => (self.vm.board.passthrough.read_memory(gpa, width), Effect::QUIET),
            }
        };
        self.effect |= effect;
        value
    }

    /// Writes memory where there is no RAM.
    pub fn write_memory(&mut self, gpa: u64, width: Width, value: u32, now: Present) {
        self.effect |= if Lapic::has(gpa) {
            self.cpu.write_apic(gpa, width, value, now)
        } else {
            match self.vm.board.write_memory(gpa, width, value) {
                Ok(effect) => effect,
                Err(Remote) => self.vm.board.write_memory_remote(gpa, width, value),
            }
        };
    }
}
