//! The PCI function of a virtio device: status, features, queues and interrupts, behind the legacy and the modern interface.
//!
//! VIRTIO 1.2, sections 2.1 (status), 2.2 (features), 3.1 (initialization) and 4.1. Both interfaces show the same state, so a
//! driver that mixes them gets what it asks for: queues have the layout of the interface that set them up.

mod common;
mod layout;
mod legacy;
mod window;

use super::{Broken, Device, Features, MAX_QUEUES, Requests, Served, chain::Chain, queue::Queue, request::Progress};
use crate::{
    Effect, GuestMemory, Width,
    pci::{
        Command, ConfigError, ConfigSpace, Function,
        msix::{Message, Msix},
    },
};
use bitflags::bitflags;
use heapless::Vec;
use layout::{LEGACY_BAR, MODERN_BAR, MSIX_BAR, Part};

/// No vector of the table: no message is sent.
const NO_VECTOR: u16 = 0xffff;

bitflags! {
    /// The device status.
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    struct Status: u8 {
        const ACKNOWLEDGE = 1;
        const DRIVER = 2;
        const DRIVER_OK = 4;
        const FEATURES_OK = 8;
        const NEEDS_RESET = 64;
        const FAILED = 128;
    }

    /// The interrupt status: why the pin is high.
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    struct Isr: u8 {
        /// A queue has used buffers.
        const QUEUE = 1;
        /// The device's configuration or status has changed.
        const CONFIG = 2;
    }
}

/// A queue that the driver has broken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fault {
    /// The queue's number.
    pub queue: u16,
    /// What the driver did.
    pub broken: Broken,
}

/// A virtio device as a function of a PCI bus.
#[derive(Clone, Debug)]
// Configuration space first: an enum of functions has it at one offset then, and finds it without a branch.
#[repr(C)]
pub struct Virtio<D> {
    config: ConfigSpace,
    /// Offset of the capability that is a window to the BARs.
    window: u8,
    device: D,
    status: Status,
    isr: Isr,
    /// What the driver has accepted so far.
    accepted: Features,
    /// Which half of the feature bits the registers show.
    device_half: u32,
    driver_half: u32,
    queue_select: u16,
    queues: Vec<Queue, MAX_QUEUES>,
    /// The table of interrupt messages, and which of its vectors are those of the queues and of the configuration.
    msix: Msix,
    vectors: [u16; MAX_QUEUES],
    config_vector: u16,
    /// Counts changes of the device's configuration.
    generation: u8,
    fault: Option<Fault>,
}

impl<D: Device> Virtio<D> {
    /// A function for `device` whose pin INTA# firmware has routed to input `line` of the interrupt controller.
    ///
    /// # Errors
    /// A device type whose configuration fits no BAR: a mistake in its [`Device`] implementation.
    pub fn new(device: D, line: u8) -> Result<Self, ConfigError> {
        let (config, window, msix) = layout::config_space::<D>(line)?;
        Ok(Self {
            config,
            window,
            device,
            status: Status::empty(),
            isr: Isr::empty(),
            accepted: Features::empty(),
            device_half: 0,
            driver_half: 0,
            queue_select: 0,
            queues: D::QUEUES.iter().take(MAX_QUEUES).map(|&max| Queue::new(max)).collect(),
            msix,
            vectors: [NO_VECTOR; MAX_QUEUES],
            config_vector: NO_VECTOR,
            generation: 0,
            fault: None,
        })
    }

    /// The device, for its back end.
    pub const fn device(&mut self) -> &mut D {
        &mut self.device
    }

    /// Serves the pending requests of all queues. Call it when the back end has something new, or after
    /// [`Effect::OUTPUT`]. Then tell the back end about what the device has passed to it.
    pub fn poll(&mut self, memory: &impl GuestMemory) -> Effect {
        let before = self.irq();
        let effect = (0..self.queues.len()).fold(Effect::QUIET, |effect, queue| effect | self.serve(queue, memory));
        self.settle(before, effect)
    }

