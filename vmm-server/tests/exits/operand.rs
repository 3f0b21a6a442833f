//! A MOV to or from memory without RAM, in every kind of paging, held against the emulator of whole instructions.

use proptest::prelude::*;
use vmm_server::{
    access,
    answer::Next,
    paging::{EntrySize, Intent, Root, translate},
};
use vtx::{
    cr::{ControlRegisters, cr0, cr4},
    exit::{Cr, Exit, RawExit},
    gpr::Gprs,
    vmcs::{Vmcs, VmcsField},
};

use crate::{
    fake::{self, Guest, answer, guest_with, raw, reason},
    message::resumed,
    passthrough::{MEMORY, fixed},
};

/// Memory of a guest whose tables lie below its code.
const RAM: u64 = 0x8000;
const ROOT: u64 = 0x1000;
const CODE: u64 = 0x6000;
/// Exit qualifications: what was tried, and that the address is an operand's.
const READ: u64 = 0x181;
const WRITE: u64 = 0x182;

const PRESENT: u64 = 1 << 0;
const LARGE: u64 = 1 << 7;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Mode {
    Off,
    Bits32,
    Bits32Large,
    Pae,
}
const MODES: [Mode; 4] = [Mode::Off, Mode::Bits32, Mode::Bits32Large, Mode::Pae];

/// How an address is mapped: the last two entries, and where their tables are.
#[derive(Clone, Copy, Debug)]
struct Mapping {
    linear: u32,
    /// Page directory, with PAE.
    directory: u64,
    table: u64,
    pde: u64,
    pte: u64,
}

fn map(guest: &Guest, mode: Mode, mapping: Mapping) {
    let Mapping { directory, table, pde, pte, .. } = mapping;
    let linear = u64::from(mapping.linear);
    let pde = if pde & LARGE != 0 { pde } else { table | pde & !0xffff_f000 };
    match mode {
        Mode::Off => {}
        Mode::Bits32 | Mode::Bits32Large => {
            guest.vm.ram.write_u32(ROOT + (linear >> 22) * 4, pde as u32).unwrap();
            guest.vm.ram.write_u32(table + (linear >> 12 & 0x3ff) * 4, pte as u32).unwrap();
        }
        Mode::Pae => {
            guest.vm.ram.write_u64(ROOT + (linear >> 30) * 8, directory | PRESENT).unwrap();
            guest.vm.ram.write_u64(directory + (linear >> 21 & 0x1ff) * 8, pde).unwrap();
            guest.vm.ram.write_u64(table + (linear >> 12 & 0x1ff) * 8, pte).unwrap();
        }
    }
}

fn turn_on(guest: &mut Guest, mode: Mode, write_protect: bool) {
    if mode == Mode::Off {
        return;
    }
    let control: &mut ControlRegisters = &mut guest.cpu.control;
    let features = match mode {
        Mode::Pae => cr4::PAE,
        Mode::Bits32Large => cr4::PSE,
        _ => 0,
    };
    control.mov_to(Cr::Cr4, features).unwrap();
    control.mov_to(Cr::Cr3, ROOT).unwrap();
    let wp = if write_protect { cr0::WP } else { 0 };
    let program = control.mov_to(Cr::Cr0, cr0::PE | cr0::PG | cr0::ET | wp).unwrap();
    for (field, value) in [(VmcsField::GuestCr0, program.real.cr0), (VmcsField::GuestCr4, program.real.cr4)] {
        guest.cpu.vmcs.write(field, value);
    }
}

/// The operand's address without a segment, if it has at most a base register; that register gets a value that leads there.
fn aim(code: &mut [u8], gprs: &mut [u32; 8], operand: u32) {
    let opcode = usize::from(code[0] == 0x66);
    let modrm = opcode + 1 + usize::from(code[opcode] == 0x0f);
    let displacement = |code: &[u8]| u32::from_le_bytes(code[modrm + 1..modrm + 5].try_into().unwrap());
    match (code[modrm] >> 6, code[modrm] & 7) {
        (0, 5) => code[modrm + 1..modrm + 5].copy_from_slice(&operand.to_le_bytes()),
        (0, base) => gprs[usize::from(base)] = operand,
        (1, base) => gprs[usize::from(base)] = operand.wrapping_sub(code[modrm + 1] as i8 as u32),
        (2, base) => gprs[usize::from(base)] = operand.wrapping_sub(displacement(code)),
        _ => {}
    }
}

