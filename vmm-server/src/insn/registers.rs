//! General registers and flags, with the merging that each width asks for (SDM volume 1, "General-Purpose Registers").

use vtx::gpr::Gprs;

use super::Width;

/// Registers by number: RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI, R8 to R15; and RFLAGS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Registers {
    /// The sixteen registers.
    pub general: [u64; 16],
    /// RFLAGS.
    pub flags: u64,
    /// The address of the next instruction, for an operand that is [relative to it](super::NEXT).
    pub next: u64,
}

/// Added to the number of a byte register: its low byte, whatever the number. Numbers 4 to 7 without it are AH, CH, DH and BH;
/// with it, SPL, BPL, SIL and DIL, which take a REX prefix.
pub const LOW_BYTE: u8 = 16;

impl Registers {
    /// From what an exit gives. `rsp` may be anything where the instruction does not use it. 32-bit code of a guest in long mode
    /// leaves the upper halves alone, and R8 to R15, as processors do.
    pub const fn new(gprs: &Gprs, rsp: u64, rflags: u64) -> Self {
        let Gprs { rax, rbx, rcx, rdx, rsi, rdi, rbp, r8, r9, r10, r11, r12, r13, r14, r15 } = *gprs;
        let general = [rax, rcx, rdx, rbx, rsp, rbp, rsi, rdi, r8, r9, r10, r11, r12, r13, r14, r15];
        Registers { general, flags: rflags, next: 0 }
    }

    /// For the kernel to set, without RSP and RFLAGS, which are VMCS fields.
    pub const fn gprs(&self) -> Gprs {
        let [rax, rcx, rdx, rbx, _, rbp, rsi, rdi, r8, r9, r10, r11, r12, r13, r14, r15] = self.general;
        Gprs { rax, rbx, rcx, rdx, rsi, rdi, rbp, r8, r9, r10, r11, r12, r13, r14, r15 }
    }

    /// RSP.
    pub const fn rsp(&self) -> u64 {
        self.general[4]
    }

    /// The register that `number` means in this width. Of the number, four bits and [`LOW_BYTE`] count.
    pub const fn get(&self, number: u8, width: Width) -> u64 {
        match (width, number & (LOW_BYTE | 15)) {
            (Width::Byte, 4..8) => self.general[(number & 3) as usize] >> 8 & 0xff,
            (_, register) => self.general[(register & 15) as usize] & width.mask(),
        }
    }

    /// Writes the register that `number` means in this width. What lies beside a byte or a word stays; above a double word it
    /// becomes zero.
    pub const fn set(&mut self, number: u8, width: Width, value: u64) {
        let value = value & width.mask();
        match (width, number & (LOW_BYTE | 15)) {
            (Width::Byte, 4..8) => {
                let register = &mut self.general[(number & 3) as usize];
                *register = *register & !0xff00 | value << 8;
            }
            (Width::Dword, register) => self.general[(register & 15) as usize] = value,
            (_, register) => {
                let register = &mut self.general[(register & 15) as usize];
                *register = *register & !width.mask() | value;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_byte_goes_into_its_quarter() {
        let mut registers = Registers { general: [0x1122_3344; 16], ..Registers::default() };
        registers.set(0, Width::Byte, 0xfffa);
        registers.set(5, Width::Byte, 0xfb);
        assert_eq!(registers.general[0], 0x1122_33fa);
        assert_eq!(registers.general[1], 0x1122_fb44);
        assert_eq!(registers.get(4, Width::Byte), 0x33);
        assert_eq!(registers.get(5, Width::Byte), 0xfb);
    }

    #[test]
    fn under_rex_every_register_has_its_low_byte() {
        let mut registers = Registers { general: [0x1122_3344; 16], ..Registers::default() };
        registers.set(LOW_BYTE | 4, Width::Byte, 0xfffa);
        registers.set(9, Width::Byte, 0xfb);
        assert_eq!(
            [registers.general[0], registers.general[4], registers.general[9]],
            [0x1122_3344, 0x1122_33fa, 0x1122_33fb]
        );
        assert_eq!(
            [LOW_BYTE | 4, LOW_BYTE | 5, 9].map(|number| registers.get(number, Width::Byte)),
            [0xfa, 0x44, 0xfb]
        );
    }

    #[test]
    fn a_word_leaves_the_upper_half() {
        let mut registers = Registers { general: [0x1122_3344; 16], ..Registers::default() };
        registers.set(4, Width::Word, 0xdead_beef);
        assert_eq!(registers.general[4], 0x1122_beef);
        assert_eq!(registers.get(4, Width::Word), 0xbeef);
    }

    #[test]
    fn a_double_word_clears_the_upper_half_and_a_quad_word_is_all() {
        let mut registers = Registers::default();
        registers.set(9, Width::Qword, 0x1122_3344_5566_7788);
        assert_eq!(registers.get(9, Width::Qword), 0x1122_3344_5566_7788);
        registers.set(9, Width::Dword, 0x9988_7766);
        assert_eq!(registers.general[9], 0x9988_7766);
    }

    #[test]
    fn registers_go_through_the_kernels_order_and_back() {
        let gprs = Gprs { rax: 1, rbx: 2, rcx: 3, rdx: 4, rsi: 5, rdi: 6, rbp: 7, r9: 9, r15: 15, ..Gprs::default() };
        let registers = Registers::new(&gprs, 8, 2);
        assert_eq!(registers.general, [1, 3, 4, 2, 8, 7, 5, 6, 0, 9, 0, 0, 0, 0, 0, 15]);
        assert_eq!(registers.gprs(), gprs);
        assert_eq!(registers.rsp(), 8);
    }
}
