//! A function's configuration space as its owner sees it (PCI Local Bus Specification 3.0, chapter 6). Identity and
//! capability list are those read at the start. Writes that would move a BAR, start DMA or disturb the host do not
//! reach the device: BARs are virtual (the real BAR stays, and the guest's VMM moves the mapping), bus mastering needs
//! permission, and MSI is virtual (`msi`). Other writes are passed on.
//!
//! A guest can access handed-over memory and ports at any time. The real function therefore always decodes its
//! addresses, stays in D0 and reports no errors: otherwise an access could end in a master abort or an unsupported
//! request, whose report is a non-maskable interrupt or a machine check of the host. The guest reads these bits back as
//! it wrote them. While the virtual power state is not D0, bus mastering and interrupts of the real function are off. So is
//! its pin, whatever the guest writes, unless it arrives at a line of the owner's: others may share the pin's input.
//! Advanced error reporting is in the extended space, which configuration mechanism 1 cannot access.
//!
//! A driver may write device-specific registers, and some devices change their BARs, their command register or their power state by
//! that: a SATA controller of Intel's becomes an IDE controller. All of it is therefore compared after each such write; if anything has
//! changed, the write is undone and what it has changed restored.

use layout::Bdf;
use proto::pci::{BarKind, Error, Function, Width};

use crate::capabilities::{Capabilities, MSI, MSI_X, Register};
use crate::config_space::{ConfigSpace, half};
use crate::function::{
    BARS, CAPABILITIES, CLASS, COMMAND, DECODES, HAS_CAPABILITIES, HEADER_TYPE, ID, INTERRUPT, SUBSYSTEM,
};
use crate::msi::Msi;

const STATUS: u8 = 0x06;
const LAST_BAR: u8 = 0x24;
const CARDBUS: u8 = 0x28;
const ROM: u8 = 0x30;
const ROM_ENABLE: u32 = 1;

/// Command bits.
pub const BUS_MASTER: u16 = 1 << 2;
/// Memory write and invalidate: has an effect on bus masters only.
const INVALIDATE: u16 = 1 << 4;
/// INTx disable.
const NO_INTERRUPT: u16 = 1 << 10;
/// Parity error response, SERR# enable.
const ERRORS: u16 = 1 << 6 | 1 << 8;
/// Bits that a guest may always set.
const COMMAND_BITS: u16 = DECODES | ERRORS | NO_INTERRUPT;
/// Status bits that are cleared by writing ones.
const STATUS_BITS: u16 = 0xf900;
/// Power state, in the power management control register.
pub const POWER_STATE: u16 = 0b11;
/// Beside it: cleared by writing one.
const PME_STATUS: u16 = 1 << 15;
/// Device control of PCI Express: relaxed ordering, no snoop, read request size. Other bits depend on the link.
const EXPRESS_BITS: u16 = 1 << 4 | 1 << 11 | 0b111 << 12;
/// Device control of PCI Express: error reporting of four kinds.
const EXPRESS_ERRORS: u16 = 0xf;
/// Device status of PCI Express: bits that are cleared by writing ones.
const EXPRESS_STATUS: u16 = 0xf;
/// Device control of PCI Express: initiate function level reset.
pub const EXPRESS_RESET: u16 = 1 << 15;

/// How a write ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    /// Done.
    Done,
    /// The guest requested a function level reset.
    Reset,
}

/// How a function interrupts.
#[derive(Clone, Debug)]
pub struct Interrupts {
    /// The interrupt line register at the start.
    pub line: u8,
    /// Its pin arrives at a line of the owner's.
    pub has_pin: bool,
    /// By these messages, if it has them: from the first [`VirtualSpace::restore`] on.
    pub msi: Option<Msi>,
    /// The owner sees its MSI-X.
    pub has_msix: bool,
}

/// The space of one function.
#[derive(Clone, Debug)]
pub struct VirtualSpace {
    at: Bdf,
    capabilities: Capabilities,
    /// The real registers at the start, with bus mastering off.
    start: [u32; 64],
    bars: [BarRegister; 6],
    may_master: bool,
    /// Its pin arrives at a line of the owner's.
    has_pin: bool,
    /// If the function interrupts by messages.
    msi: Option<Msi>,
    /// Virtual command register, power state and error reporting.
    shown: Shown,
    /// Interrupt line register: now, and at the start.
    line: (u8, u8),
    /// Device-specific registers that the guest wrote: bit n is register n.
    touched: u64,
}