/// Entries as there are, and some that there should not be.
fn entry(address: impl Strategy<Value = u64>) -> impl Strategy<Value = u64> {
    let flags = prop_oneof![
        3 => Just(PRESENT | 6), 3 => Just(PRESENT | 6 | LARGE), 2 => (0..0x1000u64).prop_map(|flags| flags | PRESENT), 1 => 0..0x1000u64,
    ];
    let high = prop_oneof![9 => Just(0), 1 => Just(1 << 63), 1 => Just(1 << 36)];
    (address, flags, high).prop_map(|(address, flags, high)| address & !0xfff | flags | high)
}

const OPCODES: [&[u8]; 12] = [
    &[0x88],
    &[0x89],
    &[0x8a],
    &[0x8b],
    &[0x0f, 0xb6],
    &[0x0f, 0xb7],
    &[0x0f, 0xbe],
    &[0xc7],
    &[0xa1],
    &[0x03],
    &[0x87],
    &[0xff],
];

fn instruction() -> impl Strategy<Value = Vec<u8>> {
    let plain = prop::sample::select(&OPCODES[..6]);
    let opcode = prop_oneof![6 => plain, 1 => prop::sample::select(&OPCODES[..])];
    let rest = prop::collection::vec(any::<u8>(), 10);
    (prop::bool::weighted(0.2), opcode, rest)
        .prop_map(|(prefix, opcode, rest)| [if prefix { &[0x66][..] } else { &[] }, opcode, &rest].concat())
}

#[derive(Clone, Debug)]
struct Case {
    mode: Mode,
    write_protect: bool,
    user: bool,
    code: Mapping,
    operand: Mapping,
    bytes: Vec<u8>,
    gprs: [u32; 8],
    write: bool,
}

fn case() -> impl Strategy<Value = Case> {
    let offset = prop_oneof![8 => 0..0x1000u32, 1 => 0xff0..0x1000u32];
    let code = (0..1024u32, offset, entry(Just(0)), entry(Just(CODE))).prop_map(|(index, offset, pde, pte)| Mapping {
        linear: index << 22 | CODE as u32 | offset,
        directory: 0x2000,
        table: 0x3000,
        pde,
        pte: pte & !LARGE,
    });
    let frame = || any::<u32>().prop_map(u64::from);
    let linear =
        prop_oneof![6 => any::<u32>(), 1 => (any::<u32>(), 0xffc..0x1000u32).prop_map(|(at, end)| at & !0xfff | end)];
    let operand = (linear, entry(frame().prop_map(|at| at & !0x3f_ffff)), entry(frame()))
        .prop_map(|(linear, pde, pte)| Mapping { linear, directory: 0x4000, table: 0x5000, pde, pte });
    let rights = (any::<bool>(), prop::bool::weighted(0.2));
    (prop::sample::select(&MODES[..]), rights, code, operand, instruction(), any::<[u32; 8]>(), any::<bool>()).prop_map(
        |(mode, (write_protect, user), code, operand, bytes, gprs, write)| {
            let code = if mode == Mode::Off { Mapping { linear: code.linear & 0xffff, ..code } } else { code };
            Case { mode, write_protect, user, code, operand, bytes, gprs, write }
        },
    )
}

