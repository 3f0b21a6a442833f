//! Resets a function and restores its configuration space, by the best method that it has: function level reset (PCI
//! Express Base Specification 2.0, section 6.6.2; Advanced Capabilities for Conventional PCI, 2006), a transition to
//! D3hot and back (PCI Bus Power Management 1.2, section 5.4), or a device-specific reset. Turning bus mastering off is
//! not always enough: emulated cards ignore the bit. So pci-server also stops the DMA engines of known kinds of
//! devices.
//!
//! Every wait has a timeout, since other clients wait meanwhile. If the client's budget (`wait_budget`) is used up, the
//! reset omits the steps that need a wait: bus mastering off, engines stopped, configuration space restored.

use proto::pci::{Function, Width};

use crate::config_space::{ConfigSpace, half};
use crate::function::{COMMAND, DECODES, ID};
use crate::hardware::{Machine, Millis, ticks_of, wait};
use crate::resources::Resources;
use crate::virtual_space::{BUS_MASTER, EXPRESS_RESET, POWER_STATE, VirtualSpace};
use crate::wait_budget::WaitBudget;

/// Timeout for a device, and the time after a function level reset before the first access.
const LONGEST: Millis = Millis(100);

/// How complete a reset was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reset {
    /// All that the function supports.
    Whole,
    /// Only the steps without a wait.
    Hurried,
}

/// Resets `function`, which the configuration lists as the `index`th.
pub fn reset(
    machine: &mut impl Machine,
    budget: &mut WaitBudget,
    function: &Function,
    space: &mut VirtualSpace,
    resources: &Resources,
    index: u8,
) -> Reset {
    let at = function.address;
    let hurried = budget.is_empty(machine);
    // First, so that the device starts no further DMA.
    let command = half(machine.read(at, COMMAND), 0) & !BUS_MASTER;
    machine.write_part(at, COMMAND, Width::Word, command.into());
    if !hurried {
        wake(machine, budget, function, space);
    }
    // The device-specific reset accesses the function's registers.
    machine.write_part(at, COMMAND, Width::Word, (command | DECODES).into());
    let mut registers = Registers { machine, budget, hurried, function, resources, index };
    let done = registers.of_its_kind();
    if !(hurried || express(machine, budget, function, space) || advanced(machine, budget, function, space) || done) {
        power(machine, budget, function, space);
    }
    space.restore(machine);
    if hurried { Reset::Hurried } else { Reset::Whole }
}

/// Sets D0: in other states the device decodes configuration accesses only, and on leaving D3hot its BARs may be lost.
fn wake(machine: &mut impl Machine, budget: &mut WaitBudget, function: &Function, space: &mut VirtualSpace) {
    let Some(control) = space.capabilities().power().map(|power| power + 4) else { return };
    if half(machine.read(function.address, control), 0) & POWER_STATE != 0 {
        power_state(machine, budget, function, control, 0);
        space.restore(machine);
    }
}

/// Function level reset of PCI Express.
fn express(machine: &mut impl Machine, budget: &mut WaitBudget, function: &Function, space: &VirtualSpace) -> bool {
    const CAPABLE: u32 = 1 << 28;
    const PENDING: u16 = 1 << 5;
    let at = function.address;
    let Some(express) = space.capabilities().express() else { return false };
    if machine.read(at, express + 4) & CAPABLE == 0 {
        return false;
    }
    // Completions of reads that are in flight must not arrive after the reset (section 6.6.2).
    budget.wait_until(machine, LONGEST, |machine| half(machine.read(at, express + 8), 2) & PENDING == 0);
    let control = half(machine.read(at, express + 8), 0);
    machine.write_part(at, express + 8, Width::Word, (control | EXPRESS_RESET).into());
    // The function may take 100 ms, in which software must not access it (section 6.6.2).
    budget.wait(machine, LONGEST);
    answers(machine, budget, function);
    true
}

