//! The audit as text: a matrix of all pairs, then the flows by what they take, then what each server or driver could do.

use core::fmt::{self, Write};
use std::collections::{BTreeMap, BTreeSet};

use super::{
    Audit, Class, Degree, Flow, Medium, Pair,
    groups::{self, Pairs},
};
use crate::map::plural;

/// Columns of the text.
const WIDTH: usize = 100;

impl Audit {
    /// As text.
    pub fn text(&self) -> String {
        let mut out = String::new();
        // Writing to a String cannot fail.
        let _ = self.write(&mut out);
        out
    }

    fn write(&self, out: &mut String) -> fmt::Result {
        let count = |class: &[Class]| self.subjects.iter().filter(|one| class.contains(&one.class)).count();
        let (vms, components) = (count(&[Class::Vm]), count(&[Class::Component, Class::Driver]));
        let who = [plural(vms, "VM"), plural(components, "component")];
        let who: Vec<&str> = who.iter().map(String::as_str).filter(|words| !words.starts_with("0 ")).collect();
        writeln!(out, "{}: what flows between {}", self.system, who.join(" and "))?;
        self.matrix(out)?;
        section(out, "Direct", &self.grouped(|flow| flow.server.is_none()))?;
        section(out, "By the function of a server", &self.grouped(|flow| flow.server.is_some()))?;
        section(out, "Passed on by VMs and components in between", &self.relayed())?;
        writeln!(out, "\nIf one server or driver were taken over: which pairs it opens, what it could leak and forge")?;
        self.keepers(out)
    }

    /// All pairs: rows give, columns get.
    fn matrix(&self, out: &mut String) -> fmt::Result {
        let all: Vec<usize> = self.clients().collect();
        let wide = all.iter().map(|&n| self.name(n).chars().count()).max().unwrap_or_default();
        write!(out, "\n  {:>2} {:wide$}", "", "")?;
        (1..=all.len()).try_for_each(|n| write!(out, " {n:>2}"))?;
        writeln!(out)?;
        for (n, &from) in (1..).zip(&all) {
            write!(out, "  {n:>2} {:wide$}", self.name(from))?;
            for &to in &all {
                write!(out, "  {}", if from == to { '-' } else { self.pair(from, to).map_or('.', Pair::letter) })?;
            }
            writeln!(out)?;
        }
        writeln!(
            out,
            "\n  From the row to the column: D direct, F by the function of a server, R passed on by others,"
        )?;
        writeln!(out, "  s only if a server or driver were taken over, . not at all; d, f, r: signals, no data.")
    }

    /// Flows with what they have in common, each with the pairs that it is between.
    fn grouped(&self, which: impl Fn(&Flow) -> bool) -> Vec<String> {
        let mut groups: BTreeMap<String, Pairs> = BTreeMap::new();
        for flow in self.flows.iter().filter(|flow| which(flow)) {
            groups.entry(flow.with_server(&self.subjects)).or_default().insert((flow.from, flow.to));
        }
        self.described(groups)
    }

    fn described(&self, groups: BTreeMap<String, Pairs>) -> Vec<String> {
        let mut all = Vec::new();
        for (what, pairs) in groups {
            let lines = groups::lines(&pairs, &|n| self.name(n).to_string());
            all.extend(
                lines.into_iter().map(|line| format!("{line}: {what}").replace("every other: ", "every other, ")),
            );
        }
        all
    }

    /// Pairs whose shortest path leads through others, by those.
    fn relayed(&self) -> Vec<String> {
        let mut groups: BTreeMap<String, Pairs> = BTreeMap::new();
        let paths = self.pairs.iter().filter(|pair| pair.degree == Some(Degree::Relayed));
        for (pair, path) in paths.filter_map(|pair| Some((pair, pair.path.as_ref()?))) {
            groups.entry(path.way(&self.subjects)).or_default().insert((pair.from, pair.to));
        }
        self.described(groups)
    }