/// The guest of a case, and the exit that its instruction leads to, if it leads to one.
fn prepare(case: &Case) -> Option<(Guest, RawExit)> {
    let (mut guest, mut bytes, mut gprs) = (guest_with(RAM), case.bytes.clone(), case.gprs);
    aim(&mut bytes, &mut gprs, case.operand.linear);
    let place = CODE + u64::from(case.code.linear & 0xfff);
    let fits = bytes.len().min((RAM - place) as usize);
    guest.vm.ram.write(place, &bytes[..fits]).unwrap();
    map(&guest, case.mode, case.code);
    map(&guest, case.mode, case.operand);
    turn_on(&mut guest, case.mode, case.write_protect);
    if case.user {
        guest.cpu.vmcs.write(VmcsField::GuestSsAccessRights, 0xc0f3);
    }
    let root = Root { paging: guest.cpu.control.paging(), cr3: ROOT, write_protect: case.write_protect };
    let physical = |linear, write| {
        translate(&root, linear, Intent { write, user: case.user }, |at, size| match size {
            EntrySize::Four => guest.vm.ram.read_u32(at).ok().map(u64::from),
            EntrySize::Eight => guest.vm.ram.read_u64(at).ok(),
        })
        .ok()
    };
    guest.vm.ram.read_u8(physical(case.code.linear.into(), false)?).ok()?;
    let guest_physical = physical(case.operand.linear.into(), case.write)?;
    if guest.vm.ram.read_u8(guest_physical).is_ok() {
        return None;
    }
    let [rax, rcx, rdx, rbx, _, rbp, rsi, rdi] = gprs.map(u64::from);
    let exit = RawExit {
        guest_physical,
        rip: case.code.linear.into(),
        cr3: ROOT,
        ..raw(
            reason::EPT,
            if case.write { WRITE } else { READ },
            Gprs { rax, rbx, rcx, rdx, rsi, rdi, rbp, ..Gprs::default() },
        )
    };
    Some((guest, exit))
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, max_global_rejects: 1 << 20, ..ProptestConfig::with_cases(3000) })]

    #[test]
    fn a_move_ends_as_when_the_whole_instruction_set_is_emulated(case in case()) {
        let prepared = prepare(&case);
        prop_assume!(prepared.is_some());
        let (mut guest, exit) = prepared.unwrap();
        if let Some(found) = resumed(&mut guest, &exit) {
            guest.cpu.vmcs.writes = 0;
            guest.cpu.exited(exit);
            let Exit::EptViolation(violation) = Exit::decode(&exit) else { unreachable!() };
            prop_assert_eq!(fake::present(|now| access::answer(&mut guest.stopped(), violation, now)), Next::Skip);
            guest.cpu.skip();
            prop_assert_eq!((guest.cpu.vmcs.writes, guest.cpu.exit.rflags), (0, exit.rflags));
            prop_assert_eq!(found, (guest.cpu.exit.rip, guest.cpu.exit.gprs));
        }
    }

    #[test]
    fn an_exit_that_the_instruction_does_not_lead_to_is_taken_over(
        case in case(), bits in 0..0x200u64, gpa in any::<u32>(),
    ) {
        let prepared = prepare(&case);
        prop_assume!(prepared.is_some());
        let (mut guest, exit) = prepared.unwrap();
        let mut tried = |qualification| resumed(&mut guest, &RawExit { qualification, ..exit }).is_some();
        prop_assert!(!(tried(READ) && tried(WRITE)));
        prop_assert!([READ, WRITE].contains(&(bits & 0x187)) || !tried(bits));
        let other = RawExit { guest_physical: gpa.into(), ..exit };
        prop_assert!(other == exit || resumed(&mut guest, &other).is_none());
    }
}

/// MOV (%esi), %eax, or MOV %eax, (%esi).
fn plain(mode: Mode, write: bool, large: bool) -> (Guest, RawExit) {
    let last = if large && matches!(mode, Mode::Bits32Large | Mode::Pae) { LARGE } else { 0 };
    let operand =
        Mapping { linear: 0xe000_0004, directory: 0x4000, table: 0x5000, pde: 0xe000_0007 | last, pte: 0xe000_0007 };
    let code = Mapping { linear: 0x6010, directory: 0x2000, table: 0x3000, pde: 7 | last, pte: CODE | 7 };
    let bytes = [if write { 0x89 } else { 0x8b }, 6, 0, 0, 0, 0, 0, 0].to_vec();
    prepare(&Case { mode, write_protect: true, user: false, code, operand, bytes, gprs: [5; 8], write }).unwrap()
}

#[test]
fn a_plain_move_is_not_taken_over_with_every_kind_of_paging() {
    for mode in MODES {
        for (write, large) in [(false, false), (false, true), (true, false), (true, true)] {
            let (mut guest, exit) = plain(mode, write, large);
            let eax = if write { 5 } else { 0xffff_ffff };
            let found = resumed(&mut guest, &exit);
            assert_eq!(found, Some((0x6012, Gprs { rax: eax, ..exit.gprs })), "{mode:?} {write} {large}");
        }
    }
}

#[test]
fn the_guest_may_change_its_tables_and_its_code_between_two_exits() {
    let (mut guest, exit) = plain(Mode::Bits32, false, false);
    assert!(resumed(&mut guest, &exit).is_some());
    // Another page behind the operand: not the one of the exit.
    guest.vm.ram.write_u32(0x5000, 0xd000_0007).unwrap();
    assert_eq!(resumed(&mut guest, &exit), None);
    guest.vm.ram.write_u32(0x5000, 0xe000_0007).unwrap();
    // MOVZBL (%esi), %ecx.
    guest.vm.ram.write(0x6010, &[0x0f, 0xb6, 0x0e]).unwrap();
    assert_eq!(resumed(&mut guest, &exit), Some((0x6013, Gprs { rcx: 0xff, ..exit.gprs })));
    // The code is not there any more.
    guest.vm.ram.write_u32(ROOT, 0).unwrap();
    assert_eq!(resumed(&mut guest, &exit), None);
}

#[test]
fn memory_behind_pci_server_is_taken_over() {
    let (mut guest, exit) = plain(Mode::Bits32, false, false);
    guest.vm.board.passthrough.add(fixed(MEMORY, 0xe000_0000, 0x1000)).unwrap();
    assert_eq!(resumed(&mut guest, &exit), None);
    assert_eq!(answer(&mut guest, exit), Next::Skip);
}
