//! Managers of a guest: one that may do everything, one that may do little, and a process that is none.

use layout::{Slot, config::Component, slot};
use proto::{
    lifecycle::{Answer, State, Verb, Vm},
    timer,
};
use rt::Endpoint;

use crate::verdict::Verdict;

/// Seconds that a vmm-server has for an answer.
const PATIENCE: u64 = 20;
/// Thousandths of a second for which nothing happens.
const PAUSE: u64 = 200;

/// The first VM of the configuration, and the time.
struct Managed {
    vm: Vm,
    time: timer::Client<Endpoint>,
    hertz: u64,
}

impl Managed {
    fn new(config: &Component) -> Self {
        let time = timer::Client(Endpoint::at(timer::SERVICE.slot));
        let (Some(managed), Ok(hertz)) = (config.managed.first(), time.frequency()) else {
            panic!("it manages nothing, or has no time")
        };
        Self { vm: Vm::new(rt::shared(managed.page)), time, hertz }
    }

    /// Waits until something holds, or for some time.
    fn wait(&self, ticks: u64, holds: impl Fn(&Vm) -> bool) -> bool {
        let end = rt::tsc() + ticks;
        while !holds(&self.vm) {
            if rt::tsc() >= end || self.time.arm(end).is_err() {
                return false;
            }
            rt::wait();
        }
        true
    }

    fn wait_for(&self, state: State) -> bool {
        self.wait(PATIENCE * self.hertz, |vm| vm.state() == state)
    }

    /// Sleeps, in thousandths of a second.
    fn sleep(&self, thousandths: u64) {
        self.wait(thousandths * self.hertz / 1000, |_| false);
    }

    /// Asks for something; returns the answer, if there is one in time.
    fn ask(&mut self, verb: Verb) -> Option<Answer> {
        self.vm.ask(verb);
        rt::signal(slot::managed(0));
        self.wait(PATIENCE * self.hertz, |vm| vm.answer().is_some());
        self.vm.answer()
    }
}

/// A manager that may do everything: each verb in each state, then a number of resets, and of stops and starts. It leaves the
/// guest running.
pub fn manager(config: &Component, resets: &str) {
    let mut verdict = Verdict::default();
    let mut managed = Managed::new(config);
    verdict.holds("the guest runs", managed.wait_for(State::Running));
    let lives = [
        (Verb::Start, Answer::NotNow, State::Running),
        (Verb::Resume, Answer::NotNow, State::Running),
        // A board without ACPI has no buttons.
        (Verb::Shutdown, Answer::Unknown, State::Running),
        (Verb::Sleep, Answer::Unknown, State::Running),
        (Verb::Pause, Answer::Done, State::Paused),
        (Verb::Pause, Answer::NotNow, State::Paused),
        (Verb::Start, Answer::NotNow, State::Paused),
        (Verb::Resume, Answer::Done, State::Running),
        (Verb::Pause, Answer::Done, State::Paused),
        (Verb::Reset, Answer::Done, State::Running),
        (Verb::Pause, Answer::Done, State::Paused),
        (Verb::Stop, Answer::Done, State::Off),
        (Verb::Stop, Answer::NotNow, State::Off),
        (Verb::Reset, Answer::NotNow, State::Off),
        (Verb::Pause, Answer::NotNow, State::Off),
        (Verb::Resume, Answer::NotNow, State::Off),
        (Verb::Start, Answer::Done, State::Running),
    ];
    for (verb, answer, state) in lives {
        verdict.equal(verb.word(), (managed.ask(verb), managed.vm.state()), (Some(answer), state));
    }
    let (resets, before) = (resets.parse().unwrap_or(0), managed.vm.starts());
    verdict.equal("starts so far", before, 3);
    let done = (0..resets).filter(|_| managed.ask(Verb::Reset) == Some(Answer::Done)).count();
    verdict.equal("resets", done as u64, resets);
    let cycles = resets / 10;
    let cycle = |managed: &mut Managed| [Verb::Stop, Verb::Start].map(|verb| managed.ask(verb));
    let done = (0..cycles).filter(|_| cycle(&mut managed) == [Some(Answer::Done); 2]).count();
    verdict.equal("stops and starts", done as u64, cycles);
    verdict.equal("starts", managed.vm.starts() - before, resets + cycles);
    // A flood of what has no effect: the guest runs on, and there is an answer to the last.
    for _ in 0..10_000 {
        managed.vm.ask(Verb::Start);
        rt::signal(slot::managed(0));
    }
    verdict.equal("after a flood", managed.ask(Verb::Resume), Some(Answer::NotNow));
    verdict.close();
}

/// A manager that may pause and resume alone.
pub fn limited(config: &Component) {
    let mut verdict = Verdict::default();
    let mut managed = Managed::new(config);
    verdict.holds("the guest runs", managed.wait_for(State::Running));
    for verb in [Verb::Stop, Verb::Start, Verb::Reset] {
        verdict.equal(verb.word(), managed.ask(verb), Some(Answer::Refused));
    }
    verdict.equal("state", (managed.vm.state(), managed.vm.starts()), (State::Running, 1));
    verdict.equal("pause", (managed.ask(Verb::Pause), managed.vm.state()), (Some(Answer::Done), State::Paused));
    managed.sleep(PAUSE);
    verdict.equal("resume", (managed.ask(Verb::Resume), managed.vm.state()), (Some(Answer::Done), State::Running));
    verdict.close();
}

/// The manager of a guest that powers itself off.
pub fn starter(config: &Component) {
    let mut verdict = Verdict::default();
    let mut managed = Managed::new(config);
    for life in 1..=3 {
        verdict.holds("the guest has powered off", managed.wait_for(State::Off));
        verdict.equal("starts", managed.vm.starts(), life);
        verdict.equal("start", managed.ask(Verb::Start), Some(Answer::Done));
        // It may be off again by now.
        verdict.holds("it has begun anew", managed.vm.starts() == life + 1);
    }
    verdict.close();
}

/// A process that manages nothing: it has no page, and none of the slots by which others ask has a capability.
pub fn intruder(config: &Component) {
    let mut verdict = Verdict::default();
    verdict.holds("no page", config.managed.is_empty());
    // Signals by nothing have no effect: that the guests go on, their managers see.
    let others = [slot::LOG, slot::EVENTS, slot::SUPERVISOR, slot::FAULT];
    for number in 0..1 << layout::ROOT_BITS {
        if !others.contains(&Slot(number)) && !slot::SERVERS.contains(&number) {
            rt::signal(Slot(number));
        }
    }
    verdict.close();
}