/// Function level reset of conventional PCI.
fn advanced(machine: &mut impl Machine, budget: &mut WaitBudget, function: &Function, space: &VirtualSpace) -> bool {
    /// In the capabilities: pending bit and reset.
    const CAPABLE: u32 = 0b11 << 24;
    const PENDING: u32 = 1 << 8;
    let at = function.address;
    let Some(advanced) = space.capabilities().advanced() else { return false };
    if machine.read(at, advanced) & CAPABLE != CAPABLE {
        return false;
    }
    budget.wait_until(machine, LONGEST, |machine| machine.read(at, advanced + 4) & PENDING == 0);
    machine.write_part(at, advanced + 4, Width::Byte, 1);
    budget.wait(machine, LONGEST);
    answers(machine, budget, function);
    true
}

/// To D3hot and back, which resets a function unless No_Soft_Reset is set.
fn power(machine: &mut impl Machine, budget: &mut WaitBudget, function: &Function, space: &VirtualSpace) {
    const NO_SOFT_RESET: u16 = 1 << 3;
    let Some(control) = space.capabilities().power().map(|power| power + 4) else { return };
    if half(machine.read(function.address, control), 0) & NO_SOFT_RESET == 0 {
        power_state(machine, budget, function, control, POWER_STATE);
        power_state(machine, budget, function, control, 0);
    }
}

fn power_state(machine: &mut impl Machine, budget: &mut WaitBudget, function: &Function, control: u8, state: u16) {
    /// Cleared by writing one.
    const PME_STATUS: u16 = 1 << 15;
    let at = function.address;
    let old = half(machine.read(at, control), 0) & !(PME_STATUS | POWER_STATE);
    machine.write_part(at, control, Width::Word, (old | state).into());
    // The recovery time of transitions to and from D3hot.
    budget.wait(machine, Millis(10));
    answers(machine, budget, function);
}

/// Waits until the function answers configuration accesses again.
fn answers(machine: &mut impl Machine, budget: &mut WaitBudget, function: &Function) {
    budget.wait_until(machine, LONGEST, |machine| is_there(machine, function));
}

/// Whether the function answers configuration accesses.
pub fn is_there(machine: &mut impl ConfigSpace, function: &Function) -> bool {
    machine.read(function.address, ID) == u32::from(function.device) << 16 | u32::from(function.vendor)
}

/// A function's device registers, by BAR and offset. Registers that are not accessible read as ones.
struct Registers<'a, M> {
    machine: &'a mut M,
    budget: &'a mut WaitBudget,
    /// No waits of more than a few microseconds.
    hurried: bool,
    function: &'a Function,
    resources: &'a Resources,
    index: u8,
}

