//! The loop: enter the guest, answer what it exited for, see to timers, console and interrupts, enter again. An exit that
//! changes no register costs one system call, the next VMEnter; one that does costs two. A halted guest costs none: the
//! thread waits for a signal. Accesses to ports that nothing follows from are answered in a loop of their own.

use devices::Nanos;
use layout::{
    config::{Vmm, Window},
    event, slot, window,
};
use mmio::SharedBuffer;
use proto::{
    file, serial,
    supervisor::{self, Notice},
    timer,
};
use rt::Endpoint;
use vmm_server::{
    boot, control,
    cpu::Cpu,
    cpuid::Leaves,
    linux::low,
    machine::{AtOnce, Machine},
    ram::Ram,
    run::{Cause, DEBUG_RESET, Guest, Next},
    time::{Clock, Present},
};
use vtx::{
    cpuid, cr,
    enter::{Vcpu, Wake},
    event::Event,
    exit::Exit,
    start::{self, Start},
};

use crate::{
    backend::{Console, Deadline},
    handover::Devices,
    tally::Tally,
};

/// A guest and what serves it.
struct Vm<'a> {
    config: &'a Vmm,
    vcpu: Vcpu,
    guest: Guest<Vcpu>,
    halted: bool,
    clock: Clock,
    hertz: u64,
    deadline: Deadline,
    devices: Devices,
    console: Console,
    files: file::Client<Endpoint>,
    buffer: SharedBuffer,
    supervisor: supervisor::Client<Endpoint>,
    tally: Tally,
    resets: u32,
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
            debug: DEBUG_RESET,
        },
        halted: false,
        clock: Clock::new(date.at, hertz),
        hertz,
        deadline: Deadline::new(time, hertz),
        devices,
        console: Console::new(config),
        files: file::Client(Endpoint::at(slot::FILE)),
        buffer: SharedBuffer::new(rt::shared(config.files)),
        supervisor: supervisor::Client(Endpoint::at(slot::SUPERVISOR)),
        tally: Tally::new(),
        resets: 0,
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
                Some(bits) => self.on_signal(bits),
                None => {
                    let exit = Exit::decode(&self.guest.cpu.exit);
                    let next = self.guest.answer(exit, Present::new(&self.clock, rt::tsc));
                    settled = next == Next::Skip && !self.guest.machine.take_disturbed();
                    self.follow(next);
                }
            }
        }
    }

    /// Runs the guest until a signal comes, whose bits it returns, or an exit, which is in `Cpu` then. Nobody hears of those
    /// that can be answered on the spot.
    #[inline(always)]
    fn enter(&mut self) -> Option<u64> {
        let Guest { cpu, machine, .. } = &mut self.guest;
        if cpu.take_registers_changed() {
            self.vcpu.set_registers(&cpu.exit.gprs);
        }
        let (mut rip, mut inject) = (cpu.exit.rip, cpu.inject);
        loop {
            let exit = match self.vcpu.enter(rip, cpu.primary, inject) {
                Wake::Exit(exit) => exit,
                Wake::Signal { bits, rip, inject } => {
                    cpu.interrupted(rip, inject);
                    return Some(bits);
                }
            };
            self.tally.exit(exit.reason());
            let now = Present::new(&self.clock, rt::tsc);
            let answer = match (exit.io(), exit.next()) {
                (Some(io), Some(next)) => {
                    (rip, inject) = (next, 0);
                    machine.at_once(io, exit.rax() as u32, now)
                }
                _ => AtOnce::No,
            };
            match answer {
                AtOnce::Written => {}
                AtOnce::Read(width, value) => exit.set_accumulator(width, value),
                AtOnce::No => {
                    cpu.exited(exit.load());
                    return None;
                }
            }
        }
    }

    fn now(&self) -> (u64, Nanos) {
        let tsc = rt::tsc();
        (tsc, self.clock.at(tsc))
    }

    fn on_signal(&mut self, bits: u64) {
        self.tally.signal();
        if bits & event::TIMER != 0 {
            self.deadline.on_signal();
            let (_, now) = self.now();
            self.guest.machine.advance(now);
            self.devices.advance(now);
        }
        let lines = (bits / event::line(0)) as u16;
        if lines != 0 {
            let (_, now) = self.now();
            self.devices.on_interrupt(lines, now, &mut self.guest.machine.pic);
        }
        self.arm_for_lines();
        if bits & event::CONSOLE != 0 {
            self.console.on_signal();
        }
    }

    /// A line that is throttled has its end of the millisecond to come.
    fn arm_for_lines(&mut self) {
        if let Some(next) = self.devices.lines.next_event() {
            self.deadline.arm(next, &self.clock, rt::tsc());
        }
    }

    fn follow(&mut self, next: Next) {
        match next {
            Next::Skip => self.guest.cpu.skip(),
            Next::Retry => {}
            Next::Raise(event) => self.guest.cpu.deliver(event),
            Next::Halt => {
                self.guest.cpu.skip();
                self.halted = true;
            }
            Next::Reset(cause) => self.reset(cause),
            Next::PowerOff => self.power_off(),
        }
    }

    /// What is due before the next entry: console bytes, the next deadline, an interrupt.
    fn settle(&mut self) {
        if self.devices.lines.in_flight() {
            self.devices.settle(&mut self.guest.machine.pic);
            self.arm_for_lines();
        }
        let machine = &mut self.guest.machine;
        let more = machine.take_at_uart();
        if self.console.is_due(&machine.uart, more) {
            self.console.exchange(&mut machine.uart);
            machine.uart_changed();
        }
        if machine.timers_changed() {
            let tsc = rt::tsc();
            if let Some(next) = machine.next_event(self.clock.at(tsc)) {
                self.deadline.arm(next, &self.clock, tsc);
            }
        }
        let cpu = &mut self.guest.cpu;
        if !machine.pic.pending() {
            cpu.want_window(false);
            return;
        }
        self.halted = false;
        if cpu.takes_interrupt() {
            let vector = machine.acknowledge();
            cpu.deliver(Event::Interrupt(vector));
        }
        cpu.want_window(machine.pic.pending());
    }

    /// Puts the guest at its first instruction.
    fn start(&mut self) {
        let entry = match boot::load(self.config, &self.files, &self.buffer, &self.guest.ram) {
            Ok(entry) => entry,
            Err(error) => {
                log::error!("{}: {error}", self.config.name);
                self.rest();
            }
        };
        /// Bounds the time that a guest can hold the processor with interrupts off. Bochs keeps host interrupts out for
        /// as long, though external-interrupt exiting is on; elsewhere it costs nothing. The timer counts the TSC shifted
        /// right by up to 5 (IA32_VMX_MISC), which user space cannot read: 400 ms, or a 32nd of that.
        const PREEMPTION_HZ_DIVISOR: u64 = 80;
        let guest = &mut self.guest;
        let preemption = u32::try_from(self.hertz / PREEMPTION_HZ_DIVISOR).unwrap_or(u32::MAX);
        let flat = Start { code: low::BOOT_CS, data: low::BOOT_DS, gdt: (low::GDT, low::GDT_LIMIT), preemption };
        guest.cpu = Cpu::new(self.vcpu);
        start::set(&mut guest.cpu.vmcs, &flat);
        guest.control = control_registers(self.hertz);
        guest.debug = DEBUG_RESET;
        let program = guest.control.program();
        if control::apply(guest, &program).is_err() {
            log::error!("{}: the initial control registers are refused", self.config.name);
        }
        guest.cpu.exit.rip = entry.into();
        guest.cpu.gprs_mut().rsi = low::ZERO_PAGE;
        self.halted = false;
    }

    fn reset(&mut self, cause: Cause) {
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
        self.drain();
        self.devices.stop();
        self.guest.machine.reset();
        self.devices.restart(&mut self.guest.machine.pic);
        self.start();
        self.tell(Notice::Rebooted { count: self.resets });
    }

    fn power_off(&mut self) {
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
        self.rest()
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

    /// Does nothing any more, for good. root-task hears of it when the last line of the log is out, since it may stop the
    /// machine then.
    fn rest(&mut self) -> ! {
        let serial = serial::Client(Endpoint::at(slot::SERIAL));
        while serial.flush().is_ok_and(|pending| pending > 0) {
            let (tsc, now) = self.now();
            self.deadline.on_signal();
            self.deadline.arm(now, &self.clock, tsc);
            rt::wait();
        }
        self.tell(Notice::PoweredOff);
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
