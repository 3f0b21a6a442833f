//! General registers, by the numbers that ModRM bytes, exit qualifications and MOV-to-CR exits use (SDM volume 2,
//! "Instruction Format"). The kernel hands seven of them over with an exit; RSP is the VMCS field `GuestRsp`, and
//! R8 to R15 join with 64-bit guests.

/// A general register, numbered as instructions encode it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
#[allow(missing_docs)] // the names say it
pub enum Gpr {
    Rax,
    Rcx,
    Rdx,
    Rbx,
    Rsp,
    Rbp,
    Rsi,
    Rdi,
    R8,
    R9,
    R10,
    R11,
    R12,
    R13,
    R14,
    R15,
}

impl Gpr {
    /// The register with this number; only the low four bits count.
    pub const fn from_bits(number: u8) -> Self {
        match number & 15 {
            0 => Gpr::Rax,
            1 => Gpr::Rcx,
            2 => Gpr::Rdx,
            3 => Gpr::Rbx,
            4 => Gpr::Rsp,
            5 => Gpr::Rbp,
            6 => Gpr::Rsi,
            7 => Gpr::Rdi,
            8 => Gpr::R8,
            9 => Gpr::R9,
            10 => Gpr::R10,
            11 => Gpr::R11,
            12 => Gpr::R12,
            13 => Gpr::R13,
            14 => Gpr::R14,
            _ => Gpr::R15,
        }
    }
}

/// The registers that VMEnter returns and `VCPU_WriteRegisters` sets, in the kernel's order (`sel4/arch/vmenter.h`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Gprs {
    pub rax: u64,
    pub rbx: u64,
    pub rcx: u64,
    pub rdx: u64,
    pub rsi: u64,
    pub rdi: u64,
    pub rbp: u64,
}

/// Where a register stands in [`Gprs`], and so among the words of an exit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
#[allow(missing_docs)]
pub enum MessageGpr {
    Rax,
    Rbx,
    Rcx,
    Rdx,
    Rsi,
    Rdi,
    Rbp,
}

impl MessageGpr {
    /// All of them, in order.
    pub const ALL: [Self; 7] = [Self::Rax, Self::Rbx, Self::Rcx, Self::Rdx, Self::Rsi, Self::Rdi, Self::Rbp];
}

impl Gpr {
    /// The place of the register, or `None` where the kernel does not hand it over with an exit.
    pub const fn place(self) -> Option<MessageGpr> {
        match self {
            Gpr::Rax => Some(MessageGpr::Rax),
            Gpr::Rbx => Some(MessageGpr::Rbx),
            Gpr::Rcx => Some(MessageGpr::Rcx),
            Gpr::Rdx => Some(MessageGpr::Rdx),
            Gpr::Rsi => Some(MessageGpr::Rsi),
            Gpr::Rdi => Some(MessageGpr::Rdi),
            Gpr::Rbp => Some(MessageGpr::Rbp),
            _ => None,
        }
    }
}

impl Gprs {
    /// The value of `gpr`, or `None` where the kernel does not hand it over with an exit.
    pub const fn get(&self, gpr: Gpr) -> Option<u64> {
        match gpr.place() {
            Some(place) => Some(self.at(place)),
            None => None,
        }
    }

    /// The place of `gpr`, or `None` where it is not among these.
    pub const fn get_mut(&mut self, gpr: Gpr) -> Option<&mut u64> {
        match gpr.place() {
            Some(place) => Some(self.at_mut(place)),
            None => None,
        }
    }

    /// The value at `place`.
    pub const fn at(&self, place: MessageGpr) -> u64 {
        match place {
            MessageGpr::Rax => self.rax,
            MessageGpr::Rbx => self.rbx,
            MessageGpr::Rcx => self.rcx,
            MessageGpr::Rdx => self.rdx,
            MessageGpr::Rsi => self.rsi,
            MessageGpr::Rdi => self.rdi,
            MessageGpr::Rbp => self.rbp,
        }
    }

    /// The same, to be changed.
    pub const fn at_mut(&mut self, place: MessageGpr) -> &mut u64 {
        match place {
            MessageGpr::Rax => &mut self.rax,
            MessageGpr::Rbx => &mut self.rbx,
            MessageGpr::Rcx => &mut self.rcx,
            MessageGpr::Rdx => &mut self.rdx,
            MessageGpr::Rsi => &mut self.rsi,
            MessageGpr::Rdi => &mut self.rdi,
            MessageGpr::Rbp => &mut self.rbp,
        }
    }
}
