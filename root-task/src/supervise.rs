//! Phase 7 runs until the machine ends. It handles faults of processes, by the policy of the specification; their
//! notices of guests that powered off or failed, and of processes that have finished; and their requests for devices,
//! the only messages that it replies to.

use alloc::{format, vec, vec::Vec};
use core::fmt;

use capdl_spec::spec::{Id, OnFault, Process, Spec, Thread, WhenOff};
use layout::FAULT_BIT;
use proto::supervisor::{self, Notice, Refused, Request, printable};
use proto::wire::{Call, IpcError, Message};
use root_task::guests::{Ended, Guests, State};
use sel4::{
    CapRights, Fault, MessageInfo,
    cap::{self, cap_type},
    ipc_buffer,
};
use sel4_root_task::{
    Scratch,
    power::{self, End},
};

use crate::{
    Context, Failure, console,
    grants::Grants,
    objects::{Objects, own},
    program, spaces,
};

/// A running system.
pub struct System<'a> {
    objects: Objects,
    spec: &'a Spec,
    bundle: &'a [u8],
    scratch: Scratch,
    guests: Guests,
    /// How the machine ends: whether something has failed.
    end: End,
    grants: Grants,
    signals: Vec<Signals>,
    /// By process: whether it was warned about.
    warned: Vec<bool>,
    /// By process: how often it was restarted.
    restarts: Vec<u32>,
    /// Bytes of memory and slots that were left when the system was built.
    left: (u64, usize),
}

/// The notifications to signal when a process stops, and when it will not run again.
pub struct Signals {
    stop: Option<cap::Notification>,
    end: Option<cap::Notification>,
}

/// Makes the capabilities by which root-task signals that processes have stopped, by process.
pub fn signals(objects: &mut Objects, spec: &Spec) -> Result<Vec<Signals>, Failure> {
    let processes = spec.processes.iter();
    let signals = processes.map(|process| {
        Ok(Signals { stop: signal(objects, process, process.on_stop)?, end: signal(objects, process, process.on_end)? })
    });
    signals.collect()
}

fn signal(
    objects: &mut Objects,
    process: &Process,
    signal: Option<(Id, u64)>,
) -> Result<Option<cap::Notification>, Failure> {
    let Some((notification, badge)) = signal else { return Ok(None) };
    let failure = |why| Failure { what: format!("{}: signal of its end", process.name), why };
    let slot = objects.take_slots(1).map_err(failure)?.start;
    own(slot)
        .mint(&own(objects.slots(notification).start), CapRights::write_only(), badge)
        .context(|| format!("{}: signal of its end", process.name))?;
    Ok(Some(cap::Notification::from_bits(slot as u64)))
}

/// A process that has been restarted this often stays stopped. Otherwise a process that faults at its start would keep
/// all others from running, since root-task has the highest priority.
const MOST_RESTARTS: u32 = 16;

impl<'a> System<'a> {
    /// The system right after its start.
    pub fn new(objects: Objects, spec: &'a Spec, bundle: &'a [u8], scratch: Scratch, signals: Vec<Signals>) -> Self {
        let guests = Guests::new(spec.processes.iter().map(|process| process.ept.is_some()));
        let grants = Grants::new(spec);
        let (warned, restarts) = (vec![false; spec.processes.len()], vec![0; spec.processes.len()]);
        let left = (objects.free(), objects.empty_slots());
        Self { objects, spec, bundle, scratch, guests, end: End::Off, grants, signals, warned, restarts, left }
    }

    /// Receives messages and handles them. It never replies to a fault: to restart a process, root-task writes its
    /// registers.
    pub fn serve(&mut self) -> ! {
        let endpoint = self.objects.cap::<cap_type::Endpoint>(self.spec.supervisor);
        loop {
            let (info, badge) = endpoint.recv();
            let number = (badge & !FAULT_BIT).wrapping_sub(1);
            let Some(process) = self.spec.processes.get(number as usize) else {
                log::warn!("a message under badge {badge:#x}, which no process was given");
                continue;
            };
            if badge & FAULT_BIT != 0 {
                self.fault(number as usize, process, info);
            } else {
                self.message(number as usize, process, info);
            }
        }
    }

