//! Executes an instruction: reads the operand, computes the result, writes the operand, then registers and flags. So an
//! access that faults leaves the instruction undone.

use super::address::Segment;
use super::alu::{flags, sign_extend};
use super::{Alu, BitOperation, Instruction, Operation, Registers, Source, Width, multiply};

/// What an instruction sees beside registers: segments and linear memory.
pub trait AddressSpace {
    /// Why an access did not happen; it ends the instruction.
    type Fault;
    /// The base address of a segment.
    fn segment_base(&mut self, segment: Segment) -> u64;
    /// Reads at a linear address.
    fn read(&mut self, linear: u64, width: Width) -> Result<u64, Self::Fault>;
    /// Writes at a linear address. `value` has no bits beyond the width.
    fn write(&mut self, linear: u64, width: Width, value: u64) -> Result<(), Self::Fault>;
}

/// How far an instruction got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// To its end: step past it.
    Done,
    /// A repeated string instruction has more to do: enter the guest at the same instruction, or execute it again.
    More,
}

const RAX: u8 = 0;
const RCX: u8 = 1;
const RDX: u8 = 2;
const RBX: u8 = 3;
const RSP: u8 = 4;

/// What becomes of the operand, a register and the flags.
struct Outcome {
    memory: Option<u64>,
    register: Option<(u8, Width, u64)>,
    flags: u64,
}

