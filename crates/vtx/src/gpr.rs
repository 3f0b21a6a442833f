//! General registers, by the numbers that ModRM bytes, exit qualifications and MOV-to-CR exits use (SDM volume 2,
//! "Instruction Format"). The kernel hands them over with an exit, except for RSP, which is the VMCS field `GuestRsp`. A
//! kernel without 64-bit guests leaves out R8 to R15, which its guests do not have.

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

/// The registers that VMEnter returns and `VCPU_WriteRegisters` sets, in the kernel's order (`sel4/arch/vmenter.h`). R8 to
/// R15 are zero if the kernel does not support 64-bit guests.
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
    pub r8: u64,
    pub r9: u64,
    pub r10: u64,
    pub r11: u64,
    pub r12: u64,
    pub r13: u64,
    pub r14: u64,
    pub r15: u64,
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
    R8,
    R9,
    R10,
    R11,
    R12,
    R13,
    R14,
    R15,
}

impl MessageGpr {
    /// All of them, in order.
    pub const ALL: [Self; 15] = [
        Self::Rax,
        Self::Rbx,
        Self::Rcx,
        Self::Rdx,
        Self::Rsi,
        Self::Rdi,
        Self::Rbp,
        Self::R8,
        Self::R9,
        Self::R10,
        Self::R11,
        Self::R12,
        Self::R13,
        Self::R14,
        Self::R15,
    ];
}

impl Gpr {
    /// The place of the register, or `None` for RSP.
    pub const fn place(self) -> Option<MessageGpr> {
        Some(match self {
            Gpr::Rax => MessageGpr::Rax,
            Gpr::Rcx => MessageGpr::Rcx,
            Gpr::Rdx => MessageGpr::Rdx,
            Gpr::Rbx => MessageGpr::Rbx,
            Gpr::Rsp => return None,
            Gpr::Rbp => MessageGpr::Rbp,
            Gpr::Rsi => MessageGpr::Rsi,
            Gpr::Rdi => MessageGpr::Rdi,
            Gpr::R8 => MessageGpr::R8,
            Gpr::R9 => MessageGpr::R9,
            Gpr::R10 => MessageGpr::R10,
            Gpr::R11 => MessageGpr::R11,
            Gpr::R12 => MessageGpr::R12,
            Gpr::R13 => MessageGpr::R13,
            Gpr::R14 => MessageGpr::R14,
            Gpr::R15 => MessageGpr::R15,
        })
    }
}

impl Gprs {
    /// The value of `gpr`, or `None` for RSP.
    pub const fn get(&self, gpr: Gpr) -> Option<u64> {
        match gpr.place() {
            Some(place) => Some(self.at(place)),
            None => None,
        }
    }

    /// The place of `gpr`, or `None` for RSP.
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
            MessageGpr::R8 => self.r8,
            MessageGpr::R9 => self.r9,
            MessageGpr::R10 => self.r10,
            MessageGpr::R11 => self.r11,
            MessageGpr::R12 => self.r12,
            MessageGpr::R13 => self.r13,
            MessageGpr::R14 => self.r14,
            MessageGpr::R15 => self.r15,
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
            MessageGpr::R8 => &mut self.r8,
            MessageGpr::R9 => &mut self.r9,
            MessageGpr::R10 => &mut self.r10,
            MessageGpr::R11 => &mut self.r11,
            MessageGpr::R12 => &mut self.r12,
            MessageGpr::R13 => &mut self.r13,
            MessageGpr::R14 => &mut self.r14,
            MessageGpr::R15 => &mut self.r15,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_register_but_rsp_has_a_place_of_its_own() {
        let mut gprs = Gprs::default();
        for number in 0..16 {
            match gprs.get_mut(Gpr::from_bits(number)) {
                Some(place) => *place = 0x100 + u64::from(number),
                None => assert_eq!(number, 4, "RSP"),
            }
        }
        // By ModRM: RAX 0, RCX 1, RDX 2, RBX 3, RBP 5, RSI 6, RDI 7.
        let order = [0, 3, 1, 2, 6, 7, 5, 8, 9, 10, 11, 12, 13, 14, 15].map(|number| 0x100 + number);
        assert_eq!(MessageGpr::ALL.map(|place| gprs.at(place)), order);
        assert_eq!(MessageGpr::ALL.map(|place| place as usize), core::array::from_fn(|index| index));
        assert_eq!((gprs.rbx, gprs.get(Gpr::R15), gprs.get(Gpr::Rsp)), (0x103, Some(0x10f), None));
    }
}