impl<M: Machine> Registers<'_, M> {
    /// The device-specific reset; returns whether the function's kind has one here.
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

    /// PCI IDE Controller Specification 1.0 and Programming Interface for Bus Master IDE Controller 1.0, section 2;
    /// ATA/ATAPI-6, section 9.2: stop both engines, then reset both channels in software.
    fn ide(&mut self) {
        /// Bus master status: interrupt and error, cleared by writing ones.
        const CLEAR: u32 = 0b110;
        const SOFT_RESET: u32 = 1 << 2;
        const BUSY: u32 = 1 << 7;
        /// Command and status of each engine in register 4; the channel's control register and where in it device
        /// control is.
        const CHANNELS: [(u16, u8); 2] = [(0, 1), (8, 3)];
        for (engine, control) in CHANNELS {
            self.port_write(4, engine, 0);
            let status = self.port_read(4, engine + 2);
            self.port_write(4, engine + 2, status | CLEAR);
            // In compatibility mode the range is the device control port alone; in native mode it is the third of four.
            let bar = self.function.bars.get(usize::from(control)).copied().flatten();
            let device_control = if bar.is_some_and(|bar| bar.size >= 4) { 2 } else { 0 };
            self.port_write(control, device_control, SOFT_RESET);
            self.moment();
            self.port_write(control, device_control, 0);
            // The device sets BSY within 400 ns.
            self.moment();
            self.until(|this| {
                let status = this.port_read(control, device_control);
                // A channel without disks floats, and reads as ones.
                status & BUSY == 0 || status == 0xff
            });
        }
    }

    /// Serial ATA AHCI 1.3, section 10.4.3.
    fn ahci(&mut self) {
        const GHC: u64 = 0x04;
        const ENABLE: u32 = 1 << 31;
        const RESET: u32 = 1 << 0;
        // Other registers, and the reset bit, may be written only while AE is set.
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

    /// PCI/PCI-X Family of Gigabit Ethernet Controllers Software Developer's Manual (317453), sections 13.4.1, 13.4.20
    /// to 13.4.33: interrupts, receiver and transmitter off, then reset. Emulated cards only clear the reset bit, so
    /// the engines have to be stopped separately.
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
        // DMA in progress completes; drivers wait as long.
        if !self.hurried {
            self.budget.wait(self.machine, Millis(10));
        }
        let control = self.load(0, CONTROL);
        self.store(0, CONTROL, control | RESET);
        self.moment();
        self.until(|this| this.load(0, CONTROL) & RESET == 0);
        self.store(0, MASK_CLEAR, u32::MAX);
        // Reading clears.
        self.load(0, CAUSES);
    }

    /// DP8390D, section 10.3: stop, no interrupts. The card does no bus-master DMA.
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

    /// Waits 5 us, too short to charge to the budget.
    fn moment(&mut self) {
        let ticks = ticks_of(self.machine, Millis(1)) / 200;
        wait(self.machine, ticks);
    }

    fn until(&mut self, mut holds: impl FnMut(&mut Registers<'_, M>) -> bool) {
        if self.hurried {
            return;
        }
        let (function, resources, index, hurried) = (self.function, self.resources, self.index, self.hurried);
        let mut budget = *self.budget;
        let held = budget.wait_until(self.machine, LONGEST, |machine| {
            let budget = &mut WaitBudget::default();
            holds(&mut Registers { machine, budget, hurried, function, resources, index })
        });
        *self.budget = budget;
        if !held && self.budget.count_timeout() {
            log::warn!("{}: the reset timed out", self.function.address);
        }
    }

    /// The slot of a port's capability, and the port.
    fn port(&self, bar: u8, offset: u16) -> Option<(u16, u16)> {
        let bar = self.function.bars.get(usize::from(bar)).copied().flatten()?;
        let port = u16::try_from(bar.base).ok()?.checked_add(offset)?;
        let whole = u64::from(offset) < bar.size;
        self.resources.port(port).filter(|_| whole).map(|range| (range.slot, port))
    }

    /// Reads a byte. UHCI's command register has 16 bits, but this file uses its low byte only.
    fn port_read(&mut self, bar: u8, offset: u16) -> u32 {
        let Some((slot, port)) = self.port(bar, offset) else { return 0xff };
        self.machine.port_in(slot, port, Width::Byte)
    }

    fn port_write(&mut self, bar: u8, offset: u16, value: u32) {
        if let Some((slot, port)) = self.port(bar, offset) {
            self.machine.port_out(slot, port, Width::Byte, value);
        }
    }

    /// The offset in the window of a register in device memory. All registers used here are in the first page.
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

/// Device IDs of common cards, 82540 to 82547 and 82571 to 82574, from table 5-1 of the manual and its successors.
const INTEL_GIGABIT: [u16; 29] = [
    0x1004, 0x1008, 0x1009, 0x100c, 0x100d, 0x100e, 0x100f, 0x1010, 0x1011, 0x1013, 0x1015, 0x1016, 0x1017, 0x1018,
    0x1019, 0x101e, 0x1026, 0x1076, 0x1077, 0x1078, 0x1079, 0x107c, 0x105e, 0x107d, 0x108b, 0x108c, 0x109a, 0x10d3,
    0x10f6,
];
