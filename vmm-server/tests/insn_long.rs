//! Instructions of 64-bit code, as byte arrays.

use std::collections::BTreeMap;
use vmm_server::insn::*;

const RAX: usize = 0;
const RCX: usize = 1;
const RBX: usize = 3;
const RSP: usize = 4;
const RSI: usize = 6;
const RDI: usize = 7;
const R9: usize = 9;
/// Where the tests' device is, and the instruction's end.
const AT: u64 = 0xffff_8880_fee0_0020;
const NEXT_RIP: u64 = 0xffff_8880_fee0_1000;

/// Words of 64 bits by address; a store of fewer bytes goes to the low end.
#[derive(Default)]
struct Memory {
    words: BTreeMap<u64, u64>,
    log: Vec<(char, u64, Width, u64)>,
    gs: u64,
}

impl AddressSpace for Memory {
    type Fault = ();

    fn segment_base(&mut self, segment: Segment) -> u64 {
        if segment == Segment::Gs { self.gs } else { 0 }
    }

    fn read(&mut self, linear: u64, width: Width) -> Result<u64, ()> {
        let value = self.words.get(&linear).copied().unwrap_or(0) & width.mask();
        self.log.push(('r', linear, width, value));
        Ok(value)
    }

    fn write(&mut self, linear: u64, width: Width, value: u64) -> Result<(), ()> {
        self.words.insert(linear, value);
        self.log.push(('w', linear, width, value));
        Ok(())
    }
}

fn registers() -> Registers {
    let mut registers = Registers { flags: 2, next: NEXT_RIP, ..Registers::default() };
    registers.general = core::array::from_fn(|number| 0x1111_1111_1111_1111 * number as u64);
    registers.general[RBX] = AT;
    registers
}

/// Runs one instruction on a device that holds 0xfedcba9876543210.
fn ran(bytes: &[u8]) -> (Registers, Memory) {
    let (mut registers, mut memory) = (registers(), Memory::default());
    memory.words.insert(AT, 0xfedc_ba98_7654_3210);
    assert_eq!(run(bytes, &mut registers, &mut memory), Progress::Done);
    (registers, memory)
}

fn run(bytes: &[u8], registers: &mut Registers, memory: &mut Memory) -> Progress {
    let instruction = Instruction::decode(bytes, Mode::Bits64).expect("an instruction");
    assert_eq!(usize::from(instruction.length), bytes.len());
    instruction.execute(registers, memory).unwrap()
}

#[test]
fn loads_fill_or_merge_by_width() {
    assert_eq!(ran(&[0x4c, 0x8b, 0x0b]).0.general[R9], 0xfedc_ba98_7654_3210, "mov r9, [rbx]");
    assert_eq!(ran(&[0x44, 0x8b, 0x0b]).0.general[R9], 0x7654_3210, "mov r9d, [rbx]");
    assert_eq!(ran(&[0x66, 0x44, 0x8b, 0x0b]).0.general[R9], 0x9999_9999_9999_3210, "mov r9w, [rbx]");
    assert_eq!(ran(&[0x44, 0x8a, 0x0b]).0.general[R9], 0x9999_9999_9999_9910, "mov r9b, [rbx]");
    assert_eq!(ran(&[0x40, 0x8a, 0x33]).0.general[RSI], 0x6666_6666_6666_6610, "mov sil, [rbx]");
    assert_eq!(ran(&[0x8a, 0x33]).0.general[RSI], 0x6666_6666_6666_6666, "mov dh, [rbx]");
    assert_eq!(ran(&[0x48, 0x63, 0x03]).0.general[RAX], 0x7654_3210, "movsxd rax, [rbx]");
    assert_eq!(ran(&[0x48, 0x0f, 0xbe, 0x43, 0]).0.general[RAX], 0x10, "movsx rax, byte [rbx + 0]");
}

#[test]
fn stores_have_their_width_and_extended_constants() {
    assert_eq!(ran(&[0x4c, 0x89, 0x0b]).1.log, [('w', AT, Width::Qword, 0x9999_9999_9999_9999)], "mov [rbx], r9");
    assert_eq!(ran(&[0x40, 0x88, 0x23]).1.log, [('w', AT, Width::Byte, 0x44)], "mov [rbx], spl");
    let minus_two = [0x48, 0xc7, 0x03, 0xfe, 0xff, 0xff, 0xff];
    assert_eq!(ran(&minus_two).1.log, [('w', AT, Width::Qword, u64::MAX - 1)], "mov qword [rbx], -2");
    assert_eq!(ran(&[0x48, 0x0f, 0xc3, 0x03]).1.log, [('w', AT, Width::Qword, 0)], "movnti [rbx], rax");
}

#[test]
fn an_operand_counts_from_the_next_instruction_or_has_an_absolute_address() {
    let below = [0x8b, 0x05, 0x20, 0xf0, 0xff, 0xff];
    assert_eq!(ran(&below).1.log[0].1, AT, "mov eax, [rip - 0xfe0]");
    let wide = [0x48, 0xa1, 0x20, 0x00, 0xe0, 0xfe, 0x80, 0x88, 0xff, 0xff];
    assert_eq!(ran(&wide).0.general[RAX], 0xfedc_ba98_7654_3210, "mov rax, [0xffff8880fee00020]");
    let absolute = [0x8b, 0x04, 0x25, 0x00, 0xb0, 0x5f, 0xff];
    assert_eq!(ran(&absolute).1.log[0].1, 0xffff_ffff_ff5f_b000, "mov eax, [0xffffffffff5fb000]");
    assert_eq!(ran(&[0x67, 0x8b, 0x03]).1.log[0].1, 0xfee0_0020, "mov eax, [ebx]");
}

