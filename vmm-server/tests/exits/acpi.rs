//! The board with ACPI behind exits: the I/O APIC, the power management registers, and what the other board has in their
//! place.

use devices::{Effect, Width, power::Button};
use layout::guest_board::Chipset;
use vmm_server::answer::Next;
use vtx::gpr::Gprs;

use crate::fake::{Guest, NOW, Ports, answer, guest_on, raw, reason};

const RAM: u64 = 1 << 20;
const IO_APIC: u64 = 0xfec0_0000;
const EOI: u64 = 0xfee0_00b0;
const STATUS: u16 = 0x600;
const ENABLE: u16 = 0x602;
const CONTROL: u16 = 0x604;

fn acpi() -> Guest {
    guest_on(Chipset::Pc, RAM)
}

fn route(guest: &mut Guest, input: u32, entry: u32) {
    let _ = guest.write_memory(IO_APIC, Width::Dword, 0x10 + 2 * input);
    let _ = guest.write_memory(IO_APIC + 0x10, Width::Dword, entry);
}

/// OUT of a word to a port that is in DX.
fn out(guest: &mut Guest, port: u16, value: u16) -> Next {
    let gprs = Gprs { rax: value.into(), ..Gprs::default() };
    answer(guest, raw(reason::IO, u64::from(port) << 16 | 1, gprs))
}

/// Whether the processor has an interrupt, after the controllers have been looked at as before each entry.
fn pending(guest: &mut Guest) -> bool {
    let Guest { vm, cpu } = guest;
    vm.board.controllers.route(&mut cpu.lapic);
    guest.pending()
}

#[test]
fn soft_off_ends_the_guest_and_a_reset_by_the_tables_register_starts_it_anew() {
    let mut guest = acpi();
    assert_eq!(out(&mut guest, CONTROL, 5 << 10), Next::Skip);
    assert_eq!(out(&mut guest, CONTROL, 5 << 10 | 1 << 13), Next::PowerOff);
    let gprs = Gprs { rax: 6, ..Gprs::default() };
    assert!(matches!(answer(&mut guest, raw(reason::IO, 0xcf9 << 16, gprs)), Next::Reset(_)));
}

#[test]
fn a_button_is_a_level_at_input_9_until_its_status_is_cleared() {
    let mut guest = acpi();
    route(&mut guest, 9, 0x8059);
    guest.vm.board.output(ENABLE, Width::Word, 0x100, NOW);
    assert!(!pending(&mut guest));
    assert!(guest.vm.board.press(Button::Power).contains(Effect::LINES));
    for _ in 0..2 {
        assert!(pending(&mut guest));
        assert_eq!(guest.acknowledge(), 0x59);
        let effect = guest.write_memory(EOI, Width::Dword, 0);
        assert!(effect.contains(Effect::LINES), "the level is still there");
    }
    guest.vm.board.output(STATUS, Width::Word, 0x100, NOW);
    assert_eq!(guest.vm.board.input(STATUS, Width::Word, NOW), 0);
    assert!(!pending(&mut guest));
}

#[test]
fn ticks_of_the_8254_come_one_by_one_through_the_io_apic() {
    let mut guest = acpi();
    route(&mut guest, 2, 0x30);
    // 1,193 counts: a tick each millisecond.
    for (port, value) in [(0x43, 0x34), (0x40, 0xa9), (0x40, 0x04)] {
        guest.vm.board.output(port, Width::Byte, value, NOW);
    }
    let _ = guest.vm.board.advance(devices::Nanos(NOW.0 + 10_500_000));
    let mut ticks = 0;
    while pending(&mut guest) {
        assert_eq!(guest.acknowledge(), 0x30);
        let _ = guest.write_memory(EOI, Width::Dword, 0);
        ticks += 1;
    }
    assert_eq!(ticks, 10);
}

#[test]
fn the_older_board_has_neither() {
    let mut guest = guest_on(Chipset::Pc1995, RAM);
    assert_eq!(guest.read_memory(IO_APIC, Width::Dword), u32::MAX);
    assert_eq!(guest.vm.board.input(CONTROL, Width::Word, NOW), 0xffff);
    assert_eq!(out(&mut guest, CONTROL, 5 << 10 | 1 << 13), Next::Skip);
    assert_eq!((guest.vm.board.has_buttons(), guest.vm.board.press(Button::Power)), (false, Effect::QUIET));
    assert!(guest.vm.board.acpi(RAM).is_none());
}

/// What Linux does first with the registers it finds by the MADT.
#[test]
fn the_io_apic_answers_at_its_address() {
    let mut guest = acpi();
    let _ = guest.write_memory(IO_APIC, Width::Dword, 1);
    assert_eq!(guest.read_memory(IO_APIC + 0x10, Width::Dword), 0x0017_0011);
    assert_eq!(guest.read_memory(IO_APIC + 0x1000, Width::Dword), u32::MAX);
}
