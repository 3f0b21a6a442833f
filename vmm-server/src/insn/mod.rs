//! Emulates the instruction that accessed an address without RAM (SDM volume 2). An EPT violation gives the address,
//! not the register, so the VMM fetches the bytes at CS:EIP, decodes them, and executes the instruction in an
//! [`AddressSpace`] that sends each access to RAM or to a device.
//!
//! Here are the integer instructions with a memory operand: MOV in all forms, arithmetic, shifts, multiplication, bit tests
//! and scans, exchanges, conditions, string instructions, flushes of caches, PUSH and POP; for 16-bit, 32-bit and 64-bit code. All else
//! is `None`: register-only forms (they cannot have faulted), far pointers, and the instructions of [`is_native`],
//! among them FPU, SSE and division, which the processor can execute itself where there is no device. Also left out:
//! segment limits (the processor has checked the operand that faulted), 16-bit stacks.

mod address;
mod alu;
mod condition;
mod cursor;
mod decode;
mod execute;
mod multiply;
mod native;
mod registers;
mod shift;
mod string;

pub use address::{Address, NEXT, Segment};
pub use alu::{Alu, flags};
pub use arch::{Mode, Width};
pub use condition::Condition;
pub use execute::{AddressSpace, Progress};
pub use multiply::multiply;
pub use native::is_native;
pub use registers::{LOW_BYTE, Registers};
pub use shift::{DoubleShift, Shift};
pub use string::BATCH;

/// Longest instruction, in bytes.
pub const MAX_LENGTH: usize = 15;

/// An instruction with a memory operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Instruction {
    /// Bytes.
    pub length: u8,
    /// What it does.
    pub operation: Operation,
    /// Size of the memory operand, or of each half where there are two.
    pub width: Width,
    /// Where the memory operand is. For string instructions, only the segment and the address size count.
    pub address: Address,
    /// Of the code.
    pub mode: Mode,
}

/// What an instruction does with its memory operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// MOV from memory to the register with this number.
    Load(u8),
    /// MOV, MOVNTI or MOVDIRI to memory.
    Store(Source),
    /// MOVBE from memory.
    LoadSwapped(u8),
    /// MOVBE to memory.
    StoreSwapped(u8),
    /// MOVZX or MOVSX to the register with this number.
    Extend {
        /// Destination.
        to: u8,
        /// Its width.
        to_width: Width,
        /// MOVSX.
        signed: bool,
    },
    /// ADD, OR, ADC, SBB, AND, SUB, XOR or CMP with memory as the destination.
    AluToMemory(Alu, Source),
    /// The same with a register as the destination.
    AluToRegister(Alu, u8),
    /// TEST.
    Test(Source),
    /// INC, DEC, NOT or NEG.
    Unary(Unary),
    /// XCHG with a register.
    Exchange(u8),
    /// CMPXCHG from a register.
    CompareExchange(u8),
    /// CMPXCHG8B or CMPXCHG16B, with EDX:EAX and ECX:EBX, or RDX:RAX and RCX:RBX; the operand is two of its width.
    CompareExchangeTwo,
    /// CLFLUSH, CLFLUSHOPT or CLWB: nothing is cached here.
    Flush,
    /// XADD with a register.
    ExchangeAdd(u8),
    /// BT, BTS, BTR or BTC; the bit's number is the source, signed and unbounded if in a register.
    Bit(BitOperation, Source),
    /// A shift or a rotation; the count is the source: a constant, or CL.
    Shift(Shift, Source),
    /// SHLD or SHRD, with bits from the register with this number; the count as for the others.
    DoubleShift(DoubleShift, u8, Source),
    /// MUL or IMUL with the accumulator, to twice its width: to AX, or EDX and EAX in their width.
    MultiplyWide {
        /// IMUL.
        signed: bool,
    },
    /// IMUL with the source to the register with this number.
    Multiply(u8, Source),
    /// BSF to the register with this number.
    ScanForward(u8),
    /// BSR, likewise.
    ScanReverse(u8),
    /// POPCNT, likewise.
    CountOnes(u8),
    /// CMOVcc to the register with this number: reads in any case.
    LoadIf(Condition, u8),
    /// SETcc.
    StoreIf(Condition),
    /// PUSH.
    Push,
    /// POP.
    Pop,
    /// MOVS, CMPS, STOS, LODS or SCAS.
    String(StringOperation, Repeat),
}

/// The operand that is not in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The register with this number, in the instruction's width. If that is a byte, 4 to 7 are AH, CH, DH and BH, unless
    /// [`LOW_BYTE`] is added to the number.
    Register(u8),
    /// A constant, sign-extended.
    Immediate(u64),
}

/// An operation with one operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Unary {
    Inc,
    Dec,
    Not,
    Neg,
}

/// What becomes of the bit that is copied to CF.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum BitOperation {
    Test,
    Set,
    Reset,
    Complement,
}

/// A string instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StringOperation {
    /// MOVS
    Move,
    /// CMPS
    Compare,
    /// STOS
    Store,
    /// LODS
    Load,
    /// SCAS
    Scan,
}

/// How often a string instruction works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repeat {
    /// Once.
    Once,
    /// CX, ECX or RCX times; CMPS and SCAS only while ZF is set. REP and REPE are one prefix.
    WhileEqual,
    /// CX, ECX or RCX times; CMPS and SCAS only while ZF is clear.
    WhileNotEqual,
}

impl Instruction {
    /// Whether executing it reads or writes RSP, which costs a system call to get at.
    pub fn uses_stack_pointer(&self) -> bool {
        const RSP: u8 = 4;
        // Without `LOW_BYTE`, a byte register of that number is AH.
        let number = if self.width == Width::Byte { RSP | LOW_BYTE } else { RSP };
        let operand = match self.operation {
            Operation::Push | Operation::Pop => true,
            Operation::Extend { to, .. } => to == RSP,
            Operation::Multiply(to, _) | Operation::DoubleShift(_, to, _) => to == RSP,
            Operation::ScanForward(to) | Operation::ScanReverse(to) | Operation::CountOnes(to) => to == RSP,
            Operation::LoadIf(_, to) => to == RSP,
            Operation::Load(register)
            | Operation::LoadSwapped(register)
            | Operation::StoreSwapped(register)
            | Operation::AluToRegister(_, register)
            | Operation::Exchange(register)
            | Operation::CompareExchange(register)
            | Operation::ExchangeAdd(register)
            | Operation::Store(Source::Register(register))
            | Operation::AluToMemory(_, Source::Register(register))
            | Operation::Test(Source::Register(register))
            | Operation::Bit(_, Source::Register(register)) => register == number,
            _ => false,
        };
        operand || self.address.uses(RSP)
    }
}