    /// The message need not come from the kernel: a process holds the capability by which its faults are sent, and may
    /// send such a message itself, again and again if it could go on. So this stops the process that a fault message
    /// names.
    fn fault(&mut self, number: usize, process: &Process, info: MessageInfo) {
        let name = &process.name;
        program::stop(&self.objects, process);
        console::fresh_line();
        match Fault::from_ipc_buffer(info) {
            Fault::Vm { ip, address, instruction, error_code } => {
                // seL4 leaves execute-disable off, and the processor then does not tell fetches from reads (Intel SDM,
                // volume 3, section 4.7).
                let access = match (instruction || address == ip, error_code & 2 != 0) {
                    (true, false) => "fetches",
                    (_, true) => "writes",
                    (false, false) => "reads",
                };
                log::error!("{name} faulted: {access} {address:#x} at {ip:#x}, where nothing is mapped for that");
            }
            Fault::Cap { ip, cptr, .. } => log::error!("{name} faulted: no capability at {cptr:#x}, used at {ip:#x}"),
            Fault::UnknownSyscall { ip, number } => {
                log::error!("{name} faulted: unknown system call {number:#x} at {ip:#x}")
            }
            Fault::User { ip, number, code, .. } => {
                log::error!("{name} faulted: processor exception {number}, error code {code:#x}, at {ip:#x}");
            }
            Fault::Other { label } => log::error!("{name} faulted: kind {label}"),
        }
        self.print_registers(process);
        self.signal_stop(number);
        match process.on_fault {
            OnFault::Stop => self.stays_stopped(number, process, format_args!("it faulted and stays stopped")),
            OnFault::Restart => self.restart(number, process),
            OnFault::Halt => {
                self.fails(process, format_args!("it faulted, which is to stop the machine"));
                self.halt()
            }
        }
    }

    /// Prints those of all its threads, since a fault does not say which thread it is from.
    fn print_registers(&self, process: &Process) {
        process.threads.iter().for_each(|thread| self.print_registers_of(thread));
    }

    fn print_registers_of(&self, thread: &Thread) {
        let Ok(context) = self.objects.cap::<cap_type::Tcb>(thread.tcb).tcb_read_all_registers(false) else {
            log::error!("  its registers cannot be read");
            return;
        };
        let r = context.inner();
        log::error!("  rip {:016x}  rsp {:016x}  rflags {:016x}", r.rip, r.rsp, r.rflags);
        log::error!("  rax {:016x}  rbx {:016x}  rcx {:016x}  rdx {:016x}", r.rax, r.rbx, r.rcx, r.rdx);
        log::error!("  rsi {:016x}  rdi {:016x}  rbp {:016x}  r8  {:016x}", r.rsi, r.rdi, r.rbp, r.r8);
        log::error!("  r9  {:016x}  r10 {:016x}  r11 {:016x}  r12 {:016x}", r.r9, r.r10, r.r11, r.r12);
        log::error!("  r13 {:016x}  r14 {:016x}  r15 {:016x}", r.r13, r.r14, r.r15);
    }

    /// Restores the process's own memory and starts it at its entry. Memory that it shares with others keeps its
    /// contents.
    fn restart(&mut self, number: usize, process: &Process) {
        let restarts =
            self.restarts.get_mut(number).map_or(MOST_RESTARTS, |count| core::mem::replace(count, *count + 1));
        if restarts >= MOST_RESTARTS {
            let why = format_args!("it faulted after {MOST_RESTARTS} restarts and stays stopped");
            return self.stays_stopped(number, process, why);
        }
        let filled = spaces::refill(&self.objects, self.spec, process, self.bundle, &mut self.scratch);
        match filled.and_then(|()| program::start(&self.objects, process)) {
            Ok(()) => {
                log::error!("{} restarted", process.name);
                self.guests.restart(number);
            }
            Err(Failure { what, why }) => {
                self.stays_stopped(number, process, format_args!("it cannot be restarted: {what}: {why}"));
            }
        }
    }

    /// Reports that the process will not run again, and ends its guest.
    fn stays_stopped(&mut self, number: usize, process: &Process, why: fmt::Arguments) {
        self.fails(process, why);
        self.signal_end(number);
        self.guest_ended(number, State::Failed);
    }

