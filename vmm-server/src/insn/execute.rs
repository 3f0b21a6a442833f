//! Does an instruction's work: reads the operand, works out the effect, writes the operand, then registers and flags, so
//! that an access that faults leaves the instruction undone.

use super::address::Segment;
use super::alu::{flags, sign_extend};
use super::{Alu, BitOperation, Instruction, Operation, Registers, Source, Width, multiply};

/// What an instruction acts on beside registers.
pub trait Machine {
    /// Why an access did not happen; it ends the instruction.
    type Fault;
    /// The base address of a segment.
    fn segment_base(&mut self, segment: Segment) -> u32;
    /// Reads at a linear address.
    fn read(&mut self, linear: u32, width: Width) -> Result<u32, Self::Fault>;
    /// Writes at a linear address. `value` has no bits beyond the width.
    fn write(&mut self, linear: u32, width: Width, value: u32) -> Result<(), Self::Fault>;
}

/// How far an instruction got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// To its end: step past it.
    Done,
    /// A repeated string instruction has more to do: enter the guest at the same instruction, or execute it again.
    More,
}

const EAX: u8 = 0;
const ECX: u8 = 1;
const EDX: u8 = 2;
const EBX: u8 = 3;
const ESP: u8 = 4;

/// What becomes of the operand, a register and the flags.
struct Effect {
    memory: Option<u32>,
    register: Option<(u8, Width, u32)>,
    flags: u32,
}

impl Instruction {
    /// Executes the instruction. After a fault, memory and registers are as the processor would leave them: untouched, or
    /// for a repeated string instruction as after the last complete round.
    pub fn execute<M: Machine>(&self, registers: &mut Registers, machine: &mut M) -> Result<Progress, M::Fault> {
        match self.operation {
            Operation::String(string, repeat) => {
                return self.execute_string(string, repeat, registers, machine);
            }
            Operation::Push => self.push(registers, machine)?,
            Operation::Pop => self.pop(registers, machine)?,
            Operation::Flush => {}
            Operation::CompareExchangeTwo => self.compare_exchange_two(registers, machine)?,
            Operation::MultiplyWide { signed } => self.multiply_wide(signed, registers, machine)?,
            _ => {
                let linear = self.linear(registers, machine, self.bit_displacement(registers));
                // A store must not read: reading some device registers has effects.
                let reads =
                    !matches!(self.operation, Operation::Store(_) | Operation::StoreSwapped(_) | Operation::StoreIf(_));
                let old = if reads { machine.read(linear, self.width)? } else { 0 };
                let effect = self.effect(old, registers);
                if let Some(value) = effect.memory {
                    machine.write(linear, self.width, value)?;
                }
                if let Some((number, width, value)) = effect.register {
                    registers.set(number, width, value);
                }
                registers.flags = effect.flags;
            }
        }
        Ok(Progress::Done)
    }

    /// What the instruction does where its operand in memory is `old`.
    fn effect(&self, old: u32, registers: &Registers) -> Effect {
        let (width, flags) = (self.width, registers.flags);
        let to_memory = |(value, flags)| Effect { memory: Some(value), register: None, flags };
        let to_register =
            |number, width, (value, flags)| Effect { memory: None, register: Some((number, width, value)), flags };
        let to_flags = |(_, flags)| Effect { memory: None, register: None, flags };
        match self.operation {
            Operation::Load(to) => to_register(to, width, (old, flags)),
            Operation::Extend { to, to_width, signed } => {
                let value = if signed { sign_extend(width, old) } else { old };
                to_register(to, to_width, (value, flags))
            }
            Operation::LoadSwapped(to) => to_register(to, width, (swap(width, old), flags)),
            Operation::StoreSwapped(from) => to_memory((swap(width, registers.get(from, width)), flags)),
            Operation::Store(from) => to_memory((self.source(from, registers), flags)),
            Operation::AluToMemory(alu, from) => {
                let result = alu.apply(width, old, self.source(from, registers), flags);
                if alu.writes() { to_memory(result) } else { to_flags(result) }
            }
            Operation::AluToRegister(alu, to) => {
                let result = alu.apply(width, registers.get(to, width), old, flags);
                if alu.writes() { to_register(to, width, result) } else { to_flags(result) }
            }
            Operation::Test(with) => to_flags(Alu::And.apply(width, old, self.source(with, registers), flags)),
            Operation::Unary(unary) => to_memory(unary.apply(width, old, flags)),
            Operation::Bit(bit, number) => {
                let result = bit.apply(width, old, self.source(number, registers), flags);
                if bit == BitOperation::Test { to_flags(result) } else { to_memory(result) }
            }
            Operation::Exchange(with) => {
                Effect { memory: Some(registers.get(with, width)), register: Some((with, width, old)), flags }
            }
            Operation::ExchangeAdd(with) => {
                let (sum, flags) = Alu::Add.apply(width, old, registers.get(with, width), flags);
                Effect { memory: Some(sum), register: Some((with, width, old)), flags }
            }
            Operation::CompareExchange(from) => {
                let accumulator = registers.get(EAX, width);
                let (_, flags) = Alu::Cmp.apply(width, accumulator, old, flags);
                if accumulator == old {
                    to_memory((registers.get(from, width), flags))
                } else {
                    // Memory is written here too, as the SDM says.
                    Effect { memory: Some(old), register: Some((EAX, width, old)), flags }
                }
            }
            Operation::Shift(shift, count) => to_memory(shift.apply(width, old, count_of(count, registers), flags)),
            Operation::DoubleShift(shift, from, count) => {
                let (from, count) = (registers.get(from, width), count_of(count, registers));
                to_memory(shift.apply(width, old, from, count, flags))
            }
            Operation::Multiply(to, by) => {
                let (low, _, flags) = multiply(width, true, old, self.source(by, registers), flags);
                to_register(to, width, (low, flags))
            }
            Operation::ScanForward(to) => scan(width, to, (old != 0).then(|| old.trailing_zeros()), flags),
            Operation::ScanReverse(to) => scan(width, to, old.checked_ilog2(), flags),
            Operation::CountOnes(to) => {
                let zero = if old == 0 { flags::ZF } else { 0 };
                to_register(to, width, (old.count_ones(), flags & !flags::STATUS | zero))
            }
            Operation::LoadIf(condition, to) => {
                // Where it does not hold, the register is written as well, with what it has.
                let value = if condition.holds(flags) { old } else { registers.get(to, width) };
                to_register(to, width, (value, flags))
            }
            Operation::StoreIf(condition) => to_memory((condition.holds(flags).into(), flags)),
            Operation::Push
            | Operation::Pop
            | Operation::Flush
            | Operation::MultiplyWide { .. }
            | Operation::CompareExchangeTwo
            | Operation::String(..) => to_flags((0, flags)),
        }
    }

