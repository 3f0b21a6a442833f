//! The audit with names in place of numbers, as JSON has it.

use serde::Serialize;

use super::{Audit, Class, Degree, Flow, Medium, paths::Path};

/// The audit, to be encoded.
#[derive(Serialize)]
pub struct Named<'a> {
    system: &'a str,
    processes: Vec<Process<'a>>,
    pairs: Vec<Pair<'a>>,
    /// What servers and drivers could leak (flows to them) and forge (flows from them).
    exchanged: Vec<Step<'a>>,
}

#[derive(Serialize)]
struct Process<'a> {
    name: &'a str,
    class: Class,
}

#[derive(Serialize)]
struct Pair<'a> {
    from: &'a str,
    to: &'a str,
    /// `null` if nothing flows.
    degree: Option<Degree>,
    data: bool,
    /// The flows between the two with nobody in between but a server that does what it is for.
    flows: Vec<Step<'a>>,
    /// The shortest path on which nobody is taken over.
    path: Option<Vec<Step<'a>>>,
    if_taken_over: Vec<TakenOver<'a>>,
}

#[derive(Serialize)]
struct TakenOver<'a> {
    who: &'a str,
    path: Vec<Step<'a>>,
}

#[derive(Serialize)]
struct Step<'a> {
    from: &'a str,
    to: &'a str,
    medium: Medium,
    #[serde(skip_serializing_if = "str::is_empty")]
    what: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    server: Option<&'a str>,
}

impl Audit {
    /// With names.
    pub fn named(&self) -> Named<'_> {
        let pairs = self.pairs.iter().map(|pair| {
            let own = self.flows.iter().filter(|flow| (flow.from, flow.to) == (pair.from, pair.to));
            let taken = pair.if_taken_over.iter();
            Pair {
                from: self.name(pair.from),
                to: self.name(pair.to),
                degree: pair.degree,
                data: pair.data,
                flows: own.map(|flow| self.step(flow)).collect(),
                path: pair.path.as_ref().map(|path| self.steps(path)),
                if_taken_over: taken
                    .map(|one| TakenOver { who: self.name(one.who), path: self.steps(&one.path) })
                    .collect(),
            }
        });
        Named {
            system: &self.system,
            processes: self.subjects.iter().map(|one| Process { name: &one.name, class: one.class }).collect(),
            pairs: pairs.collect(),
            exchanged: self.exchanged.iter().map(|flow| self.step(flow)).collect(),
        }
    }

    fn step<'a>(&'a self, flow: &'a Flow) -> Step<'a> {
        Step {
            from: self.name(flow.from),
            to: self.name(flow.to),
            medium: flow.medium,
            what: &flow.what,
            server: flow.server.map(|server| self.name(server)),
        }
    }

    fn steps<'a>(&'a self, path: &'a Path) -> Vec<Step<'a>> {
        path.steps.iter().map(|flow| self.step(flow)).collect()
    }
}
