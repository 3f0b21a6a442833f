//! Flows through others. A path leads through VMs and components of the user's own, which may pass on what they get; through a
//! server or driver only if that is taken over.

use std::collections::VecDeque;

use super::{Class, Degree, Flow, Medium, Model, Subject};

/// What a path may consist of.
#[derive(Clone, Debug, Default)]
pub(crate) struct Allowed {
    /// Servers and drivers that are taken over.
    pub taken_over: Vec<usize>,
    /// VMs and components that no path leads through.
    pub except: Vec<usize>,
    /// No path has a step that carries signals only.
    pub data_only: bool,
}

impl Allowed {
    /// One server or driver is taken over.
    pub fn taken_over(who: usize) -> Self {
        Allowed { taken_over: vec![who], ..Allowed::default() }
    }
}

/// The steps from one process to another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Path {
    /// Each begins where the one before it ends.
    pub steps: Vec<Flow>,
    /// Whether it leads through a server or driver that is taken over.
    pub taken_over: bool,
}

impl Path {
    /// How much it takes.
    pub fn degree(&self) -> Degree {
        match self.steps.as_slice() {
            _ if self.taken_over => Degree::TakenOver,
            [Flow { server: None, .. }] => Degree::Direct,
            [_] => Degree::Function,
            _ => Degree::Relayed,
        }
    }

    /// Whether data goes all the way.
    pub fn carries_data(&self) -> bool {
        self.steps.iter().all(|step| step.medium.carries_data())
    }

    /// The steps without their ends.
    pub fn way(&self, subjects: &[Subject]) -> String {
        let mut steps = self.steps.iter();
        let first = steps.next().map_or(String::new(), |step| step.with_server(subjects));
        steps.fold(first, |way, step| format!("{way} → {} → {}", subjects[step.from].name, step.with_server(subjects)))
    }

    /// In words, for messages.
    pub fn said(&self, subjects: &[Subject]) -> String {
        let name = |end: Option<usize>| end.map_or("", |n| subjects[n].name.as_str());
        let (from, to) = (self.steps.first().map(|step| step.from), self.steps.last().map(|step| step.to));
        format!("{} → {} → {}", name(from), self.way(subjects), name(to))
    }

    /// Who is in between.
    pub fn between(&self) -> impl Iterator<Item = usize> + '_ {
        self.steps.iter().skip(1).map(|step| step.from)
    }
}

/// All flows under an assumption.
pub(crate) struct Ways {
    flows: Vec<Flow>,
    /// For each pair, the flow that stands for it: one without a server before one with, data before signals.
    steps: Vec<Vec<Option<usize>>>,
    /// Whether a path may lead through each.
    open: Vec<bool>,
    keepers: Vec<bool>,
    data_only: bool,
}

impl Model<'_> {
    /// All flows, and where paths may lead.
    pub fn ways(&self, allowed: &Allowed) -> Ways {
        let taken = |n: usize| allowed.taken_over.contains(&n);
        let keeps = |n: usize| matches!(self.subjects[n].class, Class::Server | Class::Driver);
        let held = self.holdings(|n| !keeps(n) || taken(n));
        let mut flows = self.reach(&held);
        flows.extend(self.functions(&held));
        let count = self.subjects.len();
        let mut steps = vec![vec![None; count]; count];
        for (n, flow) in flows.iter().enumerate() {
            let step: &mut Option<usize> = &mut steps[flow.from][flow.to];
            let rank = |n: usize| (!flows[n].medium.carries_data(), flows[n].server.is_some());
            if step.is_none_or(|other| rank(n) < rank(other)) {
                *step = Some(n);
            }
        }
        let open = (0..count).map(|n| (!keeps(n) || taken(n)) && !allowed.except.contains(&n)).collect();
        Ways { flows, steps, open, keepers: (0..count).map(keeps).collect(), data_only: allowed.data_only }
    }
}

impl Ways {
    /// All of them.
    pub fn flows(&self) -> &[Flow] {
        &self.flows
    }

    /// The shortest path, through `by` if that is given; one that carries data before one that does not.
    pub fn path(&self, from: usize, to: usize, by: Option<usize>) -> Option<Path> {
        let data = self.search(from, to, by, true);
        data.or_else(|| if self.data_only { None } else { self.search(from, to, by, false) })
    }

    /// Breadth first. A place is a process, and whether the path to it leads through `by`.
    fn search(&self, from: usize, to: usize, by: Option<usize>, data_only: bool) -> Option<Path> {
        let (start, end) = ((from, by.is_none()), (to, true));
        let mut before = vec![[None; 2]; self.steps.len()];
        let mut queue = VecDeque::from([start]);
        while let Some(place) = queue.pop_front() {
            for (next, step) in self.steps[place.0].iter().enumerate() {
                let Some(step) = step.filter(|&step| !data_only || self.flows[step].medium.carries_data()) else {
                    continue;
                };
                let next = (next, place.1 || by == Some(next));
                let seen = &mut before[next.0][usize::from(next.1)];
                let passes = next == end || ![from, to].contains(&next.0) && self.open[next.0];
                if passes && seen.is_none() {
                    *seen = Some((place, step));
                    queue.push_back(next);
                }
            }
            if before[to][1].is_some() {
                break;
            }
        }
        let mut steps = Vec::new();
        let mut place = end;
        while place != start {
            let (earlier, step) = before[place.0][usize::from(place.1)]?;
            steps.push(self.flows[step].clone());
            place = earlier;
        }
        steps.reverse();
        let taken_over = steps.iter().skip(1).any(|step| self.keepers[step.from]);
        Some(Path { steps, taken_over })
    }
}

impl Medium {
    /// In words, before the name of the thing.
    pub fn words(self) -> &'static str {
        match self {
            Medium::Memory => "memory",
            Medium::Call => "calls",
            Medium::Reply => "replies",
            Medium::AllMemory => "all memory, by",
            Medium::Control => "control of",
            Medium::Ports => "ports",
            Medium::PciBus => "PCI",
            Medium::Network => "network",
            Medium::Sockets => "sockets",
            Medium::Disk => "disk",
            Medium::Signal => "signals",
            Medium::InterruptLine => "interrupt line,",
            Medium::InterruptMessage => "interrupts, by",
        }
    }
}

impl Flow {
    /// By what, without the server.
    pub(super) fn by(&self) -> String {
        format!("{} {}", self.medium.words(), self.what).trim_end().to_string()
    }

    /// By what, and by which server.
    pub(super) fn with_server(&self, subjects: &[Subject]) -> String {
        match self.server {
            Some(server) => format!("{} ({})", self.by(), subjects[server].name),
            None => self.by(),
        }
    }
}