/// Virtual bits, which the guest reads as it wrote them, independent of the real function's.
#[derive(Clone, Copy, Debug, Default)]
struct Shown {
    command: u16,
    power: u16,
    express_errors: u16,
}

/// A virtual BAR: the address that the guest wrote. The real BAR stays.
#[derive(Clone, Copy, Debug, Default)]
struct BarRegister {
    value: u32,
    base: u32,
    mask: u32,
    kind: u32,
}

impl BarRegister {
    /// Writes the bytes in `lanes`.
    fn write(&mut self, lanes: u32, value: u32) {
        let can_change = lanes & self.mask;
        self.value = self.value & !can_change | value & can_change;
    }
}

/// The command bits that enable decoding of a function's BARs, including the fixed ports of compatibility mode.
fn decodes(function: &Function) -> u16 {
    let bit = |bar: &proto::pci::Bar| if bar.kind == BarKind::Io { 1 << 0 } else { 1 << 1 };
    function.bars.iter().flatten().fold(0, |bits, bar| bits | bit(bar))
}

/// The virtual BARs. Resources with fixed addresses (IDE in compatibility mode) have none.
fn bar_registers(function: &Function, start: &[u32; 64]) -> [BarRegister; 6] {
    let mut registers = [BarRegister::default(); 6];
    for (index, bar) in function.bars.iter().enumerate() {
        let (Some(bar), Some(&raw)) = (bar, start.get(usize::from(BARS / 4) + index)) else { continue };
        let mask = !(bar.size - 1);
        let kind = if bar.kind == BarKind::Io { raw & 0b11 } else { raw & 0xf };
        let keep = if bar.kind == BarKind::Io { !0b11 } else { !0xf };
        // The register does not contain the address, so the resource has a fixed one.
        if u64::from(raw & keep) != bar.base & 0xffff_ffff {
            continue;
        }
        let halves = [(bar.base as u32, mask as u32 & keep, kind), ((bar.base >> 32) as u32, (mask >> 32) as u32, 0)];
        let wide = matches!(bar.kind, BarKind::Memory64 { .. });
        for (register, (base, mask, kind)) in
            registers.iter_mut().skip(index).zip(halves).take(if wide { 2 } else { 1 })
        {
            *register = BarRegister { value: base, base, mask, kind };
        }
    }
    registers
}

impl VirtualSpace {
    /// The space of `function`. Turns bus mastering, error reporting, messages and the ROM off, and the pin if it is not the
    /// owner's.
    pub fn new(space: &mut impl ConfigSpace, function: &Function, may_master: bool, interrupts: Interrupts) -> Self {
        let at = function.address;
        let Interrupts { line, has_pin, msi, has_msix } = interrupts;
        let capabilities = {
            let by_msi = msi.as_ref().map(|_| MSI);
            Capabilities::read(space, at, function.header, by_msi.or(has_msix.then_some(MSI_X)))
        };
        // The firmware may have enabled MSI. While it is on, a function raises no INTx.
        for (control, enable) in capabilities.message_signalled() {
            let value = half(space.read(at, control & !3), control);
            space.write_part(at, control, Width::Word, (value & !enable).into());
        }
        let line = (line, line);
        let (start, bars, shown) = ([0; 64], Default::default(), Shown::default());
        let mut this = Self { at, capabilities, start, bars, may_master, has_pin, msi, shown, line, touched: 0 };
        // The ROM may share its address decoder with a BAR, and the guest sees no ROM.
        this.silence(space);
        // Read after these changes, so that a restore after a reset does not undo them.
        for (offset, register) in (0..=0xfc).step_by(4).zip(&mut this.start) {
            *register = space.read(at, offset);
        }
        let command = half(this.start[1], 0) & !(BUS_MASTER | ERRORS) | decodes(function);
        this.start[1] = command.into();
        this.bars = bar_registers(function, &this.start);
        this.shown.command = command;
        space.write_part(at, COMMAND, Width::Word, this.command().into());
        this
    }

