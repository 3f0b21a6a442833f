//! Instructions, as byte arrays, against a device and RAM made of a map.

use proptest::prelude::*;
use std::collections::BTreeMap;
use vmm_server::insn::*;

/// Bytes at linear addresses, and the accesses made to them. Reads of nothing give all ones.
#[derive(Default)]
struct Board {
    bytes: BTreeMap<u64, u8>,
    log: Vec<(char, u64, Width, u64)>,
    bases: [u64; 6],
    faults_at: Option<u64>,
}

impl AddressSpace for Board {
    type Fault = u64;

    fn segment_base(&mut self, segment: Segment) -> u64 {
        self.bases[segment as usize]
    }

    fn read(&mut self, linear: u64, width: Width) -> Result<u64, u64> {
        if self.faults_at == Some(linear) {
            return Err(linear);
        }
        let byte = |i: u64| u64::from(*self.bytes.get(&linear.wrapping_add(i)).unwrap_or(&0xff)) << (8 * i);
        let value = (0..width.bytes() as u64).map(byte).sum();
        self.log.push(('r', linear, width, value));
        Ok(value)
    }

    fn write(&mut self, linear: u64, width: Width, value: u64) -> Result<(), u64> {
        if self.faults_at == Some(linear) {
            return Err(linear);
        }
        assert_eq!(value & !width.mask(), 0);
        for i in 0..width.bytes() as u64 {
            self.bytes.insert(linear.wrapping_add(i), (value >> (8 * i)) as u8);
        }
        self.log.push(('w', linear, width, value));
        Ok(())
    }
}

impl Board {
    fn with(at: u64, value: u64) -> Self {
        let bytes = (at..).zip((value as u32).to_le_bytes()).collect();
        Board { bytes, ..Board::default() }
    }

    fn dword(&self, at: u64) -> u64 {
        (0..4).map(|i| u64::from(self.bytes[&(at + i)]) << (8 * i)).sum()
    }
}

const EAX: usize = 0;
const ECX: usize = 1;
const ESP: usize = 4;
const ESI: usize = 6;
const EDI: usize = 7;
/// Where the tests' device is.
const AT: u64 = 0xfee0_0020;

/// EAX = 0x11223344 and so on; EBX is the device's address.
fn registers() -> Registers {
    let mut registers = Registers { flags: 2, ..Registers::default() };
    registers.general[..8].copy_from_slice(&[0x1122_3344, 2, 3, AT, 0x8000, 6, 0x7000, 0x9000]);
    registers
}

fn run(bytes: &[u8], registers: &mut Registers, board: &mut Board) -> Result<Progress, u64> {
    let instruction = Instruction::decode(bytes, Mode::Bits32).expect("an instruction");
    assert_eq!(usize::from(instruction.length), bytes.len());
    instruction.execute(registers, board)
}

/// Runs one instruction on a device that holds 0x89abcdef.
fn ran(bytes: &[u8]) -> (Registers, Board) {
    let (mut registers, mut board) = (registers(), Board::with(AT, 0x89ab_cdef));
    assert_eq!(run(bytes, &mut registers, &mut board), Ok(Progress::Done));
    (registers, board)
}

#[test]
fn loads_merge_by_width() {
    assert_eq!(ran(&[0x8a, 0x03]).0.general[EAX], 0x1122_33ef, "mov al, [ebx]");
    assert_eq!(ran(&[0x8a, 0x23]).0.general[EAX], 0x1122_ef44, "mov ah, [ebx]");
    assert_eq!(ran(&[0x66, 0x8b, 0x03]).0.general[EAX], 0x1122_cdef, "mov ax, [ebx]");
    assert_eq!(ran(&[0x8b, 0x03]).0.general[EAX], 0x89ab_cdef, "mov eax, [ebx]");
    assert_eq!(ran(&[0xa1, 0x20, 0, 0xe0, 0xfe]).0.general[EAX], 0x89ab_cdef, "mov eax, [0xfee00020]");
}

