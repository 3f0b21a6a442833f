//! The loop: enter the guest, answer what it exited for, see to timers, console and interrupts, enter again. An exit that
//! changes no register costs one system call, the next VMEnter; one that does costs two. A halted guest costs none: the
//! thread waits for a signal. Exits that nothing follows from are answered in a loop of their own.
//!
//! While the guest runs, its next deadline is the VMX-preemption timer's; timer-server has it while the guest halts.

use layout::{
    config::{Vmm, Window},
    event, slot, window,
};
use mmio::SharedBuffer;
use proto::{file, supervisor, timer};
use rt::Endpoint;
use vmm_server::{
    cpu::Cpu,
    cpuid::Leaves,
    deadline::Deadline,
    debug::DebugRegisters,
    linux::low,
    machine::Machine,
    native::Native,
    plain::Moves,
    ram::Ram,
    resets::Resets,
    run::{Guest, Next},
    time::{Clock, Present},
};
use vtx::{
    cpuid, cr,
    enter::{Vcpu, Wake},
    exit::{Exit, reason},
    vmcs::{Vmcs, VmcsField},
    words::Words,
};

use crate::{backend::Console, handover::Devices, tally::Tally};

mod life;

/// Why the guest stopped running.
enum Stop {
    /// A signal with these bits.
    Signal(u64),
    /// The preemption timer.
    Expiry,
    /// Another exit.
    Exit,
}

impl Stop {
    #[inline(always)]
    const fn of(reason: u32) -> Self {
        if reason == reason::PREEMPTION_TIMER { Self::Expiry } else { Self::Exit }
    }
}

/// A guest and what serves it.
struct Vm<'a> {
    config: &'a Vmm,
    vcpu: Vcpu,
    guest: Guest<Vcpu>,
    halted: bool,
    clock: Clock,
    hertz: u64,
    deadline: Deadline,
    time: timer::Client<Endpoint>,
    devices: Devices,
    console: Console,
    files: file::Client<Endpoint>,
    buffer: SharedBuffer,
    supervisor: supervisor::Client<Endpoint>,
    tally: Tally,
    resets: u32,
    allowance: Resets,
}

/// Runs the guest of `config` until it switches itself off, and then rests.
pub fn run(config: &Vmm) -> ! {
    let time = timer::Client(Endpoint::at(slot::TIMER));
    let hertz = match time.frequency() {
        Ok(hertz) => hertz,
        Err(error) => panic!("timer-server: {error:?}"),
    };
    // A board whose clock has lost its battery runs guests all the same.
    let date = time.wall_clock().unwrap_or_else(|error| {
        log::warn!("{}: no date ({error:?}), so it begins in 1970", config.name);
        timer::WallClock { unix: 0, at: rt::tsc() }
    });
    let vcpu = Vcpu::new(slot::VCPU.cptr());
    for ports in &config.direct_ports {
        if let Err(error) = vcpu.allow_ports(ports.slot.cptr(), ports.first, ports.last) {
            log::error!("{}: ports {:#x} to {:#x}: {error:?}", config.name, ports.first, ports.last);
        }
    }
    let mut machine = Machine::new(config.ram, date.unix);
    let (devices, forwarded) = Devices::take(config, vcpu, &mut machine.pic);
    machine.plug(forwarded);
    let mut vm = Vm {
        config,
        vcpu,
        guest: Guest {
            cpu: Cpu::new(vcpu),
            machine,
            ram: ram(config),
            control: control_registers(hertz),
            cpuid: Leaves::new(hertz),
            debug: DebugRegisters::new(Vcpu::DEBUG_REGISTERS),
            moves: Moves::new(),
            native: Native::default(),
        },
        halted: false,
        clock: Clock::new(date.at, hertz),
        hertz,
        deadline: Deadline::new(hertz),
        time,
        devices,
        console: Console::new(config),
        files: file::Client(Endpoint::at(slot::FILE)),
        buffer: SharedBuffer::new(rt::shared(config.files)),
        supervisor: supervisor::Client(Endpoint::at(slot::SUPERVISOR)),
        tally: Tally::new(),
        resets: 0,
        allowance: Resets::new(config.resets),
    };
    vm.start();
    log::info!("{}: {} MiB of memory, entering the guest at TSC {}", config.name, config.ram >> 20, rt::tsc());
    vm.serve()
}