    /// The capability list.
    pub fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    /// Reads; `offset` is a multiple of the width.
    pub fn read(&self, space: &mut impl ConfigSpace, offset: u8, width: Width) -> u32 {
        self.register(space, offset & !3) >> (8 * u32::from(offset & 3)) & width.mask()
    }

    fn register(&self, space: &mut impl ConfigSpace, offset: u8) -> u32 {
        let start = self.start_of(offset);
        match offset {
            ID | CLASS | CARDBUS | SUBSYSTEM => start,
            COMMAND => {
                // The bit must not announce an empty list.
                let hidden = if self.capabilities.first() == 0 { HAS_CAPABILITIES } else { 0 };
                space.read(self.at, COMMAND) & !(hidden | 0xffff) | u32::from(self.shown.command)
            }
            // No BIST, and not multi-function: the guest sees the function as the only one of its device.
            HEADER_TYPE => space.read(self.at, HEADER_TYPE) & 0x007f_ffff,
            BARS..=LAST_BAR => self.bar(offset).map_or(0, |bar| bar.value | bar.kind),
            CAPABILITIES => self.capabilities.first().into(),
            INTERRUPT => start & !0xff | u32::from(self.line.0),
            0..0x40 => 0,
            _ => match self.capabilities.register(offset) {
                Register::Hidden => 0,
                Register::Link(next) => {
                    let link = u32::from(next) << 8;
                    match self.msi_register(offset) {
                        Some((msi, register)) => space.read(self.at, offset) & 0xff | link | msi.read(register),
                        None => space.read(self.at, offset) & !0xff00 | link,
                    }
                }
                Register::Msi => self.msi_register(offset).map_or(0, |(msi, register)| msi.read(register)),
                Register::Power => space.read(self.at, offset) & !u32::from(POWER_STATE) | u32::from(self.shown.power),
                Register::ExpressControl => {
                    space.read(self.at, offset) & !u32::from(EXPRESS_ERRORS) | u32::from(self.shown.express_errors)
                }
                _ => space.read(self.at, offset),
            },
        }
    }

    /// Writes; `offset` is a multiple of the width. Writes to read-only registers are ignored, as in hardware.
    pub fn write(
        &mut self,
        machine: &mut impl ConfigSpace,
        offset: u8,
        width: Width,
        value: u32,
    ) -> Result<Written, Error> {
        let value = value & width.mask();
        let shift = 8 * u32::from(offset & 3);
        let (lanes, moved) = (width.mask() << shift, value << shift);
        match offset & !3 {
            COMMAND => return self.write_command(machine, lanes, moved),
            // Cache line size and latency timer. The other two bytes are the header type and BIST, which a guest must
            // not start: a self test takes the function off the bus.
            HEADER_TYPE if lanes & 0xffff != 0 => {
                let width = if width == Width::Byte { width } else { Width::Word };
                machine.write_part(self.at, offset, width, value & 0xffff);
            }
            bar @ BARS..=LAST_BAR => {
                if let Some(bar) = self.bars.get_mut(usize::from((bar - BARS) / 4)) {
                    bar.write(lanes, moved);
                }
            }
            INTERRUPT if lanes & 0xff != 0 => self.line.0 = value as u8,
            0..0x40 => {}
            register => match self.capabilities.register(register) {
                Register::Device => {
                    self.touched |= 1 << (register / 4);
                    return self.write_guarded(machine, offset, width, value);
                }
                Register::Hidden => return Err(Error::ReadOnly),
                Register::Power => self.write_power(machine, lanes, moved),
                Register::ExpressControl => return Ok(self.write_express(machine, register, lanes, moved)),
                Register::Msi | Register::Link(_) => {
                    let own = self.msi_register(register).map(|(_, own)| own);
                    if let Some((msi, own)) = self.msi.as_mut().zip(own) {
                        msi.write(own, lanes, moved);
                    }
                }
                Register::Fixed => {}
            },
        }
        Ok(Written::Done)
    }

