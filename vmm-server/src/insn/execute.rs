//! Does an instruction's work, access by access, in the order in which the processor would.

use super::address::Segment;
use super::{Alu, BitOperation, Instruction, Operation, Registers, Source, Width};

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
const ESP: u8 = 4;

impl Instruction {
    /// Executes the instruction. After a fault, memory and registers are as the processor would leave them: untouched, or
    /// for a repeated string instruction as after the last complete round.
    pub fn execute<M: Machine>(
        &self,
        registers: &mut Registers,
        machine: &mut M,
    ) -> Result<Progress, M::Fault> {
        match self.operation {
            Operation::String(string, repeat) => {
                self.execute_string(string, repeat, registers, machine)
            }
            Operation::Push => self.push(registers, machine),
            Operation::Pop => self.pop(registers, machine),
            Operation::Bit(bit, source) => {
                let number = self.source(source, registers);
                let linear = self.linear(registers, machine, self.bit_displacement(source, number));
                let (result, flags) = bit.apply(
                    self.width,
                    machine.read(linear, self.width)?,
                    number,
                    registers.flags,
                );
                if bit != BitOperation::Test {
                    machine.write(linear, self.width, result)?;
                }
                registers.flags = flags;
                Ok(Progress::Done)
            }
            _ => self.execute_simple(registers, machine),
        }
    }

    /// Instructions with one operand in memory, at a fixed place.
    fn execute_simple<M: Machine>(
        &self,
        registers: &mut Registers,
        machine: &mut M,
    ) -> Result<Progress, M::Fault> {
        let width = self.width;
        let linear = self.linear(registers, machine, 0);
        // The result for memory comes first: where writing it faults, no register has changed yet.
        match self.operation {
            Operation::Load(to) => registers.set(to, width, machine.read(linear, width)?),
            Operation::Store(source) => {
                machine.write(linear, width, self.source(source, registers))?
            }
            Operation::Extend {
                to,
                to_width,
                signed,
            } => {
                let value = machine.read(linear, width)?;
                registers.set(
                    to,
                    to_width,
                    if signed {
                        sign_extend(width, value)
                    } else {
                        value
                    },
                );
            }
            Operation::AluToMemory(alu, source) => {
                let value = self.source(source, registers);
                let (result, flags) =
                    alu.apply(width, machine.read(linear, width)?, value, registers.flags);
                if alu.writes() {
                    machine.write(linear, width, result)?;
                }
                registers.flags = flags;
            }
            Operation::AluToRegister(alu, to) => {
                let value = registers.get(to, width);
                let (result, flags) =
                    alu.apply(width, value, machine.read(linear, width)?, registers.flags);
                if alu.writes() {
                    registers.set(to, width, result);
                }
                registers.flags = flags;
            }
            Operation::Test(source) => {
                let value = self.source(source, registers);
                registers.flags = Alu::And
                    .apply(width, machine.read(linear, width)?, value, registers.flags)
                    .1;
            }
            Operation::Unary(unary) => {
                let (result, flags) =
                    unary.apply(width, machine.read(linear, width)?, registers.flags);
                machine.write(linear, width, result)?;
                registers.flags = flags;
            }
            Operation::Exchange(with) => {
                let old = machine.read(linear, width)?;
                machine.write(linear, width, registers.get(with, width))?;
                registers.set(with, width, old);
            }
            Operation::CompareExchange(from) => {
                let old = machine.read(linear, width)?;
                let accumulator = registers.get(EAX, width);
                let equal = accumulator == old;
                // Memory is written either way, as the SDM says.
                machine.write(
                    linear,
                    width,
                    if equal {
                        registers.get(from, width)
                    } else {
                        old
                    },
                )?;
                registers.flags = Alu::Cmp.apply(width, accumulator, old, registers.flags).1;
                if !equal {
                    registers.set(EAX, width, old);
                }
            }
            Operation::ExchangeAdd(with) => {
                let old = machine.read(linear, width)?;
                let (sum, flags) =
                    Alu::Add.apply(width, old, registers.get(with, width), registers.flags);
                machine.write(linear, width, sum)?;
                registers.set(with, width, old);
                registers.flags = flags;
            }
            Operation::Bit(..) | Operation::Push | Operation::Pop | Operation::String(..) => {}
        }
        Ok(Progress::Done)
    }

    fn push<M: Machine>(
        &self,
        registers: &mut Registers,
        machine: &mut M,
    ) -> Result<Progress, M::Fault> {
        let linear = self.linear(registers, machine, 0);
        let value = machine.read(linear, self.width)?;
        let top = registers.esp().wrapping_sub(self.width.bytes() as u32);
        let stack = machine.segment_base(Segment::Ss).wrapping_add(top);
        machine.write(stack, self.width, value)?;
        registers.set(ESP, Width::Dword, top);
        Ok(Progress::Done)
    }

    fn pop<M: Machine>(
        &self,
        registers: &mut Registers,
        machine: &mut M,
    ) -> Result<Progress, M::Fault> {
        let stack = machine
            .segment_base(Segment::Ss)
            .wrapping_add(registers.esp());
        let value = machine.read(stack, self.width)?;
        // An address that uses ESP uses the new one.
        let mut popped = *registers;
        popped.set(
            ESP,
            Width::Dword,
            registers.esp().wrapping_add(self.width.bytes() as u32),
        );
        let linear = self.linear(&popped, machine, 0);
        machine.write(linear, self.width, value)?;
        *registers = popped;
        Ok(Progress::Done)
    }

    /// Bytes from the operand's address to the word that holds bit `number`: a register reaches beyond the operand.
    fn bit_displacement(&self, source: Source, number: u32) -> u32 {
        let number = sign_extend(self.width, number) as i32;
        match (source, self.width) {
            (Source::Immediate(_), _) => 0,
            (Source::Register(_), Width::Dword) => (number >> 5 << 2) as u32,
            (Source::Register(_), _) => (number >> 4 << 1) as u32,
        }
    }

    fn source(&self, source: Source, registers: &Registers) -> u32 {
        match source {
            Source::Register(number) => registers.get(number, self.width),
            Source::Immediate(value) => value & self.width.mask(),
        }
    }

    fn linear<M: Machine>(&self, registers: &Registers, machine: &mut M, extra: u32) -> u32 {
        machine
            .segment_base(self.address.segment)
            .wrapping_add(self.address.offset(registers, extra))
    }
}

fn sign_extend(width: Width, value: u32) -> u32 {
    match width {
        Width::Byte => value as u8 as i8 as u32,
        Width::Word => value as u16 as i16 as u32,
        Width::Dword => value,
    }
}
