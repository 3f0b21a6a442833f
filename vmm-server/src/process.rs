//! The run loop: enters the guest, answers its exit, carries out the side effects of the answer, and enters again. An
//! exit that changes no register costs one system call, the next VMEnter; one that does costs two. A halted guest costs
//! none: the thread waits for a signal. Exits without side effects take the fast path, which stays in the inner loop of
//! `serve`.
//!
//! While the guest runs, the VMX-preemption timer keeps its next deadline; while it halts, timer-server does (decision
//! 0008).

use devices::Effect;
use layout::{
    Slot,
    config::{Vmm, Window},
    event, slot, window,
};
use mmio::SharedBuffer;
use proto::{file, lifecycle::State, supervisor, timer};
use rt::Endpoint;
use vmm_server::{
    answer::{Answer, Next},
    board::Board,
    guest::Guest,
    linux::low,
    ram::Ram,
    resets::Resets,
    run,
    time::{Clock, Present},
    vcpu::{BOOTSTRAP, Vcpu},
    vm::{VCPUS, Vm},
};
use vtx::{
    enter::{VcpuObject, Wake},
    exit::RawExit,
    vmcs::{Vmcs, VmcsField},
    words::{Message, Words},
};

use console::Console;
use handover::Devices;
use managers::Managers;
use tally::Tally;

mod channels;
mod console;
mod disks;
mod entropy;
mod first_entry;
mod handover;
mod life;
mod managers;
mod network;
mod placement;
mod ports;
mod tally;

/// The kernel objects of the vCPUs. A second one needs a thread of its own.
const VCPU_SLOTS: [Slot; VCPUS] = [slot::vcpu(0)];

/// Nanoseconds after which a halted guest's request is served again that a back end had nothing for.
const RETRY: u64 = 1_000_000;

/// A VM and what serves it.
struct Process<'a> {
    config: &'a Vmm,
    vm: Vm,
    clock: Clock,
    vcpus: [Vcpu<VcpuObject>; VCPUS],
    hertz: u64,
    time: timer::Client<Endpoint>,
    devices: Devices,
    console: Console,
    files: file::Client<Endpoint>,
    buffer: SharedBuffer,
    supervisor: supervisor::Client<Endpoint>,
    tally: Tally,
    resets: u32,
    allowance: Resets,
    managers: Managers,
}

/// Why a vCPU stopped running.
enum StopReason {
    /// A signal with these bits.
    Signal(u64),
    /// An exit that the vCPU has taken over, with the side effects that `between` has to carry out.
    Exit(Effect),
}

