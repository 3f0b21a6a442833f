//! Resets by every port that has one, and the questions of Linux's i8042 driver.

use super::*;

fn out(board: &mut ResetPorts, port: u16, value: u8) -> Option<Reset> {
    board.write(Port::at(port).unwrap(), Width::Byte, value.into())
}

fn inb(board: &mut ResetPorts, port: u16) -> u8 {
    board.read(Port::at(port).unwrap(), Width::Byte) as u8
}

/// Linux's `i8042_command`: a command that answers with one byte.
fn ask(board: &mut ResetPorts, command: u8) -> u8 {
    assert_eq!(out(board, 0x64, command), None);
    assert_eq!(inb(board, 0x64) & 0x01, 0x01, "the answer is there at once");
    inb(board, 0x60)
}

#[test]
fn the_delay_port_keeps_its_byte() {
    let mut board = ResetPorts::new();
    assert_eq!(out(&mut board, 0x80, 0x5a), None);
    assert_eq!(inb(&mut board, 0x80), 0x5a);
}

#[test]
fn wide_accesses_reach_the_first_byte_alone() {
    let mut board = ResetPorts::new();
    assert_eq!(board.write(Port::Delay, Width::Dword, 0x1234_5678), None);
    assert_eq!(board.read(Port::Delay, Width::Byte), 0x78);
    assert_eq!(board.read(Port::Delay, Width::Word), 0xff78);
    assert_eq!(board.read(Port::Delay, Width::Dword), 0xffff_ff78);
}

#[test]
fn other_ports_are_not_the_boards() {
    for port in [0x00, 0x61, 0x62, 0x81, 0x93, 0xcf8, 0xcfa, 0xffff] {
        assert_eq!(Port::at(port), None);
    }
}

#[test]
fn the_reset_control_register_resets_on_a_rising_bit_2() {
    // Linux's BOOT_CF9: the kind first, then with the trigger.
    let mut board = ResetPorts::new();
    assert_eq!(out(&mut board, 0xcf9, 0b0000_0010), None);
    assert_eq!(out(&mut board, 0xcf9, 0b0000_0110), Some(Reset::Hard));
    assert_eq!(out(&mut board, 0xcf9, 0b0000_0110), None, "it stays set");
    assert_eq!(inb(&mut board, 0xcf9), 0b0000_0110);
    assert_eq!(out(&mut board, 0xcf9, 0), None);
    assert_eq!(out(&mut board, 0xcf9, 0b0000_0100), Some(Reset::Soft));
}

#[test]
fn control_port_a_resets_on_a_rising_bit_0() {
    let mut board = ResetPorts::new();
    assert_eq!(inb(&mut board, 0x92), 0b10);
    assert_eq!(out(&mut board, 0x92, 0b11), Some(Reset::Soft));
    assert_eq!(out(&mut board, 0x92, 0b11), None);
}

#[test]
fn either_switch_opens_a20() {
    let mut board = ResetPorts::new();
    out(&mut board, 0x92, 0);
    assert!(board.a20());
    out(&mut board, 0x64, 0xd1);
    out(&mut board, 0x60, 0b0000_0001);
    assert!(!board.a20());
    out(&mut board, 0x92, 0b10);
    assert!(board.a20());
}

#[test]
fn linux_reboots_by_the_keyboard_controller() {
    let mut board = ResetPorts::new();
    assert_eq!(inb(&mut board, 0x64) & 0b10, 0, "kb_wait: the input buffer is empty");
    assert_eq!(out(&mut board, 0x64, 0xfe), Some(Reset::Hard));
}

#[test]
fn only_a_pulse_of_the_reset_line_resets() {
    for command in 0..=0xff {
        let expected = (command >= 0xf0 && command & 1 == 0).then_some(Reset::Hard);
        assert_eq!(out(&mut ResetPorts::new(), 0x64, command), expected, "{command:#x}");
    }
}

#[test]
fn the_output_port_resets_with_bit_0_low() {
    let mut board = ResetPorts::new();
    assert_eq!(out(&mut board, 0x64, 0xd1), None);
    assert_eq!(out(&mut board, 0x60, 0xdf), None);
    assert_eq!(ask(&mut board, 0xd0), 0xdf);
    out(&mut board, 0x64, 0xd1);
    assert_eq!(out(&mut board, 0x60, 0xde), Some(Reset::Hard));
}

#[test]
fn linux_finds_a_controller_that_works() {
    let mut board = ResetPorts::new();
    // i8042_flush: nothing waits.
    assert_eq!(inb(&mut board, 0x64) & 0x01, 0);
    assert_eq!(inb(&mut board, 0x64) & 0x10, 0x10, "the key lock is open");
    assert_eq!(ask(&mut board, 0xaa), 0x55, "self-test");
    assert_eq!(ask(&mut board, 0xab), 0x00, "keyboard interface test");
    // The mode byte is read, changed and read back.
    let mode = ask(&mut board, 0x20);
    out(&mut board, 0x64, 0x60);
    out(&mut board, 0x60, mode & !0x01 | 0x10);
    assert_eq!(ask(&mut board, 0x20), mode & !0x01 | 0x10);
    assert!(!board.keyboard_irq());
}

#[test]
fn linux_finds_no_auxiliary_port() {
    // i8042_check_aux: the loop command must not answer as the auxiliary port (status bit 5), and the test must fail.
    let mut board = ResetPorts::new();
    out(&mut board, 0x64, 0xd3);
    out(&mut board, 0x60, 0x5a);
    assert_eq!(inb(&mut board, 0x64) & 0x21, 0x01);
    inb(&mut board, 0x60);
    let test = ask(&mut board, 0xa9);
    assert!(![0x00, 0xfa, 0xff].contains(&test));
}

#[test]
fn a_byte_to_the_keyboard_times_out_at_once() {
    let mut board = ResetPorts::new();
    out(&mut board, 0x60, 0xf2); // Identify.
    assert_eq!(inb(&mut board, 0x64) & 0x41, 0x41);
    assert!(board.keyboard_irq());
    assert_eq!(inb(&mut board, 0x60), 0xfe);
    assert!(!board.keyboard_irq());
    assert_eq!(inb(&mut board, 0x64) & 0x41, 0);
}

#[test]
fn the_mode_byte_switches_the_interrupt_off() {
    let mut board = ResetPorts::new();
    out(&mut board, 0x64, 0x60);
    out(&mut board, 0x60, 0x04);
    out(&mut board, 0x60, 0xff);
    assert!(!board.keyboard_irq());
    assert_eq!(inb(&mut board, 0x60), 0xfe);
}
