//! The side effects of accesses to devices, in one place per device, found by comparing the device's outputs before and
//! after. Frequent accesses of a busy guest take a fast path, where the data sheet says that they leave those outputs
//! alone.

use devices::{Device, Effect, Nanos, Width, pci::Hit, pic::Pic, reset_ports::Port, rtc::Rtc, write_bytes};
use layout::guest_board::{Chipset, input};

use super::{Board, RESET_CONTROL, Remote, TIMELESS, quiet};

impl Board {
    /// Drives a line of the interrupt controllers.
    pub(super) fn drive(&mut self, line: u8, level: bool) -> Effect {
        Effect::LINES.when(self.controllers.drive(line, level))
    }

    /// The side effect of an access to the 8259 pair: LINES if an interrupt may be pending, or if a passed-through line
    /// waits for an end of interrupt or a mask. A request that the access has removed needs no effect: at the interrupt
    /// window, the pair is asked again and has none.
    #[inline(always)]
    fn pic_effect(&self) -> Effect {
        Effect::LINES.when(self.controllers.pic.asks() || self.lines.in_flight())
    }

    /// A read can be a poll, which acknowledges an interrupt.
    #[inline(never)]
    pub(super) fn pic_read(&mut self, access: impl FnOnce(&mut Pic) -> u32) -> (u32, Effect) {
        (access(&mut self.controllers.pic), self.pic_effect())
    }

    #[inline(never)]
    pub(super) fn pic_write(&mut self, access: impl FnOnce(&mut Pic)) -> Effect {
        access(&mut self.controllers.pic);
        self.pic_effect()
    }

    /// Fast path for ends of interrupts and masks, which are bytes.
    #[inline(always)]
    pub(super) fn pic_primary_write(&mut self, port: u16, width: Width, value: u32) -> Effect {
        if width != Width::Byte {
            return self.pic_write(move |pic| pic.primary().write(port % 2, width, value, TIMELESS));
        }
        self.controllers.pic.primary().write_byte(port % 2, value as u8);
        self.pic_effect()
    }

    /// Reads power management, if there is any.
    #[inline(never)]
    pub(super) fn power_read(&mut self, port: u16, width: Width, now: Nanos) -> (u32, Effect) {
        match self.chipset {
            Chipset::Pc1995 => quiet(width.mask32()),
            Chipset::Pc => quiet(self.power.read(port % 16, width, now)),
        }
    }

    #[inline(never)]
    pub(super) fn power_write(&mut self, port: u16, width: Width, value: u32) -> Effect {
        if self.chipset == Chipset::Pc1995 {
            return Effect::QUIET;
        }
        self.power.write(port % 16, width, value, TIMELESS);
        Effect::OFF.when(self.power.take_off()) | self.power_line()
    }

    pub(super) fn power_line(&mut self) -> Effect {
        self.drive(input::SCI, self.power.irq())
    }

    /// An entry may send an interrupt that waits, and a line's service may end by it.
    #[inline(never)]
    pub(super) fn io_apic_write(&mut self, offset: u16, width: Width, value: u32) -> Effect {
        self.controllers.sample();
        self.controllers.ioapic.write(offset, width, value);
        Effect::LINES
    }

    #[inline(never)]
    pub(super) fn imcr_write(&mut self, port: u16, width: Width, value: u32) -> Effect {
        write_bytes(port % 2, width, value, |at, value| self.imcr.write(at, value));
        Effect::LINES
    }

    #[inline(never)]
    pub(super) fn pit_read_wide(&mut self, port: u16, width: Width, now: Nanos) -> (u32, Effect) {
        quiet(self.pit.read(port % 4, width, now))
    }

    /// The first byte of two stops the count at most. No interrupt can come earlier for it, so the deadline is left as
    /// it is; if it passes, nothing is due.
    #[inline(always)]
    pub(super) fn pit_write(&mut self, port: u16, width: Width, value: u32, now: Nanos) -> Effect {
        if width == Width::Byte && self.pit.write_low_byte(port % 4, value as u8, now) {
            return Effect::QUIET;
        }
        self.pit.write(port % 4, width, value, now);
        Effect::LINES.when(self.pay_tick()) | Effect::TIMERS
    }

    /// Fast path for CMOS memory and the time. A read of register C clears the interrupt.
    #[inline(always)]
    pub(super) fn rtc_read(&mut self, port: u16, width: Width, now: impl Into<Nanos> + Copy) -> (u32, Effect) {
        if (port, width) == (0x71, Width::Byte)
            && let Some(value) = self.rtc.data(now)
        {
            return quiet(value.into());
        }
        let now: Nanos = now.into();
        self.rtc_access(move |rtc| rtc.read(port % 2, width, now))
    }

    pub(super) fn rtc_write(&mut self, port: u16, width: Width, value: u32, now: Nanos) -> Effect {
        self.rtc_access(move |rtc| rtc.write(port % 2, width, value, now)).1
    }

    #[inline(never)]
    pub(super) fn rtc_access<R>(&mut self, access: impl FnOnce(&mut Rtc) -> R) -> (R, Effect) {
        let value = access(&mut self.rtc);
        let effect = self.rtc_effect();
        (value, effect)
    }

