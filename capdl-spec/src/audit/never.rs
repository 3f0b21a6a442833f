//! Policies that a flow breaks, with the path that it takes.

use super::{
    Flow, Medium, Model, Subject,
    paths::{Allowed, Path},
};
use crate::{
    compile::planned,
    description::{mistake::Mistake, never::Never, system::System},
};

/// The broken policies of a description.
pub(crate) fn broken(system: &System) -> Vec<Mistake> {
    let Some(first) = system.policy.never.first() else { return Vec::new() };
    let broken = planned(system).and_then(|bundle| {
        let model = Model::of(&bundle)?;
        Ok(system.policy.never.iter().filter_map(|never| model.mistake(system, never)).collect())
    });
    broken.unwrap_or_else(|error| {
        let message = format!("the policies cannot be checked: {error}");
        vec![Mistake::new(&system.source, first.from.span(), message, "without them, `cargo xtask map` says more")]
    })
}

impl Model<'_> {
    /// What is wrong if something flows in spite of a policy.
    fn mistake(&self, system: &System, never: &Never) -> Option<Mistake> {
        let path = self.carries(never)?;
        let (from, to) = (never.from.get_ref(), never.to.get_ref());
        let message = format!("`{from}` gives information to `{to}`: {}", path.said(&self.subjects));
        Some(Mistake::new(&system.source, never.from.span(), message, remedy(&self.subjects, never, &path)))
    }

    /// The path by which something flows in spite of a policy.
    fn carries(&self, never: &Never) -> Option<Path> {
        let client = |name: &str| self.clients().find(|&n| self.subjects[n].name == name);
        let all = |names: &[toml::Spanned<String>]| -> Vec<usize> {
            let named = |name: &toml::Spanned<String>| self.subjects.iter().position(|one| one.name == *name.get_ref());
            names.iter().filter_map(named).collect()
        };
        let (from, to) = (client(never.from.get_ref())?, client(never.to.get_ref())?);
        let except = all(&never.except_through);
        let allowed = |taken_over| Allowed { taken_over, except: except.clone(), data_only: never.except_signals };
        // Without anybody taken over first: that path says more.
        let honest = self.ways(&allowed(Vec::new())).path(from, to, None);
        honest.or_else(|| self.ways(&allowed(all(&never.even_if_taken_over))).path(from, to, None))
    }
}

/// What to do about the first step, or about the policy.
fn remedy(subjects: &[Subject], never: &Never, path: &Path) -> String {
    let first = path.steps.first().map(|step| of_step(subjects, step)).unwrap_or_default();
    let names = |all: &[&String]| all.iter().map(|name| format!("\"{name}\"")).collect::<Vec<_>>().join(", ");
    let between: Vec<&String> = path.between().map(|n| &subjects[n].name).collect();
    let trusted = never.even_if_taken_over.iter().map(|name| name.get_ref()).find(|name| between.contains(name));
    let or = match trusted {
        Some(server) => format!("leave `{server}` out of even_if_taken_over to trust it"),
        None if !path.carries_data() => "write except_signals = true: no data flows here".into(),
        None if !between.is_empty() => {
            format!("write except_through = [{}] to let them decide what passes", names(&between))
        }
        None => "leave this policy out".into(),
    };
    format!("{first}, or {or}")
}

fn of_step(subjects: &[Subject], step: &Flow) -> String {
    let (from, to, what) = (&subjects[step.from].name, &subjects[step.to].name, &step.what);
    match step.medium {
        Medium::Network | Medium::Sockets => format!("leave `{from}` or `{to}` out of `{what}`"),
        Medium::Disk => format!("give `{from}` and `{to}` no disk in common"),
        Medium::AllMemory => "pass through no bus master without an IOMMU".into(),
        Medium::PciBus => format!("give both functions to `{from}` or to `{to}`"),
        Medium::InterruptMessage => format!("give `{from}` no bus master"),
        Medium::InterruptLine => "choose devices with interrupt lines of their own".into(),
        _ => "take a step out of this path".into(),
    }
}
