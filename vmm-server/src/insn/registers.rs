//! General registers and flags of a 32-bit guest, with the merging that each width asks for (SDM volume 1,
//! "General-Purpose Registers").

use super::Width;
use vtx::gpr::Gprs;

/// Registers by number: EAX, ECX, EDX, EBX, ESP, EBP, ESI, EDI; and EFLAGS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Registers {
    /// The eight registers.
    pub general: [u32; 8],
    /// EFLAGS.
    pub flags: u32,
}

impl Registers {
    /// From what an exit gives. `rsp` may be anything where the instruction does not use it.
    pub const fn new(gprs: &Gprs, rsp: u64, rflags: u64) -> Self {
        let Gprs { rax, rbx, rcx, rdx, rsi, rdi, rbp } = *gprs;
        let general = [rax as u32, rcx as u32, rdx as u32, rbx as u32, rsp as u32, rbp as u32, rsi as u32, rdi as u32];
        Registers { general, flags: rflags as u32 }
    }

    /// For the kernel to set, without RSP and RFLAGS, which are VMCS fields.
    pub const fn gprs(&self) -> Gprs {
        let [rax, rcx, rdx, rbx, _, rbp, rsi, rdi] = self.general;
        Gprs {
            rax: rax as u64,
            rbx: rbx as u64,
            rcx: rcx as u64,
            rdx: rdx as u64,
            rsi: rsi as u64,
            rdi: rdi as u64,
            rbp: rbp as u64,
        }
    }

    /// ESP.
    pub const fn esp(&self) -> u32 {
        self.general[4]
    }

    /// The register that `number` means in this width. Only three bits of the number count.
    pub const fn get(&self, number: u8, width: Width) -> u32 {
        match (width, number & 7) {
            (Width::Byte, 4..) => self.general[(number & 3) as usize] >> 8 & 0xff,
            (_, register) => self.general[register as usize] & width.mask32(),
        }
    }

    /// Writes the register that `number` means in this width; what lies beside it stays.
    pub const fn set(&mut self, number: u8, width: Width, value: u32) {
        let value = value & width.mask32();
        match (width, number & 7) {
            (Width::Byte, 4..) => {
                let register = &mut self.general[(number & 3) as usize];
                *register = *register & !0xff00 | value << 8;
            }
            (_, register) => {
                let register = &mut self.general[register as usize];
                *register = *register & !width.mask32() | value;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_byte_goes_into_its_quarter() {
        let mut registers = Registers { general: [0x1122_3344; 8], flags: 0 };
        registers.set(0, Width::Byte, 0xfffa);
        registers.set(5, Width::Byte, 0xfb);
        assert_eq!(registers.general[0], 0x1122_33fa);
        assert_eq!(registers.general[1], 0x1122_fb44);
        assert_eq!(registers.get(4, Width::Byte), 0x33);
        assert_eq!(registers.get(5, Width::Byte), 0xfb);
    }

    #[test]
    fn a_word_leaves_the_upper_half() {
        let mut registers = Registers { general: [0x1122_3344; 8], flags: 0 };
        registers.set(4, Width::Word, 0xdead_beef);
        assert_eq!(registers.general[4], 0x1122_beef);
        assert_eq!(registers.get(4, Width::Word), 0xbeef);
    }

    #[test]
    fn registers_go_through_the_kernels_order_and_back() {
        let gprs = Gprs { rax: 1, rbx: 2, rcx: 3, rdx: 4, rsi: 5, rdi: 6, rbp: 7 };
        let registers = Registers::new(&gprs, 8, 2);
        assert_eq!(registers.general, [1, 3, 4, 2, 8, 7, 5, 6]);
        assert_eq!(registers.gprs(), gprs);
        assert_eq!(registers.esp(), 8);
    }
}
