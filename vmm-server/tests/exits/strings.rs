//! INS and OUTS, whose data is in the guest's memory.

use devices::{Nanos, Width};
use vmm_server::{
    answer::{Cause, Next},
    insn::BATCH,
};
use vtx::{
    gpr::Gprs,
    vmcs::{Vmcs, VmcsField},
};

use crate::fake::{Guest, Ports, RAM, answer, guest, raw, reason};

/// Unowned.
const PORT: u16 = 0x500;
const AT: u32 = 0x8000;
/// Address sizes, in the instruction information.
const BITS16: u64 = 0;
const BITS32: u64 = 1 << 7;
const DOWN: u64 = 1 << 10;

/// One exit of INS (`from`) or OUTS at linear address `linear`, repeated if there is a count.
struct Access {
    port: u16,
    width: u64,
    from: bool,
    size: u64,
    flags: u64,
}

const INSB: Access = Access { port: PORT, width: 1, from: true, size: BITS32, flags: 0 };
const OUTSB: Access = Access { from: false, ..INSB };

impl Access {
    fn exit(&self, guest: &mut Guest, linear: u32, index: u64, count: Option<u64>) -> Next {
        let qualification = (self.width - 1)
            | u64::from(self.from) << 3
            | 1 << 4
            | u64::from(count.is_some()) << 5
            | u64::from(self.port) << 16;
        guest.cpu.vmcs.write(VmcsField::ExitInstructionInfo, self.size);
        guest.cpu.vmcs.write(VmcsField::GuestLinearAddress, linear.into());
        let gprs = Gprs { rcx: count.unwrap_or(7), rsi: index, rdi: index, ..Gprs::default() };
        let mut exit = raw(reason::IO, qualification, gprs);
        exit.rflags |= self.flags;
        answer(guest, exit)
    }
}

fn bytes(guest: &Guest, at: u32, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    guest.vm.ram.read(at.into(), &mut bytes).unwrap();
    bytes
}

#[test]
fn a_repeated_access_is_done_in_batches_until_the_count_is_zero() {
    let mut guest = guest();
    let (mut left, mut at, mut exits) = (1000, AT, 0);
    loop {
        let next = INSB.exit(&mut guest, at, at.into(), Some(left));
        exits += 1;
        let Gprs { rcx, rdi, .. } = guest.cpu.exit.gprs;
        assert_eq!(rdi, u64::from(at) + (left - rcx));
        (left, at) = (rcx, rdi as u32);
        match next {
            Next::Retry => assert!(left > 0 && left % 64 == 1000 % 64),
            next => break assert_eq!(next, Next::Skip),
        }
    }
    assert_eq!((left, at, exits), (0, AT + 1000, 1000u32.div_ceil(BATCH)));
    assert_eq!(bytes(&guest, AT - 1, 1002), [[0].as_slice(), &[0xff; 1000], &[0]].concat());
}

#[test]
fn one_access_moves_the_index_and_leaves_the_count() {
    for (width, moved) in [(1, 1), (2, 2), (4, 4)] {
        let mut guest = guest();
        let access = Access { width, ..INSB };
        assert_eq!(access.exit(&mut guest, AT, AT.into(), None), Next::Skip);
        let Gprs { rcx, rsi, rdi, .. } = guest.cpu.exit.gprs;
        assert_eq!((rcx, rsi, rdi), (7, AT.into(), u64::from(AT) + moved));
        assert_eq!(bytes(&guest, AT, 5).iter().filter(|&&byte| byte == 0xff).count() as u64, moved);
    }
}

#[test]
fn with_the_direction_flag_addresses_go_down() {
    let mut guest = guest();
    let access = Access { width: 2, flags: DOWN, ..INSB };
    assert_eq!(access.exit(&mut guest, AT, AT.into(), Some(3)), Next::Skip);
    assert_eq!(guest.cpu.exit.gprs.rdi, u64::from(AT) - 6);
    assert_eq!(bytes(&guest, AT - 6, 9), [0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0]);
}

#[test]
fn sixteen_bit_addresses_leave_the_upper_halves_alone() {
    let mut guest = guest();
    let access = Access { size: BITS16, ..INSB };
    assert_eq!(access.exit(&mut guest, 0xffff, 0xabc0_ffff, Some(0x1234_0003)), Next::Skip);
    let Gprs { rcx, rdi, .. } = guest.cpu.exit.gprs;
    assert_eq!((rcx, rdi), (0x1234_0000, 0xabc0_0002));
    // The bytes wrap with the index: those after the first are 64 KiB below it.
    assert_eq!(bytes(&guest, 0, 3), [0xff, 0xff, 0]);
    assert_eq!(bytes(&guest, 0xffff, 2), [0xff, 0]);
}

