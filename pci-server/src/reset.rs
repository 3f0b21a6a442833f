//! Quiets a function and puts it back to how it was at the start, with what it has for that: function level reset (PCI
//! Express Base Specification 2.0, section 6.6.2; Advanced Capabilities for Conventional PCI, 2006), a turn through D3hot
//! (PCI Bus Power Management 1.2, section 5.4), or the reset of its kind. To turn bus mastering off is not enough
//! everywhere: emulated cards ignore the bit and go on. So known kinds have their engines stopped as well.
//!
//! Every wait has an end, since other clients wait meanwhile. Who has had too many of them (`patience`) gets what needs none:
//! bus mastering off, engines stopped, configuration as at the start.

use proto::pci::{Function, Width};

use crate::config_space::half;
use crate::function::{COMMAND, DECODES, ID};
use crate::hardware::{Machine, Millis, ticks_of, wait};
use crate::patience::Patience;
use crate::resources::Resources;
use crate::virtual_space::{BUS_MASTER, EXPRESS_RESET, POWER_STATE, VirtualSpace};

/// How long a device may take.
const LONGEST: Millis = Millis(100);

/// How far a reset went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reset {
    /// As far as the function can be reset.
    Whole,
    /// As far as it goes without a wait.
    Hurried,
}

/// Resets `function`, which the configuration lists as the `index`th.
pub fn reset(
    machine: &mut impl Machine,
    patience: &mut Patience,
    function: &Function,
    space: &mut VirtualSpace,
    resources: &Resources,
    index: u8,
) -> Reset {
    let at = function.address;
    let hurried = patience.is_spent(machine);
    let command = half(machine.read(at, COMMAND), 0) & !BUS_MASTER;
    machine.write_part(at, COMMAND, Width::Word, command.into());
    if !hurried {
        wake(machine, patience, function, space);
    }
    machine.write_part(at, COMMAND, Width::Word, (command | DECODES).into());
    let mut registers = Registers { machine, patience, hurried, function, resources, index };
    let done = registers.of_its_kind();
    if !(hurried || express(machine, patience, function, space) || advanced(machine, patience, function, space) || done)
    {
        power(machine, patience, function, space);
    }
    space.restore(machine);
    if hurried { Reset::Hurried } else { Reset::Whole }
}

/// D0: in other states the device answers to configuration accesses only, and has forgotten its addresses afterwards.
fn wake(machine: &mut impl Machine, patience: &mut Patience, function: &Function, space: &mut VirtualSpace) {
    let Some(control) = space.capabilities().power().map(|power| power + 4) else { return };
    if half(machine.read(function.address, control), 0) & POWER_STATE != 0 {
        power_state(machine, patience, function, control, 0);
        space.restore(machine);
    }
}

/// Function level reset of PCI Express.
fn express(machine: &mut impl Machine, patience: &mut Patience, function: &Function, space: &VirtualSpace) -> bool {
    const CAPABLE: u32 = 1 << 28;
    const PENDING: u16 = 1 << 5;
    let at = function.address;
    let Some(express) = space.capabilities().express() else { return false };
    if machine.read(at, express + 4) & CAPABLE == 0 {
        return false;
    }
    patience.wait_until(machine, LONGEST, |machine| half(machine.read(at, express + 8), 2) & PENDING == 0);
    let control = half(machine.read(at, express + 8), 0);
    machine.write_part(at, express + 8, Width::Word, (control | EXPRESS_RESET).into());
    // It need not answer earlier.
    patience.wait(machine, LONGEST);
    answers(machine, patience, function);
    true
}

/// Function level reset of conventional PCI.
fn advanced(machine: &mut impl Machine, patience: &mut Patience, function: &Function, space: &VirtualSpace) -> bool {
    /// In the capabilities: pending bit and reset.
    const CAPABLE: u32 = 0b11 << 24;
    const PENDING: u32 = 1 << 8;
    let at = function.address;
    let Some(advanced) = space.capabilities().advanced() else { return false };
    if machine.read(at, advanced) & CAPABLE != CAPABLE {
        return false;
    }
    patience.wait_until(machine, LONGEST, |machine| machine.read(at, advanced + 4) & PENDING == 0);
    machine.write_part(at, advanced + 4, Width::Byte, 1);
    patience.wait(machine, LONGEST);
    answers(machine, patience, function);
    true
}

/// To D3hot and back, which resets unless the function says that it does not.
fn power(machine: &mut impl Machine, patience: &mut Patience, function: &Function, space: &VirtualSpace) {
    const NO_SOFT_RESET: u16 = 1 << 3;
    let Some(control) = space.capabilities().power().map(|power| power + 4) else { return };
    if half(machine.read(function.address, control), 0) & NO_SOFT_RESET == 0 {
        power_state(machine, patience, function, control, POWER_STATE);
        power_state(machine, patience, function, control, 0);
    }
}