#[test]
fn extensions_fill_the_destination() {
    assert_eq!(ran(&[0x0f, 0xb6, 0x03]).0.general[EAX], 0xef, "movzx eax, byte [ebx]");
    assert_eq!(ran(&[0x0f, 0xbe, 0x03]).0.general[EAX], 0xffff_ffef, "movsx eax, byte [ebx]");
    assert_eq!(ran(&[0x0f, 0xb7, 0x03]).0.general[EAX], 0xcdef, "movzx eax, word [ebx]");
    assert_eq!(ran(&[0x0f, 0xbf, 0x03]).0.general[EAX], 0xffff_cdef, "movsx eax, word [ebx]");
    assert_eq!(ran(&[0x66, 0x0f, 0xbe, 0x03]).0.general[EAX], 0x1122_ffef, "movsx ax, byte [ebx]");
}

#[test]
fn a_store_is_one_access_and_no_read() {
    let (registers, board) = ran(&[0x89, 0x03]);
    assert_eq!(board.log, [('w', AT, Width::Dword, 0x1122_3344)], "mov [ebx], eax");
    assert_eq!(registers, self::registers());
    assert_eq!(ran(&[0x88, 0x23]).1.log, [('w', AT, Width::Byte, 0x33)], "mov [ebx], ah");
    assert_eq!(ran(&[0xc6, 0x03, 0xb0]).1.log, [('w', AT, Width::Byte, 0xb0)], "mov byte [ebx], 0xb0");
    assert_eq!(ran(&[0x66, 0xc7, 0x03, 0x34, 0x92]).1.log, [('w', AT, Width::Word, 0x9234)]);
}

#[test]
fn arithmetic_reads_then_writes() {
    let (registers, board) = ran(&[0x83, 0x0b, 0x10]);
    assert_eq!(board.log, [('r', AT, Width::Dword, 0x89ab_cdef), ('w', AT, Width::Dword, 0x89ab_cdff)], "or [ebx], 16");
    assert_eq!(registers.flags, 0x86, "SF and PF");
}

#[test]
fn comparing_only_reads() {
    for bytes in [&[0x39, 0x03][..], &[0x3b, 0x03], &[0x83, 0x3b, 0], &[0x85, 0x03], &[0xf7, 0x03, 1, 0, 0, 0]] {
        assert_eq!(ran(bytes).1.log, [('r', AT, Width::Dword, 0x89ab_cdef)], "{bytes:02x?}");
    }
    let (registers, _) = ran(&[0xf6, 0x03, 0x10]);
    assert_eq!(registers.flags & flags::ZF, flags::ZF, "test byte [ebx], 0x10");
}

#[test]
fn exchanges_give_both_sides() {
    let (registers, board) = ran(&[0x87, 0x03]);
    assert_eq!((registers.general[EAX], board.dword(AT)), (0x89ab_cdef, 0x1122_3344), "xchg [ebx], eax");
    let (registers, board) = ran(&[0xf0, 0x0f, 0xc1, 0x03]);
    assert_eq!((registers.general[EAX], board.dword(AT)), (0x89ab_cdef, 0x9ace_0133), "lock xadd [ebx], eax");
}

#[test]
fn compare_exchange_takes_the_old_value_where_it_differs() {
    let (registers, board) = ran(&[0xf0, 0x0f, 0xb1, 0x0b]);
    assert_eq!((registers.general[EAX], board.dword(AT)), (0x89ab_cdef, 0x89ab_cdef), "lock cmpxchg [ebx], ecx");
    assert_eq!(registers.flags & flags::ZF, 0);
    let mut registers = self::registers();
    registers.general[EAX] = 0x89ab_cdef;
    let mut board = Board::with(AT, 0x89ab_cdef);
    run(&[0x0f, 0xb1, 0x0b], &mut registers, &mut board).unwrap();
    assert_eq!((board.dword(AT), registers.flags & flags::ZF), (2, flags::ZF));
}