    /// For each server and driver: between whom it would open a path, what it could leak, and what it could forge.
    fn keepers(&self, out: &mut String) -> fmt::Result {
        for (n, subject) in self.subjects.iter().enumerate() {
            if !matches!(subject.class, Class::Server | Class::Driver) {
                continue;
            }
            let opens = self.pairs.iter().filter(|pair| pair.if_taken_over.iter().any(|one| one.who == n));
            let opens: Pairs = opens.map(|pair| (pair.from, pair.to)).collect();
            let lines = groups::lines(&opens, &|n| self.name(n).to_string());
            let opened = if lines.is_empty() { String::new() } else { format!(" opens {}", lines.join("; ")) };
            wrap(out, 2, &format!("{}{opened}", subject.name))?;
            for master in self.masters(n) {
                wrap(out, 4, &format!("leaks and forges {} {master}", Medium::AllMemory.words()))?;
            }
            for (whose, what) in self.exchanged_by(n) {
                let whose: Vec<String> = whose.into_iter().map(|n| self.name(n).to_string()).collect();
                wrap(out, 4, &format!("{}: {what}", groups::names(&whose)))?;
            }
        }
        Ok(())
    }

    /// By what a process reaches all memory: it has that in common with every other.
    fn masters(&self, who: usize) -> BTreeSet<&str> {
        let own = self.exchanged.iter().filter(|flow| flow.from == who && flow.medium == Medium::AllMemory);
        let own: BTreeSet<&str> = own.map(|flow| flow.what.as_str()).collect();
        let all = |what: &&str| {
            let others = self.exchanged.iter().filter(|flow| flow.from == who && flow.what == **what);
            others.count() + 1 == self.subjects.len()
        };
        own.into_iter().filter(all).collect()
    }

    /// What a server or driver could leak and forge, with those whom it concerns.
    fn exchanged_by(&self, keeper: usize) -> Vec<(BTreeSet<usize>, String)> {
        let mut groups: Vec<(BTreeSet<usize>, String)> = Vec::new();
        for other in self.clients().filter(|&other| other != keeper) {
            let things = |is: &dyn Fn(&Flow) -> bool| -> BTreeSet<String> {
                let of = self.exchanged.iter().filter(|flow| flow.medium != Medium::AllMemory && is(flow));
                of.map(|flow| if flow.medium == Medium::Memory { flow.what.clone() } else { flow.by() }).collect()
            };
            let leaked = things(&|flow| flow.from == other && flow.to == keeper);
            let forged = things(&|flow| flow.from == keeper && flow.to == other);
            let both: BTreeSet<String> = leaked.intersection(&forged).cloned().collect();
            let said = [("leaks and forges", &both), ("leaks", &(&leaked - &both)), ("forges", &(&forged - &both))];
            let said = said.iter().filter(|(_, things)| !things.is_empty());
            let said: Vec<String> = said
                .map(|(word, things)| format!("{word} {}", things.iter().cloned().collect::<Vec<_>>().join(", ")))
                .collect();
            let said = said.join("; ");
            match groups.iter_mut().find(|(_, what)| *what == said) {
                _ if said.is_empty() => {}
                Some((whose, _)) => {
                    whose.insert(other);
                }
                None => groups.push(([other].into(), said)),
            }
        }
        groups
    }
}

impl Pair {
    /// In the matrix.
    pub(super) fn letter(&self) -> char {
        let letter = match self.degree {
            Some(Degree::Direct) => 'D',
            Some(Degree::Function) => 'F',
            Some(Degree::Relayed) => 'R',
            Some(Degree::TakenOver) => 's',
            None => '.',
        };
        if self.data { letter } else { letter.to_ascii_lowercase() }
    }
}

fn section(out: &mut String, title: &str, lines: &[String]) -> fmt::Result {
    writeln!(out, "\n{title}")?;
    match lines {
        [] => writeln!(out, "  nothing"),
        lines => lines.iter().try_for_each(|line| wrap(out, 2, line)),
    }
}

/// A line after so many blanks, and the rest of it below, further right.
fn wrap(out: &mut String, indent: usize, line: &str) -> fmt::Result {
    let mut column = indent;
    write!(out, "{:indent$}", "")?;
    for (n, word) in line.split(' ').enumerate() {
        let wide = word.chars().count();
        match n {
            0 => {}
            _ if column + 1 + wide > WIDTH => {
                column = indent + 4;
                write!(out, "\n{:column$}", "")?;
            }
            _ => {
                column += 1;
                write!(out, " ")?;
            }
        }
        write!(out, "{word}")?;
        column += wide;
    }
    writeln!(out)
}
