//! `cargo xtask doctor`: reports what this machine has and lacks, and what therefore runs where. It changes nothing.

use std::fmt::Write as _;

use capdl_spec::host::{BOARDS, Processor};
use miette::Result;

use crate::kernel::{self, Build, Kernel, Platform};
use crate::packages::{self, Package, Purpose};
use crate::{setup, simulate};

/// What the processor and the host kernel offer for virtual machines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Virtualisation {
    /// /dev/kvm exists and can be opened.
    pub kvm: bool,
    /// The processor shows Intel VT-x.
    pub vmx: bool,
    /// The processor shows AMD SVM.
    pub svm: bool,
    /// KVM offers VT-x to its guests.
    pub nested: bool,
    /// The features that the processor lacks of those on which a kernel relies.
    pub lacking: Vec<&'static str>,
}

impl Virtualisation {
    /// Reads it from this machine.
    pub fn of_this_machine() -> Self {
        let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let kvm = std::fs::OpenOptions::new().read(true).write(true).open("/dev/kvm").is_ok();
        let nested = std::fs::read_to_string(simulate::NESTED).is_ok_and(|text| text.starts_with(['Y', 'y', '1']));
        Self { kvm, nested, ..Self::in_cpuinfo(&cpuinfo) }
    }

    /// What a processor shows in /proc/cpuinfo.
    fn in_cpuinfo(text: &str) -> Self {
        let lines = text.lines().filter(|line| line.starts_with("flags") || line.starts_with("vmx flags"));
        let values = lines.filter_map(|line| line.split_once(':')).map(|(_, values)| values);
        let flags: Vec<&str> = values.flat_map(str::split_whitespace).collect();
        let has = |wanted: &&str| flags.contains(wanted);
        let lacking = simulate::features(Processor::Haswell).iter().copied().filter(|flag| !has(flag)).collect();
        Self { kvm: false, vmx: has(&"vmx"), svm: has(&"svm"), nested: false, lacking }
    }

    /// Why QEMU cannot run a VT-x kernel here; `None` where it can.
    pub fn why_no_nested_vtx(&self) -> Option<&'static str> {
        match (self.kvm, self.vmx, self.svm) {
            (true, true, _) => (!self.nested).then_some(simulate::NESTING),
            (true, false, true) => Some("the processor is an AMD: KVM offers its guests SVM, and seL4 wants VT-x"),
            (true, false, false) => Some("/dev/kvm exists, but without VT-x or SVM behind it: it cannot nest"),
            (false, true, _) => Some(simulate::NO_KVM),
            (false, false, _) => Some("the processor shows no VT-x"),
        }
    }
}

/// The whole report, ready to print.
pub fn report() -> Result<String> {
    let report = describe(&system_name(), &packages::missing(packages::PACKAGES), &Virtualisation::of_this_machine());
    Ok(report + &kernels())
}

/// The kernels that the environment names, or why they cannot be used.
fn kernels() -> String {
    let mut text = String::new();
    let iommu = Kernel { build: Build::Debug, platform: Platform::Iommu };
    for kernel in [Build::Release.into(), Build::Debug.into(), iommu] {
        let variable = kernel.variable();
        let Some(dir) = std::env::var_os(variable) else { continue };
        let about = match kernel::own(variable, dir, kernel) {
            Ok(prefix) => {
                let about = prefix.about();
                prefix.remark().map_or_else(|| about.to_owned(), |remark| format!("{about}; {remark}"))
            }
            Err(error) => {
                let help = error.help().map(|help| format!(" ({help})")).unwrap_or_default();
                let causes: Vec<String> = error.chain().skip(1).map(ToString::to_string).collect();
                format!("unusable: {}{help}", causes.join(": "))
            }
        };
        let _ = writeln!(text, "{variable:18}{about}");
    }
    if !text.is_empty() && std::env::var_os(Kernel::from(Build::Release).variable()).is_none() {
        text += "SEL4_PREFIX       names none, and the others serve tests only: it has to name the kernel to ship\n";
    }
    if text.is_empty() {
        return "Kernel      5.0.0 with the project's patches, built here (SEL4_PREFIX names another)\n".into();
    }
    text
}

fn system_name() -> String {
    let release = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
    let name = release.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
    name.map_or_else(|| "an unknown system".into(), |name| name.trim_matches('"').to_owned())
}