#[test]
fn shifts_read_then_write() {
    // ECX is 2.
    for (bytes, value) in [
        (&[0xd1, 0x23][..], 0x1357_9bde),      // shl dword [ebx], 1
        (&[0xd3, 0x2b], 0x226a_f37b),          // shr dword [ebx], cl
        (&[0xc1, 0x3b, 0x84], 0xf89a_bcde),    // sar dword [ebx], 0x84
        (&[0xc0, 0x03, 4], 0x89ab_cdfe),       // rol byte [ebx], 4
        (&[0x0f, 0xa4, 0x03, 8], 0xabcd_ef11), // shld [ebx], eax, 8
        (&[0x0f, 0xad, 0x03], 0x226a_f37b),    // shrd [ebx], eax, cl
    ] {
        let board = ran(bytes).1;
        assert_eq!((board.dword(AT), board.log.len()), (value, 2), "{bytes:02x?}");
    }
}

#[test]
fn products_go_where_they_belong() {
    let after = |bytes: &[u8]| {
        let general = ran(bytes).0.general;
        (general[EAX], general[2])
    };
    assert_eq!(after(&[0xf6, 0x23]), (0x1122_3f7c, 3), "mul byte [ebx]: 0x44 * 0xef");
    assert_eq!(after(&[0x66, 0xf7, 0x23]), (0x1122_507c, 0x293d), "mul word [ebx]: 0x3344 * 0xcdef");
    assert_eq!(after(&[0xf7, 0x2b]), (0x0467_507c, 0xf814_99cc), "imul dword [ebx]");
    assert_eq!(after(&[0x0f, 0xaf, 0x03]).0, 0x0467_507c, "imul eax, [ebx]");
    assert_eq!(after(&[0x6b, 0x03, 0xff]).0, 0x7654_3211, "imul eax, [ebx], -1");
    assert_eq!(after(&[0x66, 0x69, 0x03, 0x00, 0x01]).0, 0x1122_ef00, "imul ax, [ebx], 0x100");
}

#[test]
fn scans_and_counts_and_conditions() {
    let eax = |bytes: &[u8]| ran(bytes).0.general[EAX];
    assert_eq!(eax(&[0x0f, 0xbc, 0x03]), 0, "bsf eax, [ebx]");
    assert_eq!(eax(&[0x0f, 0xbd, 0x03]), 31, "bsr eax, [ebx]");
    assert_eq!(eax(&[0xf3, 0x0f, 0xb8, 0x03]), 20, "popcnt eax, [ebx]");
    assert_eq!(eax(&[0x0f, 0x45, 0x03]), 0x89ab_cdef, "cmovne eax, [ebx]");
    assert_eq!(eax(&[0x0f, 0x44, 0x03]), 0x1122_3344, "cmove eax, [ebx]");
    assert_eq!(ran(&[0x0f, 0x44, 0x03]).1.log.len(), 1, "which reads all the same");
    assert_eq!(ran(&[0x0f, 0x95, 0x03]).1.log, [('w', AT, Width::Byte, 1)], "setne [ebx]");
    let (mut registers, mut board) = (registers(), Board::with(AT, 0));
    run(&[0x0f, 0xbc, 0x03], &mut registers, &mut board).unwrap();
    assert_eq!((registers.general[EAX], registers.flags), (0x1122_3344, 2 | flags::ZF), "bsf of zero");
}

#[test]
fn a_bit_in_a_register_reaches_beyond_the_operand() {
    let mut registers = registers();
    registers.general[ECX] = 70;
    let mut board = Board::with(AT + 8, 0);
    run(&[0x0f, 0xab, 0x0b], &mut registers, &mut board).unwrap();
    assert_eq!(board.dword(AT + 8), 1 << 6, "bts [ebx], ecx");
    registers.general[ECX] = u64::from(u32::MAX);
    run(&[0x0f, 0xa3, 0x0b], &mut registers, &mut board).unwrap();
    assert_eq!(board.log.last(), Some(&('r', AT - 4, Width::Dword, 0xffff_ffff)), "bt [ebx], ecx");
    registers.general[ECX] = 0x1_0011;
    run(&[0x66, 0x0f, 0xa3, 0x0b], &mut registers, &mut board).unwrap();
    assert_eq!(board.log.last().unwrap().1, AT + 2, "bt [ebx], cx");
}