#[test]
fn only_fs_and_gs_have_a_base() {
    let (mut registers, mut memory) = (registers(), Memory { gs: 0x1000, ..Memory::default() });
    run(&[0x65, 0x8b, 0x03], &mut registers, &mut memory);
    run(&[0x65, 0x2e, 0x8b, 0x03], &mut registers, &mut memory);
    run(&[0x2e, 0x8b, 0x03], &mut registers, &mut memory);
    assert_eq!(memory.log.iter().map(|access| access.1).collect::<Vec<_>>(), [AT + 0x1000, AT + 0x1000, AT]);
}

#[test]
fn cmpxchg16b_exchanges_two_quad_words() {
    let (mut registers, mut memory) = (registers(), Memory::default());
    registers.general[..3].copy_from_slice(&[5, 7, 6]);
    memory.words.extend([(AT, 5), (AT + 8, 6)]);
    run(&[0xf0, 0x48, 0x0f, 0xc7, 0x0b], &mut registers, &mut memory);
    assert_eq!((memory.words[&AT], memory.words[&(AT + 8)], registers.flags & flags::ZF), (AT, 7, flags::ZF));
}

#[test]
fn the_stack_has_64_bits_and_no_prefix_makes_it_32() {
    for bytes in [&[0xff, 0x33][..], &[0x48, 0xff, 0x33]] {
        let (registers, memory) = ran(bytes);
        assert_eq!(registers.rsp(), 0x4444_4444_4444_443c, "push qword [rbx]");
        assert_eq!(memory.log[1], ('w', 0x4444_4444_4444_443c, Width::Qword, 0xfedc_ba98_7654_3210));
    }
    assert_eq!(ran(&[0x66, 0xff, 0x33]).0.rsp(), 0x4444_4444_4444_4442, "push word [rbx]");
    assert_eq!(ran(&[0x8f, 0x03]).0.general[RSP], 0x4444_4444_4444_444c, "pop qword [rbx]");
}

#[test]
fn strings_count_in_rcx_or_with_a_prefix_in_ecx() {
    let (mut registers, mut memory) = (registers(), Memory::default());
    (registers.general[RCX], registers.general[RDI]) = (2, AT);
    assert_eq!(run(&[0xf3, 0x48, 0xab], &mut registers, &mut memory), Progress::Done, "rep stosq");
    assert_eq!(memory.log, [('w', AT, Width::Qword, 0), ('w', AT + 8, Width::Qword, 0)]);
    assert_eq!((registers.general[RCX], registers.general[RDI]), (0, AT + 16));

    let mut memory = Memory::default();
    (registers.general[RCX], registers.general[RSI], registers.general[RDI]) = (1 << 32 | 1, 1 << 32 | 0x10, 0x20);
    assert_eq!(run(&[0xf3, 0x67, 0xa4], &mut registers, &mut memory), Progress::Done, "rep movsb, by esi and edi");
    assert_eq!(memory.log.iter().map(|access| access.1).collect::<Vec<_>>(), [0x10, 0x20]);
    assert_eq!((registers.general[RCX], registers.general[RSI], registers.general[RDI]), (0, 0x11, 0x21));
}

#[test]
fn rsp_is_asked_for_where_64_bit_code_uses_it() {
    let uses = |bytes: &[u8]| Instruction::decode(bytes, Mode::Bits64).unwrap().uses_stack_pointer();
    assert!(uses(&[0x40, 0x88, 0x23]), "mov [rbx], spl");
    assert!(uses(&[0x48, 0x8b, 0x23]), "mov rsp, [rbx]");
    assert!(!uses(&[0x88, 0x23]), "mov [rbx], ah");
    assert!(!uses(&[0x4c, 0x8b, 0x23]), "mov r12, [rbx]");
    assert!(!uses(&[0x41, 0x8b, 0x04, 0x24]), "mov eax, [r12]");
}

#[test]
fn opcodes_that_64_bit_mode_lacks_are_none() {
    for bytes in [&[0x82, 0x03, 1][..], &[0x40, 0x90], &[0x62, 0x03]] {
        assert_eq!(Instruction::decode(bytes, Mode::Bits64), None, "{bytes:02x?}");
    }
}

#[test]
fn the_processor_executes_vectors_itself() {
    for (bytes, native) in [
        (&[0x66, 0x0f, 0x6f, 0x03][..], true),
        (&[0xf3, 0x44, 0x0f, 0x6f, 0x03], true),
        (&[0xc4, 0xe2, 0xf8, 0xf2, 0x03], true),
        (&[0x48, 0xf7, 0x33], true),
        (&[0x62, 0xf1, 0x7c, 0x48, 0x10, 0x03], false),
        (&[0x48, 0x8b, 0x03], false),
    ] {
        assert_eq!(is_native(bytes, Mode::Bits64), native, "{bytes:02x?}");
    }
}

/// A processor keeps upper halves over 32-bit code, though the SDM promises nothing.
#[test]
fn thirty_two_bit_code_leaves_the_upper_halves_of_others_alone() {
    let (mut registers, mut memory) = (registers(), Memory::default());
    registers.general[RBX] = 0x5_0000_1000;
    memory.words.insert(0x1000, 0x1234_5678);
    let instruction = Instruction::decode(&[0x8b, 0x03], Mode::Bits32).unwrap();
    instruction.execute(&mut registers, &mut memory).unwrap();
    assert_eq!((registers.general[RAX], memory.log[0].1), (0x1234_5678, 0x1000), "mov eax, [ebx]");
    assert_eq!((registers.general[RBX], registers.general[RCX]), (0x5_0000_1000, 0x1111_1111_1111_1111));
}
