//! String instructions: rounds of plain accesses, from DS:RSI (or another segment) and to or with ES:RDI.

use super::alu::{Alu, flags};
use super::{AddressSpace, Instruction, Progress, Registers, Repeat, Segment, StringOperation};

/// Rounds of a repeated string instruction in one call, so that a count chosen by the guest does not hold the VMM.
pub const BATCH: u32 = 64;

const RAX: u8 = 0;
const RCX: u8 = 1;
const RSI: u8 = 6;
const RDI: u8 = 7;

impl Instruction {
    pub(super) fn execute_string<M: AddressSpace>(
        &self,
        string: StringOperation,
        repeat: Repeat,
        registers: &mut Registers,
        memory: &mut M,
    ) -> Result<Progress, M::Fault> {
        if repeat == Repeat::Once {
            self.round(string, registers, memory)?;
            return Ok(Progress::Done);
        }
        let size = self.address.size.offset();
        for _ in 0..BATCH {
            let count = registers.get(RCX, size);
            if count == 0 {
                return Ok(Progress::Done);
            }
            self.round(string, registers, memory)?;
            registers.set(RCX, size, count - 1);
            if string.compares() && (registers.flags & flags::ZF != 0) != (repeat == Repeat::WhileEqual) {
                return Ok(Progress::Done);
            }
        }
        Ok(if registers.get(RCX, size) == 0 { Progress::Done } else { Progress::More })
    }

    fn round<M: AddressSpace>(
        &self,
        string: StringOperation,
        registers: &mut Registers,
        memory: &mut M,
    ) -> Result<(), M::Fault> {
        let (width, accumulator) = (self.width, registers.get(RAX, self.width));
        match string {
            StringOperation::Move => {
                let value = self.read_source(registers, memory)?;
                self.write_destination(registers, memory, value)?;
            }
            StringOperation::Compare => {
                let a = self.read_source(registers, memory)?;
                let b = self.read_destination(registers, memory)?;
                registers.flags = Alu::Cmp.apply(width, a, b, registers.flags).1;
            }
            StringOperation::Store => self.write_destination(registers, memory, accumulator)?,
            StringOperation::Load => {
                let value = self.read_source(registers, memory)?;
                registers.set(RAX, width, value);
            }
            StringOperation::Scan => {
                let b = self.read_destination(registers, memory)?;
                registers.flags = Alu::Cmp.apply(width, accumulator, b, registers.flags).1;
            }
        }
        let size = self.address.size.offset();
        let bytes = width.bytes() as u64;
        let step = if registers.flags & flags::DF != 0 { bytes.wrapping_neg() } else { bytes };
        for (used, number) in [(string.has_source(), RSI), (string.has_destination(), RDI)] {
            if used {
                registers.set(number, size, registers.get(number, size).wrapping_add(step));
            }
        }
        Ok(())
    }

    /// The linear address that the register of this number has.
    fn at(&self, base: u64, registers: &Registers, number: u8) -> u64 {
        self.mode.wrap(base.wrapping_add(registers.get(number, self.address.size.offset())))
    }

    fn read_source<M: AddressSpace>(&self, registers: &Registers, memory: &mut M) -> Result<u64, M::Fault> {
        let base = memory.segment_base(self.address.segment);
        memory.read(self.at(base, registers, RSI), self.width)
    }

    fn read_destination<M: AddressSpace>(&self, registers: &Registers, memory: &mut M) -> Result<u64, M::Fault> {
        let base = memory.segment_base(Segment::Es);
        memory.read(self.at(base, registers, RDI), self.width)
    }

    fn write_destination<M: AddressSpace>(
        &self,
        registers: &Registers,
        memory: &mut M,
        value: u64,
    ) -> Result<(), M::Fault> {
        let base = memory.segment_base(Segment::Es);
        memory.write(self.at(base, registers, RDI), self.width, value)
    }
}

impl StringOperation {
    fn compares(self) -> bool {
        matches!(self, StringOperation::Compare | StringOperation::Scan)
    }

    fn has_source(self) -> bool {
        matches!(self, StringOperation::Move | StringOperation::Compare | StringOperation::Load)
    }

    fn has_destination(self) -> bool {
        self != StringOperation::Load
    }
}