    /// The device's configuration has changed: a driver that is ready gets an interrupt for it.
    pub fn config_changed(&mut self) -> Effect {
        let before = self.irq();
        self.generation = self.generation.wrapping_add(1);
        if self.status.contains(Status::DRIVER_OK) {
            self.signal_config();
        }
        self.settle(before, Effect::QUIET)
    }

    /// Takes the last violation that made the device need a reset, if there is a new one. The guest may cause any
    /// number of them, so the caller limits what it logs.
    pub const fn take_fault(&mut self) -> Option<Fault> {
        self.fault.take()
    }

    fn offered(&self) -> Features {
        self.device.features() | Features::TRANSPORT
    }

    /// Takes half of the features that the driver accepts. Those that were not offered stay off.
    fn accept(&mut self, half: u32, bits: u32) {
        // FEATURES_OK fixes the features. A legacy driver has no such step: DRIVER_OK fixes them.
        if self.status.intersects(Status::FEATURES_OK | Status::DRIVER_OK) || half > 1 {
            return;
        }
        let shift = 32 * half;
        let kept = self.accepted.bits() & !(u64::from(u32::MAX) << shift);
        self.accepted = Features::from_bits_retain(kept | u64::from(bits) << shift);
    }

    /// Takes the driver's write to the device status.
    fn set_status(&mut self, written: u8, memory: &impl GuestMemory) -> Effect {
        let written = Status::from_bits_truncate(written) - Status::NEEDS_RESET;
        if written.is_empty() {
            self.reset_device();
            return Effect::QUIET;
        }
        let new = written - self.status;
        // The driver clears bits by a reset only (2.1.1).
        self.status |= new - Status::FEATURES_OK;
        let valid = self.offered().contains(self.accepted) && self.accepted.contains(Features::VERSION_1);
        if new.contains(Status::FEATURES_OK) && valid {
            self.status |= Status::FEATURES_OK;
        }
        self.hand_features();
        if !new.contains(Status::DRIVER_OK) {
            return Effect::QUIET;
        }
        // Requests that the driver has queued before DRIVER_OK are served now.
        (0..self.queues.len()).fold(Effect::QUIET, |effect, queue| effect | self.serve(queue, memory))
    }

    /// Passes the accepted features to the queues: a legacy driver may accept features after it has set up queues.
    fn hand_features(&mut self) {
        let features = self.accepted & self.offered();
        for queue in &mut self.queues {
            queue.accept(features);
        }
        self.device.accept(features);
    }

    fn reset_device(&mut self) {
        self.status = Status::empty();
        self.isr = Isr::empty();
        self.accepted = Features::empty();
        (self.device_half, self.driver_half, self.queue_select) = (0, 0, 0);
        (self.vectors, self.config_vector) = ([NO_VECTOR; MAX_QUEUES], NO_VECTOR);
        self.msix.forget();
        for queue in &mut self.queues {
            queue.reset();
        }
        self.device.reset();
    }

    /// The queue that the driver has selected.
    fn selected(&mut self) -> Option<&mut Queue> {
        self.queues.get_mut(usize::from(self.queue_select))
    }

    /// Carries out `enable` for the selected queue.
    fn enable(&mut self, enable: impl FnOnce(&mut Queue) -> Result<(), Broken>) -> Effect {
        let number = self.queue_select;
        match self.selected().map(enable) {
            Some(Err(broken)) => self.break_down(number, broken),
            Some(Ok(())) | None => Effect::QUIET,
        }
    }

    /// Whether the device may use this queue now.
    fn runs(&self, queue: &Queue) -> bool {
        // A legacy driver may use its queues before it says that it is ready (3.1.2).
        let ready = self.status.contains(Status::DRIVER_OK) || queue.is_legacy();
        let stopped = self.status.intersects(Status::NEEDS_RESET | Status::FAILED);
        queue.is_enabled() && ready && !stopped && self.config.command().contains(Command::BUS_MASTER)
    }

    /// Serves the pending requests of one queue.
    fn serve(&mut self, number: usize, memory: &impl GuestMemory) -> Effect {
        if !self.queues.get(number).is_some_and(|queue| self.runs(queue)) {
            return Effect::QUIET;
        }
        self.turn(number, memory).unwrap_or_else(|broken| self.break_down(number as u16, broken))
    }