/// The guest's memory, where root-task has mapped it.
fn ram(config: &Vmm) -> Ram {
    /// One large page: low memory, and the loader's own page directory.
    const LOW: u64 = 2 << 20;
    let main = rt::shared(Window { at: window::GUEST_RAM + config.ram_at, len: config.ram });
    match config.ram_at {
        0 => Ram::flat(main),
        at => Ram::split(rt::shared(Window { at: window::GUEST_RAM, len: LOW }), main, at),
    }
}

/// The control registers that a guest begins with.
fn control_registers(hertz: u64) -> cr::ControlRegisters {
    let features = Leaves::new(hertz).leaf(7, 0);
    cr::ControlRegisters::new(low::PAGE_DIRECTORY, cpuid::cr4_by_cpuid(features))
}

impl Vm<'_> {
    fn serve(&mut self) -> ! {
        // After an access that disturbed nothing, everything is still settled.
        let mut settled = false;
        loop {
            if !settled {
                self.settle();
                if self.halted {
                    let bits = rt::wait();
                    self.on_signal(bits);
                    continue;
                }
            }
            settled = false;
            match self.enter() {
                Stop::Signal(bits) => self.on_signal(bits),
                Stop::Expiry => self.on_expiry(),
                Stop::Exit => {
                    let exit = Exit::decode(&self.guest.cpu.exit);
                    let next = self.guest.answer(exit, Present::new(&self.clock, rt::tsc));
                    settled = next == Next::Skip && !self.guest.machine.take_disturbed();
                    self.follow(next);
                }
            }
        }
    }

    /// Runs the guest until a signal comes, or an exit, which is in `Cpu` then. Nobody hears of those that can be answered on
    /// the spot.
    #[inline(always)]
    fn enter(&mut self) -> Stop {
        /// Every so many exits of a kind, the clock is looked at.
        const LOOKS: u64 = 8;
        let cpu = &mut self.guest.cpu;
        if cpu.take_registers_changed() {
            self.vcpu.set_registers(&cpu.exit.gprs);
        }
        let (mut rip, mut inject) = (cpu.exit.rip, cpu.inject);
        loop {
            let guest = &mut self.guest;
            let mut exit = match self.vcpu.enter(rip, guest.cpu.primary, inject) {
                Wake::Exit(exit) => exit,
                Wake::Signal { bits, rip, inject } => {
                    guest.cpu.interrupted(rip, inject);
                    return Stop::Signal(bits);
                }
            };
            // A guest that exits again and again stands still for most of the time, and so does the preemption timer.
            if self.tally.exit(exit.reason()).is_multiple_of(LOOKS) && self.deadline.passed(rt::tsc()) {
                let stop = Stop::of(exit.reason());
                guest.cpu.exited(exit.load());
                self.advance(rt::tsc());
                return stop;
            }
            let present = Present::new(&self.clock, rt::tsc);
            let next = if let Some(next) = guest.at_once(&mut exit, present) {
                next
            } else if let Some(next) = guest.deadline_at_once(&exit, present) {
                self.set_deadline(rt::tsc());
                next
            } else {
                let stop = Stop::of(exit.reason());
                guest.cpu.exited(exit.load());
                return stop;
            };
            (rip, inject) = (next, 0);
        }
    }

    /// The guest has set its deadline: it does so every tick.
    fn set_deadline(&mut self, tsc: u64) {
        self.deadline.set(self.guest.machine.next_tsc(&self.clock, tsc), tsc);
        self.move_deadline();
    }

    /// The preemption timer has ended the guest's run.
    #[inline(never)]
    fn on_expiry(&mut self) {
        let tsc = rt::tsc();
        self.deadline.on_expiry(tsc);
        if self.deadline.passed(tsc) {
            self.advance(tsc);
        }
    }

    /// Takes into account that time has passed.
    #[inline(never)]
    fn advance(&mut self, tsc: u64) {
        let now = self.clock.at(tsc);
        self.guest.machine.advance(now, tsc);
        self.devices.advance(now);
        if self.deadline.passed(tsc) {
            self.deadline.done(self.halted);
        }
    }

    fn on_signal(&mut self, bits: u64) {
        self.tally.signal();
        let (tsc, alarm) = (rt::tsc(), bits & event::TIMER != 0);
        if alarm {
            self.deadline.on_alarm();
        }
        if alarm || self.deadline.passed(tsc) {
            self.advance(tsc);
        }
        let lines = (bits / event::line(0)) as u16;
        if lines != 0 {
            self.devices.on_interrupt(lines, self.clock.at(tsc), &mut self.guest.machine.pic);
            self.guest.machine.watch_pic(self.devices.lines.in_flight());
        }
        self.arm_for_lines();
        if bits & event::CONSOLE != 0 {
            self.console.on_signal();
        }
    }

    /// A line that is throttled has its end of the millisecond to come.
    fn arm_for_lines(&mut self) {
        if let Some(next) = self.devices.lines.next_event() {
            let alarm = self.deadline.alarm_by(next, &self.clock, rt::tsc());
            self.arm(alarm);
        }
    }

    /// Has timer-server signal at a TSC value, if there is one.
    fn arm(&self, alarm: Option<u64>) {
        if let Some(at) = alarm
            && let Err(error) = self.time.arm(at)
        {
            log::error!("timer-server: {error:?}");
        }
    }

    fn follow(&mut self, next: Next) {
        // First what most exits come to.
        if next == Next::Skip {
            return self.guest.cpu.skip();
        }
        self.guest.cpu.follow(next);
        match next {
            Next::Skip | Next::Retry | Next::Raise(_) => {}
            // A trap that is pending ends the halt at once (SDM volume 3, "Interruptibility State").
            Next::Halt => self.halted = !self.guest.cpu.has_trap(),
            Next::Reset(cause) => self.reset(cause),
            Next::PowerOff => self.power_off(),
        }
    }

    /// What is due before the next entry: console bytes, an interrupt, the next deadline.
    fn settle(&mut self) {
        if self.devices.lines.in_flight() {
            self.devices.settle(&mut self.guest.machine.pic);
            self.guest.machine.watch_pic(self.devices.lines.in_flight());
            self.arm_for_lines();
        }
        if self.guest.machine.passthrough.has_moved() {
            self.devices.follow(&mut self.guest.machine.passthrough);
        }
        let machine = &mut self.guest.machine;
        let more = machine.take_at_uart();
        if self.console.is_due(&machine.uart, more) {
            self.console.exchange(&mut machine.uart);
            machine.uart_changed();
        }
        if machine.timers_changed() {
            let tsc = rt::tsc();
            self.deadline.set(machine.next_tsc(&self.clock, tsc), tsc);
        }
        if self.guest.interrupt() {
            self.halted = false;
        }
        self.keep_deadline();
    }

    /// Sees to it that the guest's next deadline is not missed, running or halted.
    #[inline]
    fn keep_deadline(&mut self) {
        if self.halted {
            let alarm = self.deadline.halt();
            self.arm(alarm);
        } else if self.deadline.changed() {
            self.move_deadline();
        }
    }

    #[inline(never)]
    fn move_deadline(&mut self) {
        let orders = self.deadline.run(rt::tsc());
        if let Some(count) = orders.count {
            self.vcpu.write(VmcsField::PreemptionTimer, count.into());
        }
        self.arm(orders.alarm);
    }
}