    fn write_command(&mut self, space: &mut impl ConfigSpace, lanes: u32, value: u32) -> Result<Written, Error> {
        // The two halves are written separately: a write of both would clear status bits that the guest did not mean
        // to.
        let clear = half(value & lanes, 2) & STATUS_BITS;
        if clear != 0 {
            space.write_part(self.at, STATUS, Width::Word, clear.into());
        }
        let lanes = half(lanes, 0);
        let bits = COMMAND_BITS | if self.may_master { BUS_MASTER | INVALIDATE } else { 0 };
        if lanes != 0 {
            self.shown.command = self.shown.command & !(lanes & bits) | half(value, 0) & lanes & bits;
            space.write_part(self.at, COMMAND, Width::Word, self.command().into());
        }
        let refused = !self.may_master && half(value, 0) & lanes & BUS_MASTER != 0;
        if refused { Err(Error::NoDma) } else { Ok(Written::Done) }
    }

    /// Changes the virtual power state only, and with it bus mastering and interrupts of the real function.
    fn write_power(&mut self, space: &mut impl ConfigSpace, lanes: u32, value: u32) {
        if lanes & 0xff != 0 {
            self.shown.power = half(value, 0) & POWER_STATE;
            space.write_part(self.at, COMMAND, Width::Word, self.command().into());
        }
    }

    /// The value for the real command register: as at the start, except for the bits that the guest controls.
    fn command(&self) -> u16 {
        const GUESTS: u16 = BUS_MASTER | INVALIDATE | NO_INTERRUPT;
        // As in hardware: a function that is not in D0 does no DMA and raises no INTx.
        let mut guests = if self.shown.power == 0 { self.shown.command & GUESTS } else { NO_INTERRUPT };
        if !self.has_pin {
            // With MSI, the guest's bit is for its virtual pin.
            guests |= NO_INTERRUPT;
        }
        half(self.start_of(COMMAND), 0) & !GUESTS | guests
    }

    fn write_express(&mut self, space: &mut impl ConfigSpace, at: u8, lanes: u32, value: u32) -> Written {
        let clear = half(value & lanes, 2) & EXPRESS_STATUS;
        if clear != 0 {
            space.write_part(self.at, at + 2, Width::Word, clear.into());
        }
        let lanes = half(lanes, 0);
        if lanes != 0 {
            let errors = lanes & EXPRESS_ERRORS;
            self.shown.express_errors = self.shown.express_errors & !errors | half(value, 0) & errors;
            let old = half(space.read(self.at, at), 0) & !EXPRESS_RESET;
            let new = old & !(lanes & EXPRESS_BITS) | half(value, 0) & lanes & EXPRESS_BITS;
            space.write_part(self.at, at, Width::Word, new.into());
        }
        // The server performs the reset: it also waits for the function and restores its configuration space.
        if half(value, 0) & lanes & EXPRESS_RESET != 0 { Written::Reset } else { Written::Done }
    }

    fn write_guarded(
        &mut self,
        space: &mut impl ConfigSpace,
        offset: u8,
        width: Width,
        value: u32,
    ) -> Result<Written, Error> {
        let command = half(space.read(self.at, COMMAND), 0);
        let old = space.read(self.at, offset & !3) >> (8 * u32::from(offset & 3)) & width.mask();
        space.write_part(self.at, offset, width, value);
        if !self.put_back(space, command) {
            return Ok(Written::Done);
        }
        space.write_part(self.at, offset, width, old);
        // In another mode the function may have had other registers, to which nothing could be restored.
        self.put_back(space, command);
        Err(Error::ReadOnly)
    }

    /// Restores BARs that differ from those at the start, D0, messages, and the command register to `command`; and has the function
    /// report no errors and decode no ROM. Returns whether anything differed.
    fn put_back(&self, space: &mut impl ConfigSpace, command: u16) -> bool {
        let mut changed = self.wake(space) | self.silence(space);
        for offset in (BARS..=LAST_BAR).step_by(4) {
            if space.read(self.at, offset) != self.start_of(offset) {
                // A BAR must not change while the function decodes it.
                space.write_part(self.at, COMMAND, Width::Word, (command & !DECODES).into());
                space.write(self.at, offset, self.start_of(offset));
                changed = true;
            }
        }
        if let Some(msi) = &self.msi
            && !msi.is_intact(space, self.at)
        {
            msi.program(space, self.at);
            changed = true;
        }
        if half(space.read(self.at, COMMAND), 0) != command {
            space.write_part(self.at, COMMAND, Width::Word, command.into());
            changed = true;
        }
        changed
    }