#[test]
fn addresses_use_base_index_displacement_and_segment() {
    let mut registers = registers();
    registers.general[ECX] = 8;
    let mut board = Board { bases: [0, 0, 0, 0, 0x1000_0000, 0], ..Board::default() };
    run(&[0x64, 0x8b, 0x84, 0x8b, 0, 1, 0, 0], &mut registers, &mut board).unwrap();
    let linear = (AT + 32 + 0x100 + 0x1000_0000) & 0xffff_ffff;
    assert_eq!(board.log[0].1, linear, "mov eax, fs:[ebx+ecx*4+0x100]");
}

#[test]
fn push_and_pop_move_between_device_and_stack() {
    let (registers, board) = ran(&[0xff, 0x33]);
    assert_eq!((registers.general[ESP], board.dword(0x7ffc)), (0x7ffc, 0x89ab_cdef), "push dword [ebx]");
    let mut registers = self::registers();
    let mut board = Board::with(0x8000, 7);
    run(&[0x8f, 0x04, 0x24], &mut registers, &mut board).unwrap();
    assert_eq!((registers.general[ESP], board.dword(0x8004)), (0x8004, 7), "pop dword [esp], with the new esp");
}

#[test]
fn a_string_runs_both_ways() {
    let mut registers = registers();
    registers.general[ECX] = 3;
    let mut board = Board::default();
    assert_eq!(run(&[0xf3, 0x66, 0xab], &mut registers, &mut board), Ok(Progress::Done), "rep stosw");
    assert_eq!(
        board.log.iter().map(|e| (e.1, e.3)).collect::<Vec<_>>(),
        [(0x9000, 0x3344), (0x9002, 0x3344), (0x9004, 0x3344)]
    );
    assert_eq!((registers.general[EDI], registers.general[ECX]), (0x9006, 0));
    registers.flags |= flags::DF;
    run(&[0xa4], &mut registers, &mut board).unwrap();
    assert_eq!((registers.general[ESI], registers.general[EDI]), (0x6fff, 0x9005), "movsb, backwards");
}

#[test]
fn a_count_of_zero_does_nothing() {
    let mut registers = registers();
    registers.general[ECX] = 0;
    let mut board = Board::default();
    assert_eq!(run(&[0xf3, 0xa5], &mut registers, &mut board), Ok(Progress::Done));
    assert!(board.log.is_empty());
    assert_eq!(registers.general[ESI], 0x7000);
}

#[test]
fn a_huge_count_is_done_in_batches() {
    let mut registers = registers();
    registers.general[ECX] = u32::MAX.into();
    let mut board = Board::default();
    assert_eq!(run(&[0xf3, 0xaa], &mut registers, &mut board), Ok(Progress::More));
    assert_eq!(board.log.len(), BATCH as usize);
    assert_eq!(registers.general[ECX], u64::from(u32::MAX - BATCH));
    registers.general[ECX] = BATCH.into();
    assert_eq!(run(&[0xf3, 0xaa], &mut registers, &mut board), Ok(Progress::Done));
}

#[test]
fn a_comparison_ends_where_it_should() {
    let mut registers = registers();
    registers.general[ECX] = 10;
    registers.general[EAX] = 0xff;
    let mut board = Board::with(0x9000, 0xff00_0000);
    assert_eq!(run(&[0xf2, 0xae], &mut registers, &mut board), Ok(Progress::Done), "repne scasb");
    assert_eq!((registers.general[EDI], registers.general[ECX]), (0x9004, 6));
    let mut board = Board::with(0x9004, 0xffff_00ff);
    assert_eq!(run(&[0xf3, 0xa6], &mut registers, &mut board), Ok(Progress::Done), "repe cmpsb");
    assert_eq!((registers.general[ESI], registers.general[ECX]), (0x7002, 4));
}