impl Instruction {
    /// Executes the instruction. After a fault, memory and registers are as the processor would leave them: untouched, or
    /// for a repeated string instruction as after the last complete round.
    pub fn execute<M: AddressSpace>(&self, registers: &mut Registers, memory: &mut M) -> Result<Progress, M::Fault> {
        match self.operation {
            Operation::String(string, repeat) => {
                return self.execute_string(string, repeat, registers, memory);
            }
            Operation::Push => self.push(registers, memory)?,
            Operation::Pop => self.pop(registers, memory)?,
            Operation::Flush => {}
            Operation::CompareExchangeTwo => self.compare_exchange_two(registers, memory)?,
            Operation::MultiplyWide { signed } => self.multiply_wide(signed, registers, memory)?,
            _ => {
                let linear = self.linear(registers, memory, self.bit_displacement(registers));
                // A store must not read: reads of some device registers have side effects.
                let reads =
                    !matches!(self.operation, Operation::Store(_) | Operation::StoreSwapped(_) | Operation::StoreIf(_));
                let old = if reads { memory.read(linear, self.width)? } else { 0 };
                let effect = self.effect(old, registers);
                if let Some(value) = effect.memory {
                    memory.write(linear, self.width, value)?;
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
    fn effect(&self, old: u64, registers: &Registers) -> Outcome {
        let (width, flags) = (self.width, registers.flags);
        let to_memory = |(value, flags)| Outcome { memory: Some(value), register: None, flags };
        let to_register =
            |number, width, (value, flags)| Outcome { memory: None, register: Some((number, width, value)), flags };
        let to_flags = |(_, flags)| Outcome { memory: None, register: None, flags };
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
                Outcome { memory: Some(registers.get(with, width)), register: Some((with, width, old)), flags }
            }
            Operation::ExchangeAdd(with) => {
                let (sum, flags) = Alu::Add.apply(width, old, registers.get(with, width), flags);
                Outcome { memory: Some(sum), register: Some((with, width, old)), flags }
            }
            Operation::CompareExchange(from) => {
                let accumulator = registers.get(RAX, width);
                let (_, flags) = Alu::Cmp.apply(width, accumulator, old, flags);
                if accumulator == old {
                    to_memory((registers.get(from, width), flags))
                } else {
                    // Memory is written here too, as the SDM says.
                    Outcome { memory: Some(old), register: Some((RAX, width, old)), flags }
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
            Operation::ScanForward(to) => scan(width, to, (old != 0).then(|| u64::from(old.trailing_zeros())), flags),
            Operation::ScanReverse(to) => scan(width, to, old.checked_ilog2().map(u64::from), flags),
            Operation::CountOnes(to) => {
                let zero = if old == 0 { flags::ZF } else { 0 };
                to_register(to, width, (old.count_ones().into(), flags & !flags::STATUS | zero))
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

    fn push<M: AddressSpace>(&self, registers: &mut Registers, memory: &mut M) -> Result<(), M::Fault> {
        let linear = self.linear(registers, memory, 0);
        let value = memory.read(linear, self.width)?;
        let top = self.mode.wrap(registers.rsp().wrapping_sub(self.width.bytes() as u64));
        let stack = self.mode.wrap(memory.segment_base(Segment::Ss).wrapping_add(top));
        memory.write(stack, self.width, value)?;
        registers.set(RSP, self.mode.pointer(), top);
        Ok(())
    }

    fn pop<M: AddressSpace>(&self, registers: &mut Registers, memory: &mut M) -> Result<(), M::Fault> {
        let stack = self.mode.wrap(memory.segment_base(Segment::Ss).wrapping_add(registers.rsp()));
        let value = memory.read(stack, self.width)?;
        // An address that uses RSP uses the new one.
        let mut popped = *registers;
        let top = self.mode.wrap(registers.rsp().wrapping_add(self.width.bytes() as u64));
        popped.set(RSP, self.mode.pointer(), top);
        let linear = self.linear(&popped, memory, 0);
        memory.write(linear, self.width, value)?;
        *registers = popped;
        Ok(())
    }

    fn compare_exchange_two<M: AddressSpace>(&self, registers: &mut Registers, memory: &mut M) -> Result<(), M::Fault> {
        let at = self.linear(registers, memory, 0);
        let (width, bytes) = (self.width, self.width.bytes() as u64);
        let high_at = self.mode.wrap(at.wrapping_add(bytes));
        let old = [memory.read(at, width)?, memory.read(high_at, width)?];
        let [rax, rdx, rbx, rcx] = [RAX, RDX, RBX, RCX].map(|number| registers.get(number, width));
        let equal = old == [rax, rdx];
        // Memory is written in any case, as the SDM says.
        let [low, high] = if equal { [rbx, rcx] } else { old };
        memory.write(at, width, low)?;
        memory.write(high_at, width, high)?;
        registers.flags = registers.flags & !flags::ZF | if equal { flags::ZF } else { 0 };
        if !equal {
            registers.set(RAX, width, old[0]);
            registers.set(RDX, width, old[1]);
        }
        Ok(())
    }

    fn multiply_wide<M: AddressSpace>(
        &self,
        signed: bool,
        registers: &mut Registers,
        memory: &mut M,
    ) -> Result<(), M::Fault> {
        let (linear, width) = (self.linear(registers, memory, 0), self.width);
        let by = memory.read(linear, width)?;
        let (low, high, flags) = multiply(width, signed, registers.get(RAX, width), by, registers.flags);
        match width {
            Width::Byte => registers.set(RAX, Width::Word, high << 8 | low),
            _ => {
                registers.set(RAX, width, low);
                registers.set(RDX, width, high);
            }
        }
        registers.flags = flags;
        Ok(())
    }

    /// Bytes from the operand's address to the word that is meant: a bit's number in a register reaches beyond the operand.
    fn bit_displacement(&self, registers: &Registers) -> u64 {
        let Operation::Bit(_, Source::Register(number)) = self.operation else {
            return 0;
        };
        let number = sign_extend(self.width, registers.get(number, self.width)) as i64;
        let bytes = self.width.bytes();
        (number >> (8 * bytes).ilog2() << bytes.ilog2()) as u64
    }

    fn source(&self, source: Source, registers: &Registers) -> u64 {
        match source {
            Source::Register(number) => registers.get(number, self.width),
            Source::Immediate(value) => value & self.width.mask(),
        }
    }

    fn linear<M: AddressSpace>(&self, registers: &Registers, memory: &mut M, extra: u64) -> u64 {
        let base = memory.segment_base(self.address.segment);
        self.mode.wrap(base.wrapping_add(self.address.offset(registers, extra)))
    }
}

fn swap(width: Width, value: u64) -> u64 {
    value.swap_bytes() >> (64 - 8 * width.bytes())
}

/// What BSF and BSR do with a bit that they have found.
fn scan(width: Width, to: u8, found: Option<u64>, flags: u64) -> Outcome {
    let flags = flags & !flags::ZF | if found.is_some() { 0 } else { flags::ZF };
    Outcome { memory: None, register: found.map(|bit| (to, width, bit)), flags }
}

/// How far a shift shifts.
fn count_of(count: Source, registers: &Registers) -> u64 {
    match count {
        Source::Register(number) => registers.get(number, Width::Byte),
        Source::Immediate(value) => value,
    }
}
