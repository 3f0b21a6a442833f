//! VMs of one kind: a `[[vm]]` with `count` stands for that many, which differ in their names alone.

use std::borrow::Cow;

use layout::{guest_board::Chipset, limits::MAX_GUESTS};
use toml::Spanned;

use crate::{
    description::{
        mistake::{Mistake, Mistakes},
        system::{DEFAULT_CMDLINE, DEFAULT_CMDLINE_ACPI, System, Vm},
    },
    map::plural,
};

/// In a command line: the name of its VM.
const NAME: &str = "{name}";

impl System {
    /// Replaces each VM that has a `count` by the VMs that it stands for.
    pub(crate) fn expand(&mut self) -> Result<(), Mistakes> {
        let mut vms = Vec::new();
        for vm in core::mem::take(&mut self.vms) {
            let Some(count) = &vm.count else {
                vms.push(vm);
                continue;
            };
            let (message, remedy) = match usize::from(*count.get_ref()) {
                0 => {
                    let message = format!("`{}` stands for no VM at all", vm.name.get_ref());
                    (message, "write count = 1 or more, or leave the VM out".to_string())
                }
                n if vms.len() + n > MAX_GUESTS => too_many(vms.len() + n, 0),
                n => {
                    vms.extend((0..n).map(|n| vm.numbered(n)));
                    continue;
                }
            };
            return Err(Mistakes(vec![Mistake::new(&self.source, count.span(), message, remedy)]));
        }
        self.vms = vms;
        Ok(())
    }
}

/// What is wrong with more than [`MAX_GUESTS`], and what to do.
pub(crate) fn too_many(vms: usize, components: usize) -> (String, String) {
    let (all, surplus) = (vms + components, vms + components - MAX_GUESTS);
    let what = if components == 0 { plural(vms, "VM") } else { format!("{all} VMs and components") };
    let remedy = format!("leave out {surplus}: the servers have room for {MAX_GUESTS} VMs and components");
    (format!("{what} are too many"), remedy)
}

impl Vm {
    /// The VM `n` of those that this one stands for.
    fn numbered(&self, n: usize) -> Vm {
        let name = Spanned::new(self.name.span(), format!("{}{n}", self.name.get_ref()));
        Vm { name, ..self.clone() }
    }

    /// The guest's command line. A VM of several tells its guest its name, unless the description says something else.
    pub fn cmdline(&self) -> Cow<'_, str> {
        let name = self.name.get_ref();
        let usual = match self.chipset() {
            Chipset::Pc1995 => DEFAULT_CMDLINE,
            Chipset::Pc => DEFAULT_CMDLINE_ACPI,
        };
        match &self.cmdline {
            Some(line) => line.get_ref().replace(NAME, name).into(),
            None if self.count.is_some() => format!("{usual} hostname={name}").into(),
            None => usual.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::host::{self, Source};

    /// Names and command lines of the VMs of a description with these lines in its VM.
    fn vms(lines: &str) -> Vec<(String, String)> {
        let text = format!(
            "board = \"bochs\"\n[[vm]]\nname = \"web\"\nmemory = \"64 MiB\"\nkernel = \"debian-686\"\n{lines}\n"
        );
        let system = host::parse(Source { path: "x.toml".into(), text }).expect("it is right");
        system.vms.iter().map(|vm| (vm.name.get_ref().clone(), vm.cmdline().into_owned())).collect()
    }

    #[test]
    fn a_vm_with_a_count_is_that_many_with_names_of_their_own() {
        let vms = vms("count = 3");
        assert_eq!(vms.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["web0", "web1", "web2"]);
        assert!(vms.iter().all(|(name, line)| line.ends_with(&format!(" quiet hostname={name}"))), "{vms:?}");
    }

    #[test]
    fn one_is_a_count_too() {
        assert_eq!(vms("count = 1")[0].0, "web0");
        let alone = &vms("")[0];
        assert_eq!((alone.0.as_str(), alone.1.contains("hostname")), ("web", false));
    }

    #[test]
    fn a_command_line_names_its_vm() {
        let lines = |key: &str| vms(key).into_iter().map(|(_, line)| line).collect::<Vec<_>>();
        assert_eq!(lines("count = 2\ncmdline = \"a={name} {name}\""), ["a=web0 web0", "a=web1 web1"]);
        assert_eq!(lines("cmdline = \"a={name}\""), ["a=web"]);
    }
}