#[test]
fn a_fault_leaves_complete_rounds_only() {
    let mut registers = registers();
    registers.general[ECX] = 4;
    let mut board = Board { faults_at: Some(0x9008), ..Board::default() };
    assert_eq!(run(&[0xf3, 0xa5], &mut registers, &mut board), Err(0x9008), "rep movsd");
    assert_eq!((registers.general[ESI], registers.general[EDI], registers.general[ECX]), (0x7008, 0x9008, 2));
}

#[test]
fn a_16_bit_string_counts_in_cx() {
    let instruction = Instruction::decode(&[0xf3, 0xaa], Mode::Bits16).unwrap();
    let mut registers = registers();
    registers.general[ECX] = 0xabcd_0001;
    registers.general[EDI] = 0x1234_ffff;
    let mut board = Board::default();
    assert_eq!(instruction.execute(&mut registers, &mut board), Ok(Progress::Done));
    assert_eq!(board.log[0].1, 0xffff);
    assert_eq!((registers.general[ECX], registers.general[EDI]), (0xabcd_0000, 0x1234_0000));
}

#[test]
fn esp_is_asked_for_only_where_it_is_used() {
    let uses = |bytes: &[u8]| Instruction::decode(bytes, Mode::Bits32).unwrap().uses_stack_pointer();
    assert!(uses(&[0x8b, 0x04, 0x24]), "mov eax, [esp]");
    assert!(uses(&[0x89, 0x23]), "mov [ebx], esp");
    assert!(uses(&[0xff, 0x33]), "push [ebx]");
    assert!(uses(&[0x0f, 0xb6, 0x23]), "movzx esp, byte [ebx]");
    assert!(!uses(&[0x88, 0x23]), "mov [ebx], ah");
    assert!(!uses(&[0x8b, 0x03]), "mov eax, [ebx]");
    assert!(!uses(&[0xf3, 0xa5]), "rep movsd");
}