#[test]
fn a_count_of_zero_does_nothing() {
    let mut guest = guest();
    assert_eq!(INSB.exit(&mut guest, AT, AT.into(), Some(0)), Next::Skip);
    assert!(!guest.cpu.take_registers_changed());
    assert_eq!(bytes(&guest, AT, 1), [0]);
}

#[test]
fn outs_prints_the_bytes_in_memory() {
    let mut guest = guest();
    guest.vm.ram.write(AT.into(), b"hello").unwrap();
    let access = Access { port: 0x3f8, ..OUTSB };
    assert_eq!(access.exit(&mut guest, AT, AT.into(), Some(5)), Next::Skip);
    assert_eq!((guest.cpu.exit.gprs.rsi, guest.cpu.exit.gprs.rdi), (u64::from(AT) + 5, AT.into()));
    let mut printed = [0; 8];
    let count = guest.vm.board.uart.take_tx(&mut printed);
    assert_eq!(&printed[..count], b"hello");
}

#[test]
fn a_reset_in_the_middle_ends_it_there() {
    let mut guest = guest();
    guest.vm.ram.write(AT.into(), &[0xff, 0xfe, 0xff]).unwrap();
    let access = Access { port: 0x64, ..OUTSB };
    assert_eq!(access.exit(&mut guest, AT, AT.into(), Some(3)), Next::Reset(Cause::Asked));
    assert_eq!(guest.cpu.exit.gprs.rcx, 1);
}

#[test]
fn outside_ram_bytes_vanish_and_ones_come() {
    let mut guest = guest();
    let beyond = RAM as u32 - 1;
    assert_eq!(Access { width: 4, ..INSB }.exit(&mut guest, beyond, beyond.into(), Some(2)), Next::Skip);
    assert_eq!(bytes(&guest, beyond, 1), [0xff]);
    assert_eq!(Access { port: 0x80, ..OUTSB }.exit(&mut guest, 0xe000_0000, 0, None), Next::Skip);
    assert_eq!(guest.vm.board.input(0x80, Width::Byte, Nanos(0)), 0xff);
}

/// Page tables at 0x1000: the page at 0x8000 is the kernel's, that at 0x9000 everybody's, that at 0xa000 is not there.
fn paged() -> Guest {
    let mut guest = guest();
    for (at, entry) in [(0x1000, 0x2007), (0x2000 + 8 * 4, 0x8003), (0x2000 + 9 * 4, 0x9007), (0x2000 + 10 * 4, 0xa000)]
    {
        guest.vm.ram.write_u32(at, entry).unwrap();
    }
    guest.cpu.control.mov_to(vtx::exit::Cr::Cr3, 0x1000).unwrap();
    let program = guest.cpu.control.mov_to(vtx::exit::Cr::Cr0, 0x8000_0011).unwrap();
    vmm_server::control::apply(&mut guest.stopped(), &program).unwrap();
    guest
}

/// An exit brings the CR3 in use, as the processor does.
fn paged_exit(guest: &mut Guest, linear: u32) -> Next {
    guest.cpu.vmcs.write(VmcsField::ExitInstructionInfo, BITS32);
    guest.cpu.vmcs.write(VmcsField::GuestLinearAddress, linear.into());
    let gprs = Gprs { rdi: linear.into(), ..Gprs::default() };
    let mut exit = raw(reason::IO, 0x03f8_0000 | 1 << 3 | 1 << 4, gprs);
    exit.cr3 = 0x1000;
    answer(guest, exit)
}

#[test]
fn a_fault_comes_before_the_device_loses_its_byte() {
    let mut guest = paged();
    assert!(guest.vm.board.uart.push_rx(b'x'));
    assert_eq!(paged_exit(&mut guest, 0xa000), Next::PROTECTION);
    assert_eq!(paged_exit(&mut guest, 0x9000), Next::Skip);
    assert_eq!(bytes(&guest, 0x9000, 1), b"x");
}

#[test]
fn a_user_process_cannot_have_the_vmm_write_to_kernel_pages() {
    let mut guest = paged();
    assert_eq!(paged_exit(&mut guest, 0x8000), Next::Skip);
    guest.cpu.vmcs.write(VmcsField::GuestSsAccessRights, 0xc0f3);
    assert_eq!(paged_exit(&mut guest, 0x8000), Next::PROTECTION);
    assert_eq!(paged_exit(&mut guest, 0x9000), Next::Skip);
}