    fn turn(&mut self, number: usize, memory: &impl GuestMemory) -> Result<Effect, Broken> {
        let Some(queue) = self.queues.get_mut(number) else { return Ok(Effect::QUIET) };
        let mut chain = Chain::default();
        let progress = Progress::default();
        let mut requests = Requests { left: queue.size, queue, chain: &mut chain, memory, progress };
        let effect = loop {
            let before = requests.left;
            let served = self.device.serve(number, &mut requests)?;
            if served == Served::Held {
                // Nothing that the driver adds could be served now, so it need not notify.
                break Effect::QUIET;
            }
            requests.queue.arm(memory)?;
            let waiting = requests.queue.waiting(memory)?;
            match served {
                Served::All if waiting == 0 => break Effect::QUIET,
                Served::All if requests.left > 0 && requests.left < before => {}
                _ => break Effect::OUTPUT,
            }
        };
        if requests.queue.wants_interrupt(memory)? {
            let vector = self.vectors.get(number).copied().unwrap_or(NO_VECTOR);
            self.signal(Isr::QUEUE, vector);
        }
        Ok(effect)
    }

    /// Forgets the queues of a driver that has switched bus mastering off while it used them. Linux's kexec does so and does not
    /// reset the device; the next kernel switches it on before it does, and the old queues are in that kernel's memory.
    fn abandon(&mut self) {
        // A legacy driver may use queues before it says that it is ready.
        let early = self.queues.iter().any(|queue| queue.is_enabled() && queue.is_legacy());
        if self.status.contains(Status::DRIVER_OK) || early {
            self.status -= Status::DRIVER_OK;
            for queue in &mut self.queues {
                queue.reset();
            }
        }
    }

    /// Stops the device after a violation by the driver, until the driver resets it (2.1.2).
    fn break_down(&mut self, queue: u16, broken: Broken) -> Effect {
        self.status |= Status::NEEDS_RESET;
        self.fault = Some(Fault { queue, broken });
        if self.status.contains(Status::DRIVER_OK) {
            self.signal_config();
        }
        // OUTPUT has the owner poll the device, so that it can log the fault.
        Effect::OUTPUT
    }

    /// Raises an interrupt: a message, if the driver has switched these on, or else the pin.
    fn signal(&mut self, why: Isr, vector: u16) {
        if self.msix.is_on(&self.config) {
            self.msix.raise(vector);
        } else {
            self.isr |= why;
        }
    }

    fn signal_config(&mut self) {
        self.signal(Isr::CONFIG, self.config_vector);
    }

    /// A vector as the driver may set it; it reads back which one it has got (4.1.5.1.2).
    fn vector(&self, wanted: u16) -> u16 {
        if wanted < self.msix.vectors() { wanted } else { NO_VECTOR }
    }

    /// The vector of the selected queue.
    fn selected_vector(&self) -> u16 {
        let selected = usize::from(self.queue_select);
        let vector = self.vectors.get(selected).filter(|_| selected < self.queues.len());
        vector.copied().unwrap_or(NO_VECTOR)
    }

    fn set_selected_vector(&mut self, wanted: u16) {
        let vector = self.vector(wanted);
        if let Some(of_queue) = self.vectors.get_mut(usize::from(self.queue_select)) {
            *of_queue = vector;
        }
    }

    /// The effects of an access by the driver: [`settle`](Self::settle), and the back end's turn if it got something.
    fn settle_access(&mut self, before: bool, effect: Effect) -> Effect {
        self.settle(before, effect) | Effect::OUTPUT.when(self.device.has_output())
    }

    /// Updates the pin after an access; `before` was its level before.
    fn settle(&mut self, before: bool, effect: Effect) -> Effect {
        self.config.set_interrupt(!self.isr.is_empty() && !self.msix.is_on(&self.config));
        let messages = Effect::MESSAGES.when(self.msix.settle(&self.config));
        effect | messages | Effect::LINES.when(before != self.irq())
    }