#[test]
fn what_is_not_known_is_none() {
    for bytes in [&[0x0f, 0x0b][..], &[0x8b, 0xc3], &[0xd9, 0x03], &[0x0f, 0x28, 0x03], &[0xf0, 0x8b, 0x03], &[]] {
        assert_eq!(Instruction::decode(bytes, Mode::Bits32), None, "{bytes:02x?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 20_000, ..ProptestConfig::default() })]

    /// Whatever bytes a guest puts there: the VMM makes few accesses, and does not panic.
    #[test]
    fn any_instruction_ends(
        bytes in prop::collection::vec(any::<u8>(), 0..16),
        general: [u64; 16],
        flags: u64,
        bases: [u64; 6],
        mode in 0..3usize,
        next: u64,
    ) {
        let mode = [Mode::Bits16, Mode::Bits32, Mode::Bits64][mode];
        let Some(instruction) = Instruction::decode(&bytes, mode) else { return Ok(()) };
        let mut registers = Registers { general, flags, next };
        let mut board = Board { bases, ..Board::default() };
        instruction.execute(&mut registers, &mut board).unwrap();
        prop_assert!(board.log.len() <= 2 * BATCH as usize);
        if !instruction.uses_stack_pointer() {
            prop_assert_eq!(registers.rsp(), general[ESP]);
        }
        prop_assert_eq!(registers.flags & !flags::STATUS, flags & !flags::STATUS);
    }
}

#[test]
fn bytes_are_swapped_in_the_operands_width() {
    assert_eq!(ran(&[0x0f, 0x38, 0xf0, 0x03]).0.general[EAX], 0xefcd_ab89, "movbe eax, [ebx]");
    assert_eq!(ran(&[0x66, 0x0f, 0x38, 0xf0, 0x03]).0.general[EAX], 0x1122_efcd, "movbe ax, [ebx]");
    assert_eq!(ran(&[0x0f, 0x38, 0xf1, 0x03]).1.log, [('w', AT, Width::Dword, 0x4433_2211)], "movbe [ebx], eax");
    assert_eq!(ran(&[0x66, 0x0f, 0x38, 0xf1, 0x03]).1.log, [('w', AT, Width::Word, 0x4433)], "movbe [ebx], ax");
}

#[test]
fn stores_past_the_caches_are_stores_and_flushes_are_nothing() {
    for code in [[0x0f, 0xc3, 0x03].as_slice(), &[0x0f, 0x38, 0xf9, 0x03]] {
        assert_eq!(ran(code).1.log, [('w', AT, Width::Dword, 0x1122_3344)], "movnti, movdiri [ebx], eax");
    }
    for code in [[0x0f, 0xae, 0x3b].as_slice(), &[0x66, 0x0f, 0xae, 0x3b], &[0x66, 0x0f, 0xae, 0x33]] {
        let (registers, board) = ran(code);
        assert_eq!((board.log.as_slice(), registers), ([].as_slice(), self::registers()), "clflush, clflushopt, clwb");
    }
}

#[test]
fn cmpxchg8b_compares_and_exchanges_two_words() {
    const ZF: u64 = 1 << 6;
    let code = [0xf0, 0x0f, 0xc7, 0x0b]; // lock cmpxchg8b [ebx]
    let mut board = Board::with(AT, 0x89ab_cdef);
    board.bytes.extend((AT + 4..).zip(0x0123_4567u32.to_le_bytes()));
    let mut registers = registers();
    assert_eq!(run(&code, &mut registers, &mut board), Ok(Progress::Done));
    assert_eq!((registers.general[EAX], registers.general[2], registers.flags & ZF), (0x89ab_cdef, 0x0123_4567, 0));
    assert_eq!((board.dword(AT), board.dword(AT + 4)), (0x89ab_cdef, 0x0123_4567), "written as it was");
    assert_eq!(run(&code, &mut registers, &mut board), Ok(Progress::Done));
    assert_eq!((board.dword(AT), board.dword(AT + 4), registers.flags & ZF), (AT, 2, ZF), "ecx:ebx");
}

/// No 32-bit code has such an operand; what executes one has it all the same.
#[test]
fn a_quad_word_is_one_access() {
    let instruction = |operation| {
        let decoded = Instruction::decode(&[0x8b, 0x03], Mode::Bits32).unwrap();
        Instruction { operation, width: Width::Qword, ..decoded }
    };
    let (mut registers, mut board) = (registers(), Board::default());
    registers.general[EAX] = 0x1122_3344_5566_7788;
    let exchange = instruction(Operation::Exchange(0));
    exchange.execute(&mut registers, &mut board).unwrap();
    let log = [('r', AT, Width::Qword, u64::MAX), ('w', AT, Width::Qword, 0x1122_3344_5566_7788)];
    assert_eq!((board.log.as_slice(), registers.general[EAX]), (log.as_slice(), u64::MAX));
    instruction(Operation::AluToRegister(Alu::And, 9)).execute(&mut registers, &mut board).unwrap();
    assert_eq!((registers.general[9], registers.flags & flags::ZF), (0, flags::ZF), "r9");
    instruction(Operation::LoadSwapped(9)).execute(&mut registers, &mut board).unwrap();
    assert_eq!(registers.general[9], 0x8877_6655_4433_2211);
    registers.general[ECX] = 0xffff_ffff_ffff_ffc0;
    instruction(Operation::Bit(BitOperation::Test, Source::Register(1))).execute(&mut registers, &mut board).unwrap();
    assert_eq!(board.log.last().unwrap().1, AT - 8, "64 bits before");
}