fn describe(system: &str, missing: &[Package], machine: &Virtualisation) -> String {
    let mut text = String::new();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    // Writing to a String cannot fail.
    let _ = writeln!(text, "System      {system}, {cores} cores");
    let _ = writeln!(text, "Packages    installed {}", setup::way());
    for purpose in Purpose::ALL {
        let lacking = missing.iter().filter(|package| package.purpose == purpose);
        let names: Vec<&str> = lacking.map(|package| package.name).collect();
        let verdict = if names.is_empty() { "all here".into() } else { format!("missing: {}", names.join(" ")) };
        let optional = if purpose.is_optional() { " (optional)" } else { "" };
        let _ = writeln!(text, "  {:24}{verdict}{optional}", purpose.describe());
    }
    let yes_no = |have| if have { "yes" } else { "no" };
    let (kvm, vmx, svm) = (yes_no(machine.kvm), yes_no(machine.vmx), yes_no(machine.svm));
    let _ = writeln!(text, "Processor   VT-x {vmx}, SVM {svm}, /dev/kvm {kvm}");
    text.push_str(&where_what_runs(missing, machine));
    if !missing.is_empty() {
        let _ = writeln!(text, "To install  cargo xtask setup, or: {}", setup::by_hand(missing));
    }
    text
}

fn where_what_runs(missing: &[Package], machine: &Virtualisation) -> String {
    let complete = |purpose| missing.iter().all(|package| package.purpose != purpose);
    let bochs = if complete(Purpose::Bochs) { "yes" } else { "after `cargo xtask setup`" };
    let qemu = complete(Purpose::Qemu);
    let kvm = match machine.why_no_nested_vtx() {
        None if qemu => format!("yes{}", but_not(&machine.lacking)),
        None => "after installing qemu-system-x86".into(),
        Some(reason) => format!("no: {reason}"),
    };
    let tcg = if qemu { "yes" } else { "after installing qemu-system-x86" };
    format!(
        "Runs here\n  Bochs, all systems      {bochs} (emulates VT-x on any host)\n  \
         QEMU with KVM           {kvm}\n  QEMU, some tests only   {tcg} (emulates VT-d, but no VT-x)\n"
    )
}

/// The boards whose kernel needs what a processor lacks.
fn but_not(lacking: &[&str]) -> String {
    let needs = |processor| simulate::features(processor).iter().any(|flag| lacking.contains(flag));
    let boards = BOARDS.iter().filter(|board| board.vtx && needs(board.processor));
    let names: Vec<&str> = boards.map(|board| board.name).collect();
    if names.is_empty() {
        return String::new();
    }
    format!(", but no images for {}: the processor lacks {}", names.join(", "), lacking.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOTHING: Virtualisation =
        Virtualisation { kvm: false, vmx: false, svm: false, nested: false, lacking: Vec::new() };

    #[test]
    fn a_kvm_without_vtx_is_called_useless() {
        let text = describe("Debian", &[], &Virtualisation { kvm: true, ..NOTHING });
        assert!(text.contains("it cannot nest"), "{text}");
    }

    #[test]
    fn an_intel_host_with_kvm_runs_qemu() {
        let able = Virtualisation { kvm: true, vmx: true, nested: true, ..NOTHING };
        let text = describe("Debian", &[], &able);
        assert!(text.contains("QEMU with KVM           yes\n"), "{text}");
        let text = describe("Debian", &[], &Virtualisation { nested: false, ..able.clone() });
        assert!(text.contains("QEMU with KVM           no: KVM keeps VT-x from its guests: as root, write"), "{text}");
        let text = describe("Debian", &[], &Virtualisation { lacking: vec!["pcid", "invpcid"], ..able });
        assert!(
            text.contains("yes, but no images for bochs, pc-modern: the processor lacks pcid, invpcid\n"),
            "{text}"
        );
    }

    #[test]
    fn the_report_fits_one_screen_and_names_what_is_missing() {
        let text = describe("Debian", packages::PACKAGES, &NOTHING);
        assert!(text.contains("missing: bochs bochsbios vgabios"), "{text}");
        assert!(text.contains("apt-get install"), "{text}");
        assert!(text.lines().count() <= 24, "{text}");
    }

    #[test]
    fn flags_are_whole_words() {
        let old = "model name\t: X\nflags\t\t: fpu vmx_foo svm fsgsbase\nvmx flags\t: vnmi vpid ept\n";
        let seen = Virtualisation { svm: true, lacking: vec!["pcid", "invpcid", "pdpe1gb"], ..NOTHING };
        assert_eq!(Virtualisation::in_cpuinfo(old), seen);
    }
}
