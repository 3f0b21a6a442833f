//! The guest's lifecycle: start, reset, power off, failure.

use core::fmt::Display;

use arch::Mode;
use devices::Effect;
use proto::{lifecycle::State, serial, supervisor::Notice};
use rt::Endpoint;
use vmm_server::{
    answer::{Cause, Next},
    boot,
    guest::Guest,
    linux::{Protocol, low},
    time::Present,
    vcpu::BOOTSTRAP,
};

use super::{Process, arm, first_entry};

impl Process<'_> {
    /// Loads the guest's image, and sets its vCPUs to their state at the first instruction.
    pub(super) fn start(&mut self) {
        // Before the image is there: on a kernel that does not flush, this entry may run code of the last life.
        for n in 0..self.vcpus.len() {
            match first_entry::run(&mut self.vm, &mut self.vcpus[n], self.hertz) {
                Ok(0) => {}
                Ok(signals) => {
                    // Timers and lines are settled before the next entry in any case.
                    let _ = self.on_signal(n, signals);
                }
                Err(refused) => self.fail(refused),
            }
        }
        let entry = match boot::load(self.config, first_entry::PROCESSOR, &self.files, &self.buffer, &self.vm) {
            Ok(entry) => entry,
            Err(error) => self.fail(error),
        };
        for cpu in &mut self.vcpus {
            if entry.mode == Mode::Bits64 {
                first_entry::make_long(&mut self.vm, cpu);
            }
            cpu.exit.rip = entry.at;
            match entry.protocol {
                Protocol::Linux => cpu.gprs_mut().rsi = low::ZERO_PAGE,
                Protocol::Pvh => cpu.gprs_mut().rbx = low::ZERO_PAGE,
            }
            // Application processors wait until the bootstrap processor starts them.
            cpu.halted = cpu.number != BOOTSTRAP;
        }
    }

    #[cold]
    #[inline(never)]
    pub(super) fn reset(&mut self, n: usize, cause: Cause) -> Effect {
        self.resets += 1;
        let name = &self.config.name;
        match cause {
            Cause::Asked => log::info!("{name}: reset by the guest"),
            Cause::RealMode => log::info!("{name}: reset, since the guest leaves protected mode"),
            Cause::TripleFault => log::warn!("{name}: reset after a triple fault at {:#x}", self.vcpus[n].exit.rip),
            Cause::Unsupported(what) => log::warn!("{name}: reset after {what}, at {:#x}", self.vcpus[n].exit.rip),
            Cause::EntryFailure(failure) => log::error!("{name}: reset, the processor refuses the guest: {failure:?}"),
            Cause::Unexpected(exit) => log::error!("{name}: reset after an exit that nothing asked for: {exit:?}"),
        }
        let row = self.allowance.take(self.clock.at(rt::tsc()));
        let crashed = !matches!(cause, Cause::Asked | Cause::RealMode);
        if crashed && matches!(row, Some(1) | None) {
            Guest::new(&mut self.vm, &mut self.vcpus[n]).state(Present::new(&self.clock, rt::tsc)).log();
        }
        if row.is_none() {
            self.fail(format_args!("stopped: it was reset more than {} times in a row", self.config.resets));
        }
        // In this order: the UART's output is sent before the board drops it; DMA stops before the kernel is loaded.
        self.drain();
        self.devices.stop();
        let effect = self.begin_anew();
        self.tell(Notice::Rebooted { count: self.resets });
        effect
    }

    /// Boots the guest from its images. Its devices were stopped.
    pub(super) fn begin_anew(&mut self) -> Effect {
        let effect = self.vm.board.reset();
        self.devices.restart(&mut self.vm.board);
        self.start();
        self.managers.show(State::Running);
        effect
    }

    /// The guest has powered off. Without a manager, that is for good.
    #[cold]
    #[inline(never)]
    pub(super) fn power_off(&mut self, n: usize) -> Effect {
        let is_managed = self.managers.any();
        if is_managed {
            self.devices.stop();
        } else {
            self.devices.release();
        }
        self.drain();
        // Before the log has it: who reads that may start it.
        self.managers.show(State::Off);
        log::info!("{} has powered off", self.config.name);
        self.tally.log();
        let (lines, accesses) = (&self.vm.board.lines, self.vm.board.passthrough.accesses);
        if lines.interrupts > 0 || accesses > 0 {
            log::info!(
                "{} interrupts of devices ({} throttled), {accesses} accesses by pci-server",
                lines.interrupts,
                lines.throttled
            );
        }
        if !is_managed {
            self.rest(Notice::PoweredOff);
        }
        self.announce(Notice::PoweredOff);
        // A request may have come meanwhile.
        self.managers.on_signal();
        self.manage(n)
    }

    /// Stops a guest that cannot run: logs the reason and sends it to root-task, so that a user or test on the serial
    /// line sees it.
    pub(super) fn fail(&mut self, reason: impl Display) -> ! {
        self.devices.release();
        self.drain();
        log::error!("{}: {reason}", self.config.name);
        self.managers.show(State::Failed);
        self.rest(Notice::failed(reason))
    }

    /// Waits until serial-server has all output of the guest's serial port, or a manager asks for something: then the
    /// output ends with what the ring has room for.
    fn drain(&mut self) {
        self.console.exchange(&mut self.vm.board.uart);
        while !self.console.is_sent(&self.vm.board.uart) && !self.managers.has_news() {
            // Other signals come meanwhile, and once only. What a line's or the alarm's asks for is seen to after a reset.
            let _ = self.on_signal(BOOTSTRAP.into(), rt::wait());
            self.console.exchange(&mut self.vm.board.uart);
        }
    }

    /// Notifies root-task and parks the thread. Managers are told that nothing can be done any more.
    fn rest(&mut self, last: Notice) -> ! {
        self.announce(last);
        loop {
            self.managers.turn_down();
            rt::wait();
        }
    }

    /// Tells root-task that the guest has ended. The notice waits until serial-server has sent the last line of the log,
    /// since root-task may stop the machine then; but no manager waits for that.
    fn announce(&mut self, last: Notice) {
        /// Seconds that serial-server has for that. After them the notice goes out anyway: a stuck serial-server must
        /// not keep the guest's end from root-task.
        const PATIENCE: u64 = 30;
        self.quieten();
        let serial = serial::Client(Endpoint::at(serial::SERVICE.slot));
        let end = rt::tsc().saturating_add(PATIENCE * self.hertz);
        while serial.flush().is_ok_and(|pending| pending > 0) && rt::tsc() < end && !self.managers.has_news() {
            let tsc = rt::tsc();
            let deadline = &mut self.vcpus[usize::from(BOOTSTRAP)].deadline;
            deadline.on_alarm();
            let alarm = deadline.alarm_by(self.clock.at(tsc), &self.clock, tsc);
            arm(&self.time, alarm);
            // All of them, as ever: the guest may be started again, and an alarm that is over must not count as set then.
            let _ = self.on_signal(BOOTSTRAP.into(), rt::wait());
        }
        self.tell(last);
    }

    /// The devices' back ends, and whoever is behind them, learn that the guest is no more.
    pub(super) fn quieten(&mut self) {
        let _ = self.vm.board.reset();
        let _ = self.vm.board.serve_functions();
    }

    pub(super) fn tell(&self, notice: Notice) {
        if let Err(error) = self.supervisor.notify(notice) {
            log::error!("root-task: {error:?}");
        }
    }
}
