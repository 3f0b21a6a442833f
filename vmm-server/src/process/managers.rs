//! The VM's managers, who may stop, start, reset, pause and resume it, and press its buttons (`proto::lifecycle`). A request is carried out between
//! two entries, whatever the guest does, and waits for nobody: not for the guest, the console or the manager.

use devices::{Effect, power::Button};
use heapless::Vec;
use layout::{
    Slot,
    config::{Name, Vmm},
    limits::MAX_MANAGERS,
};
use proto::{
    lifecycle::{Answer, Manager, State, Verb},
    supervisor::Notice,
};
use vmm_server::guest::Guest;

use super::Process;

/// All managers, and what they see of the VM.
pub struct Managers {
    all: Vec<(Name, Manager, Slot), MAX_MANAGERS>,
    state: State,
    /// How often the guest was started.
    starts: u64,
    /// One of them may have asked for something.
    news: bool,
    /// In a pause, the TSC until which the board's clock leaves it out.
    paused: u64,
}

impl Managers {
    /// Those of the configuration. What they have asked for so far is turned down: nobody was there to do it, or has not
    /// survived it.
    pub fn new(config: &Vmm) -> Self {
        let all = config.managers.iter();
        let all = all.map(|one| (one.name.clone(), Manager::new(rt::shared(one.page), one.may), one.signal)).collect();
        let mut managers = Self { all, state: State::Absent, starts: 0, news: false, paused: 0 };
        managers.set(State::Absent);
        managers.turn_down();
        managers
    }

    /// Whether there are any.
    pub fn any(&self) -> bool {
        !self.all.is_empty()
    }

    /// A manager has signalled.
    pub fn on_signal(&mut self) {
        self.news = true;
    }

    /// Whether there may be a request.
    #[inline]
    pub fn has_news(&self) -> bool {
        self.news
    }

    /// Shows all of them the VM's new state. Running, it has been started; a guest that is resumed goes another way.
    pub fn show(&mut self, state: State) {
        self.starts += u64::from(state == State::Running);
        self.set(state);
    }

    fn set(&mut self, state: State) {
        self.state = state;
        for (_, manager, signal) in &self.all {
            manager.show(state, self.starts);
            rt::signal(*signal);
        }
    }

    /// Answers all requests with what they get in a state that allows none.
    pub fn turn_down(&mut self) {
        for n in 0..self.all.len() {
            let asked = self.take(n);
            if let Some(Err(answer)) = asked {
                self.answer(n, answer);
            } else if self.all.get(n).is_some_and(|(_, manager, _)| manager.is_owed()) {
                self.answer(n, Answer::NotNow);
            }
        }
    }

    /// The next request of manager number `n`.
    fn take(&mut self, n: usize) -> Option<Result<Verb, Answer>> {
        self.all.get_mut(n)?.1.take()
    }

    fn answer(&self, n: usize, answer: Answer) {
        if let Some((_, manager, signal)) = self.all.get(n) {
            manager.answer(answer);
            rt::signal(*signal);
        }
    }
}

impl Process<'_> {
    /// Carries out requests, until the guest runs.
    #[cold]
    #[inline(never)]
    pub(super) fn manage(&mut self, n: usize) -> Effect {
        let mut effect = Effect::QUIET;
        loop {
            if self.managers.news {
                self.managers.news = false;
                effect |= self.obey_all(n);
            } else if self.managers.state == State::Running {
                return effect;
            } else {
                let signals = rt::wait();
                if self.managers.state == State::Paused {
                    self.leave_out_pause();
                }
                effect |= self.on_signal(n, signals);
            }
        }
    }

    /// One request of each manager.
    fn obey_all(&mut self, n: usize) -> Effect {
        let mut effect = Effect::QUIET;
        for number in 0..self.managers.all.len() {
            let Some(asked) = self.managers.take(number) else { continue };
            let answer = match asked {
                Ok(Verb::Shutdown | Verb::Sleep) if !self.vm.board.has_buttons() => Answer::Unknown,
                Ok(verb) if self.managers.state.allows(verb) => {
                    effect |= self.obey(n, verb, number);
                    Answer::Done
                }
                Ok(_) => Answer::NotNow,
                Err(answer) => answer,
            };
            self.managers.answer(number, answer);
        }
        effect
    }

    fn obey(&mut self, n: usize, verb: Verb, manager: usize) -> Effect {
        let by = self.managers.all.get(manager).map_or("", |(name, ..)| name.as_str());
        log::info!("{}: {} by {by}", self.config.name, verb.word());
        match verb {
            Verb::Pause => {
                self.managers.paused = rt::tsc();
                self.managers.set(State::Paused);
                Effect::QUIET
            }
            Verb::Resume => {
                self.leave_out_pause();
                self.managers.set(State::Running);
                Effect::TIMERS | Effect::LINES
            }
            Verb::Stop => {
                self.halt();
                self.managers.set(State::Off);
                Effect::QUIET
            }
            Verb::Reset => {
                self.halt();
                self.resets += 1;
                let effect = self.begin_anew();
                self.tell(Notice::Rebooted { count: self.resets });
                effect
            }
            Verb::Shutdown => self.vm.board.press(Button::Power),
            Verb::Sleep => self.vm.board.press(Button::Sleep),
            Verb::Start => {
                // A clock that has run meanwhile does not make up for it in the next life.
                let _ = Guest::new(&mut self.vm, &mut self.vcpus[n]).advance(&self.clock, rt::tsc());
                let effect = self.begin_anew();
                self.tell(Notice::Started);
                effect
            }
        }
    }

    /// Ends the guest's life where it is: what its UART has not sent is lost beyond the room in the console's ring.
    fn halt(&mut self) {
        if self.managers.state == State::Paused {
            self.leave_out_pause();
        }
        self.console.exchange(&mut self.vm.board.uart);
        self.devices.stop();
        self.quieten();
    }

    /// Sets the board's clock back to where it was when the pause began. Not only at its end: interrupts of devices that come
    /// meanwhile have times of this clock, which must not be ahead of it afterwards.
    fn leave_out_pause(&mut self) {
        let tsc = rt::tsc();
        self.clock.skip(tsc.saturating_sub(self.managers.paused));
        self.managers.paused = tsc;
    }
}