fn power_state(machine: &mut impl Machine, patience: &mut Patience, function: &Function, control: u8, state: u16) {
    /// Cleared by writing one.
    const PME_STATUS: u16 = 1 << 15;
    let at = function.address;
    let old = half(machine.read(at, control), 0) & !(PME_STATUS | POWER_STATE);
    machine.write_part(at, control, Width::Word, (old | state).into());
    patience.wait(machine, Millis(10));
    answers(machine, patience, function);
}

/// Waits for the function to answer to configuration accesses again.
fn answers(machine: &mut impl Machine, patience: &mut Patience, function: &Function) {
    let id = u32::from(function.device) << 16 | u32::from(function.vendor);
    patience.wait_until(machine, LONGEST, |machine| machine.read(function.address, ID) == id);
}

/// A function's own registers, by base address register and offset. What is not there reads as ones.
struct Registers<'a, M> {
    machine: &'a mut M,
    patience: &'a mut Patience,
    /// Nothing is waited for but what is over at once.
    hurried: bool,
    function: &'a Function,
    resources: &'a Resources,
    index: u8,
}

impl<M: Machine> Registers<'_, M> {
    /// The reset of the function's kind; whether it is of a kind that has one.
    fn of_its_kind(&mut self) -> bool {
        match (self.function.class, self.function.vendor, self.function.device) {
            ([0x01, 0x01, _], ..) => self.ide(),
            ([0x01, 0x06, 0x01], ..) => self.ahci(),
            ([0x0c, 0x03, 0x00], ..) => self.uhci(),
            ([0x02, 0x00, _], 0x8086, device) if INTEL_GIGABIT.contains(&device) => self.intel_gigabit(),
            ([0x02, 0x00, _], 0x10ec, 0x8029) => self.ne2000(),
            _ => return false,
        }
        true
    }

    /// PCI IDE Controller Specification 1.0 and Programming Interface for Bus Master IDE Controller 1.0, section 2; ATA/ATAPI-6,
    /// section 9.2: stop both engines, then reset both channels in software.
    fn ide(&mut self) {
        /// Bus master status: interrupt and error, cleared by writing ones.
        const CLEAR: u32 = 0b110;
        const SOFT_RESET: u32 = 1 << 2;
        const BUSY: u32 = 1 << 7;
        /// Command and status of each engine in register 4; the channel's control register and where in it device control is.
        const CHANNELS: [(u16, u8); 2] = [(0, 1), (8, 3)];
        for (engine, control) in CHANNELS {
            self.port_write(4, engine, 0);
            let status = self.port_read(4, engine + 2);
            self.port_write(4, engine + 2, status | CLEAR);
            // In compatibility mode the range is that one port; else it is the third of four.
            let bar = self.function.bars.get(usize::from(control)).copied().flatten();
            let device_control = if bar.is_some_and(|bar| bar.size >= 4) { 2 } else { 0 };
            self.port_write(control, device_control, SOFT_RESET);
            self.moment();
            self.port_write(control, device_control, 0);
            // Busy is there after 400 ns.
            self.moment();
            self.until(|this| {
                let status = this.port_read(control, device_control);
                // Nobody drives the lines of a channel without disks.
                status & BUSY == 0 || status == 0xff
            });
        }
    }

    /// Serial ATA AHCI 1.3, section 10.4.3.
    fn ahci(&mut self) {
        const GHC: u64 = 0x04;
        const ENABLE: u32 = 1 << 31;
        const RESET: u32 = 1 << 0;
        self.store(5, GHC, ENABLE);
        self.store(5, GHC, ENABLE | RESET);
        self.until(|this| this.load(5, GHC) & RESET == 0);
    }

    /// Universal Host Controller Interface 1.1, section 2.1.
    fn uhci(&mut self) {
        const COMMAND: u16 = 0;
        const INTERRUPTS: u16 = 4;
        const RESET: u32 = 1 << 1;
        self.port_write(4, COMMAND, 0);
        self.port_write(4, INTERRUPTS, 0);
        self.port_write(4, COMMAND, RESET);
        self.until(|this| this.port_read(4, COMMAND) & RESET == 0);
    }

    /// PCI/PCI-X Family of Gigabit Ethernet Controllers Software Developer's Manual (317453), sections 13.4.1, 13.4.20 to
    /// 13.4.33: interrupts, receiver and transmitter off, then reset. Emulated ones do no more at a reset than end it.
    fn intel_gigabit(&mut self) {
        const CONTROL: u64 = 0x0000;
        const CAUSES: u64 = 0x00c0;
        const MASK_CLEAR: u64 = 0x00d8;
        const RECEIVE: u64 = 0x0100;
        const TRANSMIT: u64 = 0x0400;
        const RESET: u32 = 1 << 26;
        self.store(0, MASK_CLEAR, u32::MAX);
        self.store(0, RECEIVE, 0);
        self.store(0, TRANSMIT, 0);
        // What is under way may end: as long as drivers give it.
        if !self.hurried {
            self.patience.wait(self.machine, Millis(10));
        }
        let control = self.load(0, CONTROL);
        self.store(0, CONTROL, control | RESET);
        self.moment();
        self.until(|this| this.load(0, CONTROL) & RESET == 0);
        self.store(0, MASK_CLEAR, u32::MAX);
        // Reading clears.
        self.load(0, CAUSES);
    }

    /// DP8390D, section 10.3: stop, no interrupts. It is no bus master.
    fn ne2000(&mut self) {
        const COMMAND: u16 = 0;
        const STATUS: u16 = 7;
        const MASK: u16 = 15;
        /// Stop, no remote DMA, page 0.
        const STOP: u32 = 0x21;
        self.port_write(0, COMMAND, STOP);
        self.port_write(0, MASK, 0);
        self.port_write(0, STATUS, 0xff);
    }

    /// Waits 5 us: not worth to be counted.
    fn moment(&mut self) {
        let ticks = ticks_of(self.machine, Millis(1)) / 200;
        wait(self.machine, ticks);
    }

    fn until(&mut self, mut holds: impl FnMut(&mut Registers<'_, M>) -> bool) {
        if self.hurried {
            return;
        }
        let (function, resources, index, hurried) = (self.function, self.resources, self.index, self.hurried);
        let mut patience = *self.patience;
        let held = patience.wait_until(self.machine, LONGEST, |machine| {
            let patience = &mut Patience::default();
            holds(&mut Registers { machine, patience, hurried, function, resources, index })
        });
        *self.patience = patience;
        if !held && self.patience.in_vain() {
            log::warn!("{} does not come out of its reset", self.function.address);
        }
    }

    /// The slot of a port, and the port.
    fn port(&self, bar: u8, offset: u16) -> Option<(u16, u16)> {
        let bar = self.function.bars.get(usize::from(bar)).copied().flatten()?;
        let port = u16::try_from(bar.base).ok()?.checked_add(offset)?;
        let whole = u64::from(offset) < bar.size;
        self.resources.port(port).filter(|_| whole).map(|range| (range.slot, port))
    }

    /// Command registers of UHCI have 16 bits, of which the low byte is all that is used here.
    fn port_read(&mut self, bar: u8, offset: u16) -> u32 {
        let Some((slot, port)) = self.port(bar, offset) else { return 0xff };
        self.machine.port_in(slot, port, Width::Byte)
    }

    fn port_write(&mut self, bar: u8, offset: u16, value: u32) {
        if let Some((slot, port)) = self.port(bar, offset) {
            self.machine.port_out(slot, port, Width::Byte, value);
        }
    }

    /// Where a register of device memory is mapped. All that are used are in the first page.
    fn mapped(&self, bar: u8, offset: u64) -> Option<u64> {
        let range = self.resources.memory_of(self.index, bar)?;
        let inside = offset + 3 <= range.last - range.first;
        range.mapped.filter(|_| inside).map(|mapped| mapped + offset)
    }

    fn load(&mut self, bar: u8, offset: u64) -> u32 {
        self.mapped(bar, offset).map_or(u32::MAX, |at| self.machine.load(at, Width::Dword))
    }

    fn store(&mut self, bar: u8, offset: u64, value: u32) {
        if let Some(at) = self.mapped(bar, offset) {
            self.machine.store(at, Width::Dword, value);
        }
    }
}

/// 82540 to 82547, 82571 to 82574: device IDs of the cards that are common, from the manual's table 5-1 and its successors'.
const INTEL_GIGABIT: [u16; 29] = [
    0x1004, 0x1008, 0x1009, 0x100c, 0x100d, 0x100e, 0x100f, 0x1010, 0x1011, 0x1013, 0x1015, 0x1016, 0x1017, 0x1018,
    0x1019, 0x101e, 0x1026, 0x1076, 0x1077, 0x1078, 0x1079, 0x107c, 0x105e, 0x107d, 0x108b, 0x108c, 0x109a, 0x10d3,
    0x10f6,
];