    /// Drives its line and updates its deadline, after an access that may have changed them.
    pub(super) fn rtc_effect(&mut self) -> Effect {
        let due = self.rtc.next_event(Nanos::ZERO);
        let other = core::mem::replace(&mut self.rtc_due, due) != due;
        self.drive(input::CLOCK, self.rtc.irq()) | Effect::TIMERS.when(other)
    }

    /// The model says whether a read has changed its line, or made room for a byte that waits outside.
    #[inline(never)]
    pub(super) fn uart_read(&mut self, port: u16, width: Width) -> (u32, Effect) {
        let value = self.uart.read(port % 8, width, TIMELESS);
        if self.uart.take_changed() { (value, Effect::LINES | self.uart_line()) } else { quiet(value) }
    }

    #[inline(never)]
    pub(super) fn uart_write(&mut self, port: u16, width: Width, value: u32) -> Effect {
        /// FIFO control and modem control can also make room: a cleared receiver FIFO, the end of loopback.
        const CONTROLS: [u16; 2] = [0x3fa, 0x3fc];
        self.uart.write(port % 8, width, value, TIMELESS);
        let more = Effect::OUTPUT.when(self.uart.tx_pending() > 0);
        let room = Effect::LINES.when(CONTROLS.contains(&port) || width != Width::Byte);
        more | room | self.uart_line()
    }

    /// Drives its line, after an access or after the console has moved bytes.
    pub fn uart_line(&mut self) -> Effect {
        self.drive(input::UART, self.uart.irq())
    }

    #[inline(always)]
    pub(super) fn pci_read(&mut self, port: u16, width: impl Fn() -> Width) -> Result<(u32, Effect), Remote> {
        if width() == Width::Dword {
            match port {
                0xcfc if let Some(value) = self.functions.config_data() => return Ok(quiet(value)),
                0xcf8 => return Ok(quiet(self.functions.config_address())),
                _ => {}
            }
        }
        if self.functions.elsewhere(port % 8).is_some() && !Self::is_reset_control(port, width()) {
            return Err(Remote);
        }
        Ok(self.pci_read_slow(port, width()))
    }

    /// Inside the address port, the byte 0xcf9 is a register of its own.
    fn is_reset_control(port: u16, width: Width) -> bool {
        (port, width) == (RESET_CONTROL, Width::Byte)
    }

    #[inline(never)]
    fn pci_read_slow(&mut self, port: u16, width: Width) -> (u32, Effect) {
        if Self::is_reset_control(port, width) {
            return self.reset_port_read(Port::ResetControl, width);
        }
        self.functions.read_config(port % 8, width, &mut self.controllers.pic)
    }

    #[inline(always)]
    pub(super) fn pci_write(&mut self, port: u16, width: impl Fn() -> Width, value: u32) -> Result<Effect, Remote> {
        if port == 0xcf8 && width() == Width::Dword {
            self.functions.set_config_address(value);
            return Ok(Effect::QUIET);
        }
        if self.functions.elsewhere(port % 8).is_some() && !Self::is_reset_control(port, width()) {
            return Err(Remote);
        }
        Ok(self.pci_write_slow(port, width(), value))
    }

    #[inline(never)]
    fn pci_write_slow(&mut self, port: u16, width: Width, value: u32) -> Effect {
        if Self::is_reset_control(port, width) {
            return self.reset_port_write(Port::ResetControl, width, value);
        }
        self.functions.write_config(port % 8, width, value, &mut self.controllers.pic)
    }

    /// Reads a port that no device of the board owns: a BAR of a modelled function has it, or it is unowned.
    #[inline(always)]
    pub(super) fn function_port_read(&mut self, port: u16, width: Width) -> (u32, Effect) {
        match self.functions.port(port, width) {
            None => quiet(width.mask32()),
            Some(hit) => self.function_read(hit, width),
        }
    }

    #[inline(always)]
    pub(super) fn function_port_write(&mut self, port: u16, width: Width, value: u32) -> Effect {
        match self.functions.port(port, width) {
            None => Effect::QUIET,
            Some(hit) => self.functions.write(hit, width, value.into(), &mut self.controllers.pic),
        }
    }

    /// Reads a BAR; no access here is wider than a double word.
    pub(super) fn function_read(&mut self, hit: Hit, width: Width) -> (u32, Effect) {
        let (value, effect) = self.functions.read(hit, width, &mut self.controllers.pic);
        (value as u32, effect)
    }

    /// Does the pending work of the functions' back ends.
    pub fn serve_functions(&mut self) -> Effect {
        self.functions.serve(&mut self.controllers.pic)
    }

    #[inline(never)]
    pub(super) fn reset_port_read(&mut self, register: Port, width: Width) -> (u32, Effect) {
        let value = self.reset_ports.read(register, width);
        (value, self.drive(input::KEYBOARD, self.reset_ports.keyboard_irq()))
    }

    #[inline(never)]
    pub(super) fn reset_port_write(&mut self, register: Port, width: Width, value: u32) -> Effect {
        let reset = self.reset_ports.write(register, width, value);
        Effect::RESET.when(reset.is_some()) | self.drive(input::KEYBOARD, self.reset_ports.keyboard_irq())
    }
}