    /// Reports a failure, which the machine's end will show.
    fn fails(&mut self, process: &Process, why: fmt::Arguments) {
        console::failed(format_args!("{}: {why}", process.name));
        self.end = End::Failed;
    }

    /// Powers the machine off after the last guest, if the specification's policy says so.
    fn guest_ended(&mut self, number: usize, how: State) -> Ended {
        let ended = self.guests.end(number, how);
        if ended == Ended::Last && self.spec.when_off == WhenOff::PowerOff {
            self.halt();
        }
        ended
    }

    /// Handles a process's message. It replies to requests, and to messages that do not decode: the reply has no effect
    /// if the sender did not call.
    fn message(&mut self, number: usize, process: &Process, info: MessageInfo) {
        let mut message = Message::EMPTY;
        for (index, word) in message.receive(info.label(), info.length()).iter_mut().enumerate() {
            *word = ipc_buffer().word(index);
        }
        let understood = match message.label {
            Request::LABEL => message.answer(|request| self.request(number, process, request)),
            supervisor::LABEL => match Notice::decode(&message) {
                Ok(notice) => return self.notice(number, process, notice),
                Err(error) => Err(error),
            },
            _ => Err(IpcError::UnknownLabel),
        };
        if understood.is_err() {
            self.warn(number, process, "a message that is none");
        }
        message.finish(understood);
        for (index, &word) in message.words().iter().enumerate() {
            ipc_buffer().set_word(index, word);
        }
        sel4::reply(MessageInfo::new(message.label, 0, 0, message.words().len()));
    }

    fn request(&mut self, number: usize, process: &Process, request: Request) -> Result<(), Refused> {
        let served = self.grants.serve(&mut self.objects, self.spec, number, request);
        if let Err(why) = served {
            self.warn(number, process, &format!("{request:x?} is refused: {why:?}"));
        }
        served
    }

    fn notice(&mut self, number: usize, process: &Process, notice: Notice) {
        match notice {
            Notice::PoweredOff => {
                if self.guest_ended(number, State::Off) == Ended::NoGuest {
                    self.warn(number, process, "its guest powered off, it says, but it has none");
                }
            }
            // A second notice has no effect, since printing takes milliseconds, in which no other process runs.
            Notice::Failed { reason } if self.guests.is_on(number) => {
                console::fresh_line();
                self.stays_stopped(number, process, format_args!("{}", printable(&reason)));
            }
            Notice::Failed { .. } => {
                self.warn(number, process, "its guest failed, it says, but it has none that is on")
            }
            Notice::Rebooted { .. } => {}
            Notice::Started => self.guests.start(number),
            // The thread is still in the system call that sent the notice, and does not return from it.
            Notice::Finished => {
                program::stop(&self.objects, process);
                self.signal_stop(number);
                self.signal_end(number);
            }
        }
    }

    fn signal_stop(&self, number: usize) {
        if let Some(signal) = self.signals.get(number).and_then(|signals| signals.stop.as_ref()) {
            signal.signal();
        }
    }

    fn signal_end(&self, number: usize) {
        if let Some(signal) = self.signals.get(number).and_then(|signals| signals.end.as_ref()) {
            signal.signal();
        }
    }

    /// Warns once for each process, since printing a line takes milliseconds, in which no other process runs.
    fn warn(&mut self, number: usize, process: &Process, what: &str) {
        let warned = self.warned.get_mut(number).is_none_or(|warned| core::mem::replace(warned, true));
        if !warned {
            console::fresh_line();
            log::warn!("{}: {what}; the next such message is not reported", process.name);
        }
    }

    /// Stops all processes, and powers the board off if it can.
    fn halt(&mut self) -> ! {
        for process in &self.spec.processes {
            program::stop(&self.objects, process);
        }
        console::fresh_line();
        // What devices have taken; a guest's lives take nothing.
        let (memory, slots) = (self.left.0 - self.objects.free(), self.left.1 - self.objects.empty_slots());
        log::info!("taken since the start: {memory} bytes of memory, {slots} slots");
        log::info!("the machine stops");
        power::end(self.end)
    }
}