    /// Reading the interrupt status clears it, and with it the pin.
    fn take_isr(&mut self) -> u8 {
        core::mem::take(&mut self.isr).bits()
    }

    fn read_bar(&mut self, bar: u8, offset: u64, width: Width) -> u64 {
        if self.config.bar(bar.into()).is_none() {
            return width.mask();
        }
        match bar {
            LEGACY_BAR => self.read_legacy(offset, width),
            MSIX_BAR => self.msix.read(offset, width),
            MODERN_BAR => match Part::at(offset, width) {
                Some((Part::Common, at)) => self.read_common(at, width),
                Some((Part::Isr, 0)) => self.take_isr().into(),
                Some((Part::Device, at)) => self.read_device_config(at, width),
                Some((Part::Isr | Part::Notify, _)) => 0,
                None => width.mask(),
            },
            _ => width.mask(),
        }
    }

    fn write_bar(&mut self, bar: u8, offset: u64, width: Width, value: u64, memory: &impl GuestMemory) -> Effect {
        if self.config.bar(bar.into()).is_none() {
            return Effect::QUIET;
        }
        match bar {
            LEGACY_BAR => self.write_legacy(offset, width, value, memory),
            MSIX_BAR => {
                self.msix.write(offset, width, value);
                Effect::QUIET
            }
            MODERN_BAR => match Part::at(offset, width) {
                Some((Part::Common, at)) => self.write_common(at, width, value, memory),
                Some((Part::Device, at)) => {
                    self.write_device_config(at, width, value);
                    Effect::QUIET
                }
                Some((Part::Notify, at)) => self.serve(layout::notified(at), memory),
                Some((Part::Isr, _)) | None => Effect::QUIET,
            },
            _ => Effect::QUIET,
        }
    }

    fn read_device_config(&self, at: u16, width: Width) -> u64 {
        let byte = |n: u64| {
            let at = at.saturating_add(n as u16);
            if at < D::CONFIG { self.device.read_config(at) } else { 0 }
        };
        (0..width.bytes() as u64).fold(0, |value, n| value | u64::from(byte(n)) << (8 * n))
    }

    fn write_device_config(&mut self, at: u16, width: Width, value: u64) {
        for (at, byte) in (at..D::CONFIG).zip(value.to_le_bytes()).take(width.bytes()) {
            self.device.write_config(at, byte);
        }
    }
}

impl<D: Device> Function for Virtio<D> {
    fn config(&self) -> &ConfigSpace {
        &self.config
    }

    fn read_config(&mut self, register: u8, width: Width, _memory: &impl GuestMemory) -> (u32, Effect) {
        let before = self.irq();
        if self.is_window(register) {
            self.look_through();
        }
        (self.config.read(register, width), self.settle(before, Effect::QUIET))
    }

    fn write_config(&mut self, register: u8, width: Width, value: u32, memory: &impl GuestMemory) -> Effect {
        let before = (self.irq(), self.config.command().contains(Command::BUS_MASTER));
        let mut effect = self.config.write(register, width, value);
        if before.1 && !self.config.command().contains(Command::BUS_MASTER) {
            self.abandon();
        }
        if self.is_window(register) {
            effect |= self.reach_through(memory);
        }
        if !before.1 && self.config.command().contains(Command::BUS_MASTER) {
            effect |= self.poll(memory);
        }
        self.settle_access(before.0, effect)
    }

    fn read(&mut self, bar: u8, offset: u64, width: Width, _memory: &impl GuestMemory) -> (u64, Effect) {
        let before = self.irq();
        let value = self.read_bar(bar, offset, width);
        (value & width.mask(), self.settle(before, Effect::QUIET))
    }

    fn write(&mut self, bar: u8, offset: u64, width: Width, value: u64, memory: &impl GuestMemory) -> Effect {
        let before = self.irq();
        let effect = self.write_bar(bar, offset, width, value & width.mask(), memory);
        self.settle_access(before, effect)
    }

    fn take_message(&mut self) -> Option<Message> {
        self.msix.take()
    }

    fn reset(&mut self) {
        self.reset_device();
        self.msix.reset();
        self.config.reset();
        self.fault = None;
    }
}
