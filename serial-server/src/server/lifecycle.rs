//! The console as a manager: commands that stop VMs, start them and so on. The server asks, and says the answer when it comes:
//! it never waits for a vmm-server.

use heapless::Vec;
use layout::{config::Name, limits::MAX_GUESTS};
use proto::lifecycle::{Answer, Verb, Vm};

use super::{Hardware, Managed, Server};

/// Seconds after which a VM that has not answered is given up.
const PATIENCE: u64 = 5;

/// A VM, and what it was asked for.
struct One {
    name: Name,
    vm: Vm,
    /// The verb, and when it is given up.
    asked: Option<(Verb, u64)>,
}

/// The VMs that the console manages.
pub(super) struct Vms(Vec<One, MAX_GUESTS>);

impl FromIterator<Managed> for Vms {
    fn from_iter<I: IntoIterator<Item = Managed>>(managed: I) -> Self {
        let one = |Managed { name, page }| One { name, vm: Vm::new(page), asked: None };
        Vms(managed.into_iter().take(MAX_GUESTS).map(one).collect())
    }
}

impl Vms {
    pub(super) fn any(&self) -> bool {
        !self.0.is_empty()
    }
}

impl<H: Hardware> Server<H> {
    /// Asks a VM to do something, or says how it is.
    pub(super) fn manage(&mut self, name: &str, verb: Option<Verb>) {
        let until = self.hardware.now().saturating_add(PATIENCE * self.hertz);
        let mut all = self.vms.0.iter_mut().enumerate();
        let Some((number, one)) = all.find(|(_, one)| one.name == name) else {
            return self.say(format_args!(
                "the console does not manage {name}: its [[vm]] would need managers = [\"console\"]"
            ));
        };
        let Some(verb) = verb else {
            let (state, starts) = (one.vm.state(), one.vm.starts());
            return self.say(format_args!("{name} is {state}, start {starts}"));
        };
        one.vm.ask(verb);
        one.asked = Some((verb, until));
        self.hardware.signal_vm(number);
        self.wake_at(until);
    }

    /// Says the answers that have come.
    pub(super) fn hear_vms(&mut self) {
        for number in 0..self.vms.0.len() {
            let Some(one) = self.vms.0.get_mut(number) else { return };
            let Some((verb, until)) = one.asked else { continue };
            let answer = one.vm.answer();
            if answer.is_none() && self.hardware.now() < until {
                self.wake_at(until);
                continue;
            }
            one.asked = None;
            let (name, state, verb) = (one.name.clone(), one.vm.state(), verb.word());
            match answer {
                Some(Answer::Done) => self.say(format_args!("{name} is {state}")),
                Some(Answer::NotNow) => self.say(format_args!("{name} is {state}: nothing to {verb}")),
                Some(Answer::Unknown) => {
                    self.say(format_args!("{name} has no button to {verb}: see `chipset` of its [[vm]]"));
                }
                Some(Answer::Refused) => {
                    self.say(format_args!("the console may not {verb} {name}: see `managers` of its [[vm]]"));
                }
                None => self.say(format_args!("{name} does not answer")),
            }
        }
    }
}
