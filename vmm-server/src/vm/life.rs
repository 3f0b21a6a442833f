//! A guest's life: its start, its resets, and its end.

use core::fmt::Display;

use layout::slot;
use proto::{serial, supervisor::Notice};
use rt::Endpoint;
use vmm_server::{
    boot, control, countdown::Countdown, cpu::Cpu, debug::DebugRegisters, linux::low, native::Native, run::Cause,
    time::Present,
};
use vtx::{
    enter::Vcpu,
    start::{self, Start},
};

use super::{Vm, control_registers};

impl Vm<'_> {
    /// Puts the guest at its first instruction.
    pub(super) fn start(&mut self) {
        let entry = match boot::load(self.config, &self.files, &self.buffer, &self.guest.ram) {
            Ok(entry) => entry,
            Err(error) => self.fail(error),
        };
        let guest = &mut self.guest;
        let preemption = Countdown::FIRST;
        let flat = Start { code: low::BOOT_CS, data: low::BOOT_DS, gdt: (low::GDT, low::GDT_LIMIT), preemption };
        guest.cpu = Cpu::new(self.vcpu);
        guest.native = Native::default();
        let there = start::set(&mut guest.cpu.vmcs, &flat);
        self.deadline.use_countdown(there, self.hertz);
        guest.control = control_registers(self.hertz);
        guest.debug = DebugRegisters::new(Vcpu::DEBUG_REGISTERS);
        guest.debug.load(&mut guest.cpu.vmcs);
        let program = guest.control.program();
        if control::apply(guest, &program).is_err() {
            self.fail("the kernel refuses the control registers that a guest begins with");
        }
        guest.cpu.exit.rip = entry.into();
        guest.cpu.gprs_mut().rsi = low::ZERO_PAGE;
        self.halted = false;
    }

    pub(super) fn reset(&mut self, cause: Cause) {
        self.resets += 1;
        let name = &self.config.name;
        match cause {
            Cause::Asked => log::info!("{name}: reset by the guest"),
            Cause::RealMode => log::info!("{name}: reset, since the guest leaves protected mode"),
            Cause::TripleFault => log::warn!("{name}: reset after a triple fault at {:#x}", self.guest.cpu.exit.rip),
            Cause::Unsupported(what) => log::warn!("{name}: reset after {what}, at {:#x}", self.guest.cpu.exit.rip),
            Cause::EntryFailure(failure) => log::error!("{name}: reset, the processor refuses the guest: {failure:?}"),
            Cause::Unexpected(exit) => log::error!("{name}: reset after an exit that nothing asked for: {exit:?}"),
        }
        let row = self.allowance.take(self.clock.at(rt::tsc()));
        let crashed = !matches!(cause, Cause::Asked | Cause::RealMode);
        if crashed && matches!(row, Some(1) | None) {
            self.guest.state(Present::new(&self.clock, rt::tsc)).log();
        }
        if row.is_none() {
            self.fail(format_args!("stopped: it was reset more than {} times in a row", self.config.resets));
        }
        self.drain();
        self.devices.stop();
        self.guest.machine.reset();
        self.devices.restart(&mut self.guest.machine.pic);
        self.start();
        self.tell(Notice::Rebooted { count: self.resets });
    }

    pub(super) fn power_off(&mut self) {
        self.devices.release();
        self.drain();
        log::info!("{} has powered off", self.config.name);
        self.tally.log();
        let (lines, accesses) = (&self.devices.lines, self.guest.machine.passthrough.accesses);
        if lines.interrupts > 0 || accesses > 0 {
            log::info!(
                "{} interrupts of devices ({} throttled), {accesses} accesses by pci-server",
                lines.interrupts,
                lines.throttled
            );
        }
        self.rest(Notice::PoweredOff)
    }

    /// The guest does not run and will not: whoever waits for it on the machine's outside is to hear why.
    pub(super) fn fail(&mut self, reason: impl Display) -> ! {
        self.devices.release();
        self.drain();
        log::error!("{}: {reason}", self.config.name);
        self.rest(Notice::failed(reason))
    }

    /// Waits until what the guest has printed is with serial-server.
    fn drain(&mut self) {
        self.console.exchange(&mut self.guest.machine.uart);
        while !self.console.is_sent(&self.guest.machine.uart) {
            let bits = rt::wait();
            self.on_signal(bits);
            self.console.exchange(&mut self.guest.machine.uart);
        }
    }

    /// Parks the thread. root-task gets the last notice when the last line of the log is out, since it may stop the machine
    /// then.
    fn rest(&mut self, last: Notice) -> ! {
        /// Seconds that serial-server has for that, whatever it answers: the guest's end does not depend on it.
        const PATIENCE: u64 = 30;
        let serial = serial::Client(Endpoint::at(slot::SERIAL));
        let end = rt::tsc().saturating_add(PATIENCE * self.hertz);
        while serial.flush().is_ok_and(|pending| pending > 0) && rt::tsc() < end {
            let tsc = rt::tsc();
            self.deadline.on_alarm();
            let alarm = self.deadline.alarm_by(self.clock.at(tsc), &self.clock, tsc);
            self.arm(alarm);
            rt::wait();
        }
        self.tell(last);
        loop {
            rt::wait();
        }
    }

    fn tell(&self, notice: Notice) {
        if let Err(error) = self.supervisor.notify(notice) {
            log::error!("root-task: {error:?}");
        }
    }
}