    fn push<M: Machine>(&self, registers: &mut Registers, machine: &mut M) -> Result<(), M::Fault> {
        let linear = self.linear(registers, machine, 0);
        let value = machine.read(linear, self.width)?;
        let top = registers.esp().wrapping_sub(self.width.bytes() as u32);
        let stack = machine.segment_base(Segment::Ss).wrapping_add(top);
        machine.write(stack, self.width, value)?;
        registers.set(ESP, Width::Dword, top);
        Ok(())
    }

    fn pop<M: Machine>(&self, registers: &mut Registers, machine: &mut M) -> Result<(), M::Fault> {
        let stack = machine.segment_base(Segment::Ss).wrapping_add(registers.esp());
        let value = machine.read(stack, self.width)?;
        // An address that uses ESP uses the new one.
        let mut popped = *registers;
        let top = registers.esp().wrapping_add(self.width.bytes() as u32);
        popped.set(ESP, Width::Dword, top);
        let linear = self.linear(&popped, machine, 0);
        machine.write(linear, self.width, value)?;
        *registers = popped;
        Ok(())
    }

    fn compare_exchange_two<M: Machine>(&self, registers: &mut Registers, machine: &mut M) -> Result<(), M::Fault> {
        let at = self.linear(registers, machine, 0);
        let high_at = at.wrapping_add(4);
        let old = [machine.read(at, Width::Dword)?, machine.read(high_at, Width::Dword)?];
        let [eax, edx, ebx, ecx] = [EAX, EDX, EBX, ECX].map(|number| registers.get(number, Width::Dword));
        let equal = old == [eax, edx];
        // Memory is written in any case, as the SDM says.
        let [low, high] = if equal { [ebx, ecx] } else { old };
        machine.write(at, Width::Dword, low)?;
        machine.write(high_at, Width::Dword, high)?;
        registers.flags = registers.flags & !flags::ZF | if equal { flags::ZF } else { 0 };
        if !equal {
            registers.set(EAX, Width::Dword, old[0]);
            registers.set(EDX, Width::Dword, old[1]);
        }
        Ok(())
    }

    fn multiply_wide<M: Machine>(
        &self,
        signed: bool,
        registers: &mut Registers,
        machine: &mut M,
    ) -> Result<(), M::Fault> {
        let (linear, width) = (self.linear(registers, machine, 0), self.width);
        let by = machine.read(linear, width)?;
        let (low, high, flags) = multiply(width, signed, registers.get(EAX, width), by, registers.flags);
        match width {
            Width::Byte => registers.set(EAX, Width::Word, high << 8 | low),
            _ => {
                registers.set(EAX, width, low);
                registers.set(EDX, width, high);
            }
        }
        registers.flags = flags;
        Ok(())
    }

    /// Bytes from the operand's address to the word that is meant: a bit's number in a register reaches beyond the operand.
    fn bit_displacement(&self, registers: &Registers) -> u32 {
        let Operation::Bit(_, Source::Register(number)) = self.operation else {
            return 0;
        };
        let number = sign_extend(self.width, registers.get(number, self.width)) as i32;
        match self.width {
            Width::Dword => (number >> 5 << 2) as u32,
            _ => (number >> 4 << 1) as u32,
        }
    }

    fn source(&self, source: Source, registers: &Registers) -> u32 {
        match source {
            Source::Register(number) => registers.get(number, self.width),
            Source::Immediate(value) => value & self.width.mask32(),
        }
    }

    fn linear<M: Machine>(&self, registers: &Registers, machine: &mut M, extra: u32) -> u32 {
        let base = machine.segment_base(self.address.segment);
        base.wrapping_add(self.address.offset(registers, extra))
    }
}

fn swap(width: Width, value: u32) -> u32 {
    value.swap_bytes() >> (32 - 8 * width.bytes())
}

/// What BSF and BSR do with a bit that they have found.
fn scan(width: Width, to: u8, found: Option<u32>, flags: u32) -> Effect {
    let flags = flags & !flags::ZF | if found.is_some() { 0 } else { flags::ZF };
    Effect { memory: None, register: found.map(|bit| (to, width, bit)), flags }
}

/// How far a shift shifts.
fn count_of(count: Source, registers: &Registers) -> u32 {
    match count {
        Source::Register(number) => registers.get(number, Width::Byte),
        Source::Immediate(value) => value,
    }
}