/// Runs the guest of `config` until it powers itself off, and then parks the thread, unless a manager may start it again.
pub fn run(config: &Vmm) -> ! {
    let time = timer::Client(Endpoint::at(timer::SERVICE.slot));
    let hertz = match time.frequency() {
        Ok(hertz) => hertz,
        Err(error) => panic!("timer-server: {error:?}"),
    };
    // A machine whose real-time clock has lost its battery can still run guests: they begin in 1970.
    let date = time.wall_clock().unwrap_or_else(|error| {
        log::warn!("{}: no date ({error:?}), so it begins in 1970", config.name);
        timer::WallClock { unix: 0, at: rt::tsc() }
    });
    let objects = VCPU_SLOTS.map(|slot| VcpuObject::new(slot.cptr()));
    let ram = ram(config);
    let mut vm = Vm::new(ram, Board::new(config.chipset, config.ram, date.unix));
    let mut numbers = BOOTSTRAP..;
    let mut vcpus = objects.map(|object| {
        let number = numbers.next().unwrap_or(BOOTSTRAP);
        Vcpu::new(number, object, first_entry::control_registers(hertz), first_entry::debug_registers(), hertz)
    });
    if config.directories > 0 {
        handover::wait_for_stop();
    }
    // Before ports are opened, since a VPID has to be there by then. The start repeats it, and reports what is wrong. No
    // signal is lost: the console's rings are looked at in any case, and lines are acknowledged when they are claimed.
    for cpu in &mut vcpus {
        let _ = first_entry::run(&mut vm, cpu, hertz);
    }
    for (object, ports) in
        objects.iter().flat_map(|object| config.direct_ports.iter().map(move |ports| (object, ports)))
    {
        if let Err(error) = object.allow_ports(ports.slot.cptr(), ports.first, ports.last) {
            log::error!("{}: ports {:#x} to {:#x}: {error:?}", config.name, ports.first, ports.last);
        }
    }
    let devices = Devices::take(config, objects, &mut vm.board);
    vm.board.functions.use_memory(ram);
    if config.rng {
        entropy::plug(&config.name, &mut vm.board);
    }
    network::plug(config, &mut vm.board);
    ports::plug(config, &mut vm.board);
    disks::plug(config, &time, hertz, &mut vm.board);
    channels::plug(config, &mut vm.board);
    let mut process = Process {
        config,
        vm,
        clock: Clock::new(date.at, hertz),
        vcpus,
        hertz,
        time,
        devices,
        console: Console::new(config),
        files: file::Client(Endpoint::at(file::SERVICE.slot)),
        buffer: SharedBuffer::new(rt::shared(config.files)),
        supervisor: supervisor::Client(Endpoint::at(slot::SUPERVISOR)),
        tally: Tally::new(),
        resets: 0,
        allowance: Resets::new(config.resets),
        managers: Managers::new(config),
    };
    process.start();
    process.managers.show(State::Running);
    log::info!("{}: {} MiB of memory, entering the guest at TSC {}", config.name, config.ram >> 20, rt::tsc());
    process.serve(BOOTSTRAP.into())
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

impl Process<'_> {
    /// Runs vCPU `n`, which belongs to the calling thread. The inner loop is the fast path. Everything slower is in
    /// `between`, which is not inlined, so that the compiler keeps the loop's state in processor registers.
    fn serve(&mut self, n: usize) -> ! {
        /// The loop reads the TSC at every eighth exit of a kind (decision 0008): a reading costs a tenth of what an
        /// exit may cost.
        const LOOKS: u64 = 8;
        self.between(n, StopReason::Exit(Effect::TIMERS));
        loop {
            let Self { vm, clock, vcpus, tally, time, .. } = self;
            let (cpu, now) = (&mut vcpus[n], Present::new(clock, rt::tsc));
            let mut object = cpu.vmcs;
            if cpu.take_registers_changed() {
                object.set_registers(&cpu.exit.gprs);
            }
            let (mut rip, mut inject) = (cpu.exit.rip, cpu.inject);
            let stop = loop {
                let exit = match object.enter(rip, cpu.primary, inject) {
                    Wake::Exit(exit) => exit,
                    Wake::Signal { bits, rip, inject } => {
                        cpu.interrupted(rip, inject);
                        break StopReason::Signal(bits);
                    }
                };
                // A guest that exits in quick succession hardly runs, and the preemption timer counts only while it
                // runs. So the loop compares the TSC with the deadline as well.
                if tally.exit(exit.reason()).is_multiple_of(LOOKS) && cpu.deadline.passed(rt::tsc()) {
                    break StopReason::Exit(late(vm, cpu, exit, now, clock));
                }
                match run::answer(vm, cpu, exit, now) {
                    Answer::Resume { rip: next } => (rip, inject) = (next, 0),
                    Answer::ResumeTimed { rip: next } => {
                        (rip, inject) = (next, 0);
                        set_deadline(vm, cpu, clock, time);
                    }
                    Answer::Taken { effect } => break StopReason::Exit(effect),
                }
            };
            self.between(n, stop);
        }
    }

    /// The slow path: handles what stopped the vCPU, and carries out everything that is due before its next entry.
    /// While the vCPU halts, it waits for signals here.
    #[inline(never)]
    fn between(&mut self, n: usize, stop: StopReason) {
        let mut effect = match stop {
            StopReason::Signal(bits) => self.on_signal(n, bits),
            // Most exits that get here only step past their instruction, so this case is inline and saves the call of
            // `follow`.
            StopReason::Exit(effect) if self.vcpus[n].next == Next::Skip => {
                self.vcpus[n].skip();
                effect
            }
            StopReason::Exit(effect) => effect | self.follow(n),
        };
        if effect.is_quiet() {
            return;
        }
        loop {
            if self.managers.has_news() {
                effect |= self.manage(n);
            }
            self.settle(n, effect);
            if !self.vcpus[n].halted {
                return;
            }
            effect = self.on_signal(n, rt::wait());
        }
    }

    #[inline(never)]
    fn on_signal(&mut self, n: usize, bits: u64) -> Effect {
        self.tally.signal();
        // A signal does not carry RFLAGS and the interruptibility state, so a pending interrupt needs an
        // interrupt-window exit. LINES makes `between` call `settle`, which asks for that exit.
        let mut effect = Effect::LINES;
        let cpu = &mut self.vcpus[n];
        if bits & event::TIMER != 0 {
            cpu.deadline.on_alarm();
            effect |= Effect::TIMERS;
        }
        let tsc = rt::tsc();
        effect |= Effect::TIMERS.when(cpu.deadline.passed(tsc));
        let lines = (bits / event::line(0)) as u16;
        if lines != 0 {
            self.devices.acknowledge(self.vm.board.raise_lines(lines, self.clock.at(tsc)));
            self.devices.mask(self.vm.board.lines.masked);
            self.arm_for_lines(n);
        }
        if bits & event::CONSOLE != 0 {
            self.console.on_signal();
        }
        if bits & event::MANAGED != 0 {
            self.managers.on_signal();
        }
        let of_hvc = if self.config.hvc.is_some() { event::CONSOLE } else { 0 };
        if bits & (event::NETWORK | event::BLOCK | event::PIPES | event::CHANNEL | of_hvc) != 0 {
            self.vm.board.functions.wake();
        }
        effect
    }

    #[inline(never)]
    fn follow(&mut self, n: usize) -> Effect {
        let cpu = &mut self.vcpus[n];
        cpu.follow();
        match cpu.next {
            Next::Skip => Effect::QUIET,
            Next::Retry | Next::Raise(_) => Effect::LINES,
            Next::Halt => {
                // A trap that is pending ends the halt at once (SDM volume 3, "Interruptibility State").
                cpu.halted = !cpu.has_trap();
                Effect::LINES
            }
            Next::Reset(cause) => self.reset(n, cause),
            Next::PowerOff => self.power_off(n),
        }
    }

    /// Carries out the side effects of `effect` before the next entry. No other function does.
    #[inline(always)]
    fn settle(&mut self, n: usize, mut effect: Effect) {
        if effect.contains(Effect::TIMERS) {
            // First, since it can add LINES for the steps below.
            effect |= self.pass_time(n);
        }
        if self.vm.board.functions.is_waiting() {
            // What waits still, the board knows. It is nothing that the guest prints.
            effect |= self.vm.board.serve_functions() - Effect::OUTPUT;
        }
        if effect.contains(Effect::LINES) {
            self.settle_lines(n);
        }
        if effect.contains(Effect::REGIONS) {
            self.devices.follow(&mut self.vm.board.passthrough);
        }
        // While a driver writes, bytes gather until they fill a FIFO: serial-server need not wake for each.
        if self.console.is_due(&self.vm.board.uart, effect.contains(Effect::OUTPUT)) {
            self.console.exchange(&mut self.vm.board.uart);
            effect |= self.vm.board.uart_line();
        }
        let cpu = &mut self.vcpus[n];
        // After all steps that raise or clear interrupts, and before the deadline is set: an interrupt ends the halt.
        if Guest::new(&mut self.vm, cpu).interrupt() {
            cpu.halted = false;
        }
        if cpu.halted && self.vm.board.functions.is_waiting() {
            // A back end had nothing to give, and a guest that halts makes no exits after which to ask it again.
            let tsc = rt::tsc();
            let retry = self.clock.at(tsc) + RETRY;
            arm(&self.time, cpu.deadline.alarm_by(retry, &self.clock, tsc));
        }
        if effect.contains(Effect::TIMERS) {
            set_deadline(&mut self.vm, cpu, &self.clock, &self.time);
        } else if cpu.halted {
            // The deadline is the same, but the preemption timer does not count while the vCPU halts.
            arm(&self.time, cpu.deadline.halt());
        }
    }

    /// Raises the timer interrupts that are due, and acknowledges rate-limited lines whose millisecond is over.
    fn pass_time(&mut self, n: usize) -> Effect {
        let tsc = rt::tsc();
        self.devices.acknowledge(self.vm.board.expire_lines(self.clock.at(tsc)));
        self.devices.mask(self.vm.board.lines.masked);
        // A line that is throttled for longer than until the alarm that has come needs the next one.
        self.arm_for_lines(n);
        let cpu = &mut self.vcpus[n];
        if cpu.deadline.passed(tsc) { catch_up(&mut self.vm, cpu, &self.clock) } else { Effect::QUIET }
    }

    /// Acknowledges the lines whose service the guest has ended. For a rate-limited line, arms a signal at the end of
    /// the millisecond instead.
    #[inline]
    fn settle_lines(&mut self, n: usize) {
        let Board { lines, controllers, .. } = &mut self.vm.board;
        if lines.in_flight() {
            controllers.end(&mut self.vcpus[n].lapic);
            self.devices.acknowledge(lines.settle(controllers));
            self.arm_for_lines(n);
        }
    }

    #[inline(never)]
    fn arm_for_lines(&mut self, n: usize) {
        if let Some(next) = self.vm.board.lines.next_event() {
            let alarm = self.vcpus[n].deadline.alarm_by(next, &self.clock, rt::tsc());
            arm(&self.time, alarm);
        }
    }
}