    /// Sets D0; returns whether the function was in another state.
    fn wake(&self, space: &mut impl ConfigSpace) -> bool {
        let Some(control) = self.capabilities.power().map(|power| power + 4) else { return false };
        let state = half(space.read(self.at, control), 0);
        if state & POWER_STATE == 0 {
            return false;
        }
        space.write_part(self.at, control, Width::Word, (state & !(POWER_STATE | PME_STATUS)).into());
        true
    }

    /// Turns the ROM and the error reporting of PCI Express off; returns whether one was on.
    fn silence(&self, space: &mut impl ConfigSpace) -> bool {
        let rom = space.read(self.at, ROM);
        if rom & ROM_ENABLE != 0 {
            space.write(self.at, ROM, rom & !ROM_ENABLE);
        }
        let Some(at) = self.capabilities.express().map(|express| express + 8) else { return rom & ROM_ENABLE != 0 };
        let control = half(space.read(self.at, at), 0);
        if control & EXPRESS_ERRORS != 0 {
            space.write_part(self.at, at, Width::Word, (control & !(EXPRESS_ERRORS | EXPRESS_RESET)).into());
        }
        rom & ROM_ENABLE != 0 || control & EXPRESS_ERRORS != 0
    }

    /// For the owner's next start: its windows begin where the machine has them, and no message is masked. A function level
    /// reset, which the guest requests, leaves both: the guest's VMM has mapped the windows, and counts on the mask.
    pub fn renew(&mut self) {
        for bar in &mut self.bars {
            bar.value = bar.base;
        }
        self.line.0 = self.line.1;
        if let Some(msi) = &mut self.msi {
            msi.mask(false);
        }
    }

    /// Restores the registers after a reset of the function to their values at the start.
    pub fn restore(&mut self, space: &mut impl ConfigSpace) {
        self.shown = Shown { command: half(self.start_of(COMMAND), 0), ..Shown::default() };
        if let Some(msi) = &mut self.msi {
            msi.reset();
        }
        // Decoding stays off until all registers are restored.
        self.put_back(space, self.command() & !DECODES);
        for register in (0x40..=0xfc).step_by(4).filter(|register| self.touched & 1 << (register / 4) != 0) {
            space.write(self.at, register, self.start_of(register));
        }
        self.touched = 0;
        if let Some(express) = self.capabilities.express() {
            let control = half(self.start_of(express + 8), 0) & !EXPRESS_RESET;
            space.write_part(self.at, express + 8, Width::Word, control.into());
        }
        space.write_part(self.at, HEADER_TYPE, Width::Word, self.start_of(HEADER_TYPE) & 0xffff);
        space.write_part(self.at, INTERRUPT, Width::Byte, self.start_of(INTERRUPT) & 0xff);
        self.put_back(space, self.command());
    }

    /// Masks or unmasks the function's messages.
    pub fn mask(&mut self, space: &mut impl ConfigSpace, masked: bool) -> Result<(), Error> {
        let msi = self.msi.as_mut().ok_or(Error::NotYours)?;
        msi.mask(masked);
        msi.program(space, self.at);
        Ok(())
    }

    /// Whether the guest sees a capability at this offset.
    pub fn shows(&self, at: u8) -> bool {
        matches!(self.capabilities.register(at), Register::Link(_))
    }

    /// Offset of the virtual MSI capability.
    pub fn msi(&self) -> Option<u8> {
        let msi = self.msi.as_ref()?;
        self.shows(msi.at()).then_some(msi.at())
    }

    /// The register `offset` in terms of MSI, if that has it.
    fn msi_register(&self, offset: u8) -> Option<(&Msi, u8)> {
        let msi = self.msi.as_ref()?;
        let register = offset.checked_sub(msi.at())?;
        (register == 0 || self.capabilities.register(offset) == Register::Msi).then_some((msi, register))
    }

    fn bar(&self, offset: u8) -> Option<&BarRegister> {
        self.bars.get(usize::from(offset.wrapping_sub(BARS) / 4))
    }

    fn start_of(&self, offset: u8) -> u32 {
        self.start.get(usize::from(offset / 4)).copied().unwrap_or(0)
    }
}
