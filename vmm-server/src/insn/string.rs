//! String instructions: rounds of plain accesses, from DS:ESI (or another segment) and to or with ES:EDI.

use super::alu::{Alu, flags};
use super::{Instruction, Machine, Progress, Registers, Repeat, Segment, StringOperation};

/// Rounds of a repeated string instruction in one call, so that a count chosen by the guest does not hold the VMM.
pub const BATCH: u32 = 64;

const EAX: u8 = 0;
const ECX: u8 = 1;
const ESI: u8 = 6;
const EDI: u8 = 7;

impl Instruction {
    pub(super) fn execute_string<M: Machine>(
        &self,
        string: StringOperation,
        repeat: Repeat,
        registers: &mut Registers,
        machine: &mut M,
    ) -> Result<Progress, M::Fault> {
        if repeat == Repeat::Once {
            self.round(string, registers, machine)?;
            return Ok(Progress::Done);
        }
        let size = self.address.size.width();
        for _ in 0..BATCH {
            let count = registers.get(ECX, size);
            if count == 0 {
                return Ok(Progress::Done);
            }
            self.round(string, registers, machine)?;
            registers.set(ECX, size, count - 1);
            if string.compares() && (registers.flags & flags::ZF != 0) != (repeat == Repeat::WhileEqual) {
                return Ok(Progress::Done);
            }
        }
        Ok(if registers.get(ECX, size) == 0 { Progress::Done } else { Progress::More })
    }

    fn round<M: Machine>(
        &self,
        string: StringOperation,
        registers: &mut Registers,
        machine: &mut M,
    ) -> Result<(), M::Fault> {
        let (width, accumulator) = (self.width, registers.get(EAX, self.width));
        match string {
            StringOperation::Move => {
                let value = self.read_source(registers, machine)?;
                self.write_destination(registers, machine, value)?;
            }
            StringOperation::Compare => {
                let a = self.read_source(registers, machine)?;
                let b = self.read_destination(registers, machine)?;
                registers.flags = Alu::Cmp.apply(width, a, b, registers.flags).1;
            }
            StringOperation::Store => self.write_destination(registers, machine, accumulator)?,
            StringOperation::Load => {
                let value = self.read_source(registers, machine)?;
                registers.set(EAX, width, value);
            }
            StringOperation::Scan => {
                let b = self.read_destination(registers, machine)?;
                registers.flags = Alu::Cmp.apply(width, accumulator, b, registers.flags).1;
            }
        }
        let size = self.address.size.width();
        let bytes = width.bytes() as u32;
        let step = if registers.flags & flags::DF != 0 { bytes.wrapping_neg() } else { bytes };
        for (used, number) in [(string.has_source(), ESI), (string.has_destination(), EDI)] {
            if used {
                registers.set(number, size, registers.get(number, size).wrapping_add(step));
            }
        }
        Ok(())
    }

    fn read_source<M: Machine>(&self, registers: &Registers, machine: &mut M) -> Result<u32, M::Fault> {
        let base = machine.segment_base(self.address.segment);
        machine.read(base.wrapping_add(registers.get(ESI, self.address.size.width())), self.width)
    }

    fn read_destination<M: Machine>(&self, registers: &Registers, machine: &mut M) -> Result<u32, M::Fault> {
        let base = machine.segment_base(Segment::Es);
        machine.read(base.wrapping_add(registers.get(EDI, self.address.size.width())), self.width)
    }

    fn write_destination<M: Machine>(
        &self,
        registers: &Registers,
        machine: &mut M,
        value: u32,
    ) -> Result<(), M::Fault> {
        let base = machine.segment_base(Segment::Es);
        machine.write(base.wrapping_add(registers.get(EDI, self.address.size.width())), self.width, value)
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