/// Answers an exit that came when the deadline had already passed.
#[cold]
#[inline(never)]
fn late(vm: &mut Vm, cpu: &mut Vcpu<VcpuObject>, exit: impl Message, now: Present, clock: &Clock) -> Effect {
    // The slow path follows in any case, so reading single words would save nothing. The timers advance before the
    // answer, which then sees the board and the local APIC up to date.
    let mut words = RawExit::default();
    exit.load(&mut words);
    let effect = catch_up(vm, cpu, clock);
    run::answer_late(vm, cpu, words, effect, now)
}

/// Advances the board's timers and the local APIC past the deadline.
#[cold]
#[inline(never)]
fn catch_up(vm: &mut Vm, cpu: &mut Vcpu<VcpuObject>, clock: &Clock) -> Effect {
    let effect = Guest::new(vm, cpu).advance(clock, rt::tsc());
    cpu.deadline.done(cpu.halted);
    effect
}

/// Sets the guest's next deadline: in the preemption timer while the guest runs, at timer-server while it halts.
#[inline(never)]
fn set_deadline(vm: &mut Vm, cpu: &mut Vcpu<VcpuObject>, clock: &Clock, time: &timer::Client<Endpoint>) {
    let tsc = rt::tsc();
    let next = Guest::new(vm, cpu).next_timer(clock, tsc);
    cpu.deadline.set(next, tsc);
    if cpu.halted {
        return arm(time, cpu.deadline.halt());
    }
    let orders = cpu.deadline.run(tsc);
    if let Some(count) = orders.count {
        cpu.vmcs.write(VmcsField::PreemptionTimer, count.into());
    }
    arm(time, orders.alarm);
}

/// Asks timer-server for a signal at the TSC value `alarm`, if there is one.
fn arm(time: &timer::Client<Endpoint>, alarm: Option<u64>) {
    if let Some(at) = alarm
        && let Err(error) = time.arm(at)
    {
        log::error!("timer-server: {error:?}");
    }
}
