//! Processors: those that the kernels for `pc`, `cma34cr` and `pc-modern` claim, and ones that lack a feature, which the
//! kernel names in one sentence. The first with RDRAND is an Ivy Bridge, so older ones have no entropy device. Also
//! boots the ISO as a disk.

use std::time::Duration;

use miette::{IntoDiagnostic, Result, WrapErr, ensure};

use super::{LIMIT, ask, at, last_lines, wait_for_shell};
use crate::bochs;
use crate::kernel::{self, Build};
use crate::project;
use crate::test::{Context, Group, Outcome, Test, passed};

pub fn all() -> Vec<Test> {
    let test = |name, run| Test::new(Group::Boots, name, run);
    // A kernel without our patch has no guests in small pages.
    let shells = vec![
        test("a-cma34cr-is-an-ivy-bridge", |context| reaches_the_shell(context, "cma34cr", IVY_BRIDGE)),
        test("a-pc-is-a-nehalem", |context| reaches_the_shell(context, "pc", NEHALEM)),
        test("a-pc-is-a-sandy-bridge", |context| reaches_the_shell(context, "pc", SANDY_BRIDGE)).long(),
        test("a-pc-is-a-skylake", |context| reaches_the_shell(context, "pc", SKYLAKE)).long(),
        test("a-modern-pc-is-a-haswell", |context| reaches_the_shell(context, "pc-modern", HASWELL)).long(),
        test("a-modern-pc-is-a-skylake", |context| reaches_the_shell(context, "pc-modern", SKYLAKE)),
        test("a-modern-pc-is-a-cannon-lake", |context| reaches_the_shell(context, "pc-modern", CANNON_LAKE)).long(),
        test("a-modern-pc-is-an-ice-lake", |context| reaches_the_shell(context, "pc-modern", ICE_LAKE)).long(),
        test("a-modern-pc-is-a-tiger-lake", |context| reaches_the_shell(context, "pc-modern", TIGER_LAKE)).long(),
        test("a-modern-pc-is-a-sapphire-rapids", |context| reaches_the_shell(context, "pc-modern", SAPPHIRE_RAPIDS))
            .long(),
        test("a-modern-pc-is-an-arrow-lake", |context| reaches_the_shell(context, "pc-modern", ARROW_LAKE)).long(),
    ];
    let mut all: Vec<Test> = shells.into_iter().map(|test| test.fails_by(&["large-pages"])).collect();
    all.extend([
        test("what-a-processor-lacks-is-said-in-one-sentence", lacking),
        test("the-iso-starts-as-a-disk", disk),
    ]);
    all
}

/// A processor of Bochs: its name there, and what the guest's Linux should find of it.
struct Model {
    name: &'static str,
    /// Flags that are in /proc/cpuinfo, of those in [`SEEN`].
    flags: &'static [&'static str],
}

/// Flags that came with some generation and that a 64-bit guest uses: it should see what its processor has and nothing else.
const SEEN: [&str; 9] = ["aes", "pcid", "rdrand", "fsgsbase", "bmi2", "invpcid", "pdpe1gb", "adx", "sha_ni"];

/// The first with EPT.
const NEHALEM: Model = Model { name: "corei5_lynnfield_750", flags: &[] };
const SANDY_BRIDGE: Model = Model { name: "corei7_sandy_bridge_2600k", flags: &["aes", "pcid"] };
const IVY_BRIDGE: Model = Model { name: "corei7_ivy_bridge_3770k", flags: &["aes", "pcid", "rdrand", "fsgsbase"] };
const HASWELL: Model =
    Model { name: "corei7_haswell_4770", flags: &["aes", "pcid", "rdrand", "fsgsbase", "bmi2", "invpcid", "pdpe1gb"] };
const SKYLAKE: Model = Model {
    name: "corei7_skylake_x",
    flags: &["aes", "pcid", "rdrand", "fsgsbase", "bmi2", "invpcid", "pdpe1gb", "adx"],
};
/// All of them.
const SINCE_CANNON_LAKE: &[&str] = &SEEN;
const CANNON_LAKE: Model = Model { name: "corei3_cnl", flags: SINCE_CANNON_LAKE };
const ICE_LAKE: Model = Model { name: "corei7_icelake_u", flags: SINCE_CANNON_LAKE };
const TIGER_LAKE: Model = Model { name: "tigerlake", flags: SINCE_CANNON_LAKE };
/// These two are in Bochs 3.0 and later.
const SAPPHIRE_RAPIDS: Model = Model { name: "sapphire_rapids", flags: SINCE_CANNON_LAKE };
const ARROW_LAKE: Model = Model { name: "arrow_lake", flags: SINCE_CANNON_LAKE };

/// The log's line when the description has an entropy device but the processor has neither RDSEED nor RDRAND.
const NO_ENTROPY: &str = "no entropy device, since this processor has neither RDSEED nor RDRAND";

/// The path of a description for a board: a guest of each width.
fn two_guests(context: &Context, board: &str) -> Result<String> {
    let vm = |name, memory, kernel| {
        format!(
            "[[vm]]\nname = \"{name}\"\nmemory = \"{memory} MiB\"\nkernel = \"{kernel}\"\ninitrd = \"debian-busybox\"\n"
        )
    };
    let (narrow, wide) = (vm("linux", 128, "debian-686"), vm("wide", 256, "debian-cloud-amd64"));
    let path = context.project.target.join(format!("test-systems/board-{board}.toml"));
    project::write(&path, format!("board = \"{board}\"\n{narrow}rng = true\n{wide}").as_bytes())?;
    Ok(path.to_string_lossy().into_owned())
}

/// A guest of 32 bits and one of 64 bits, each at its shell, on a board with this processor.
fn reaches_the_shell(context: &Context, board: &str, model: Model) -> Result<Outcome> {
    if !bochs::processors()?.iter().any(|known| known == model.name) {
        return Ok(Outcome::Skipped(format!("this Bochs has no {}", model.name)));
    }
    let system = two_guests(context, board)?;
    let mut machine = context.boot_with(&system, Build::Release, |options| {
        options.processor = model.name.to_owned();
    })?;
    wait_for_shell(&mut machine)?;
    let cpu = ask(&mut machine, "grep -m1 'model name' /proc/cpuinfo")?;
    let devices = ask(&mut machine, "cat /sys/bus/pci/devices/*/device")?;
    let entropy = model.flags.contains(&"rdrand");
    ensure!(devices.contains("0x1005\n") == entropy, "functions of the guest's bus:\n{devices}");
    ensure!(super::transcript(&machine).contains(NO_ENTROPY) != entropy, "the log:\n{}", last_lines(&machine));
    let flags = at(&mut machine, "wide", "grep -m1 flags /proc/cpuinfo")?;
    let flags: Vec<&str> = flags.split_whitespace().filter(|flag| SEEN.contains(flag)).collect();
    let (mut found, mut expected) = (flags.clone(), model.flags.to_vec());
    found.sort();
    expected.sort();
    ensure!(found == expected, "on {} a guest finds {found:?}, not {expected:?}", model.name);
    // Software cannot power this board off.
    machine.stop();
    Ok(Outcome::Passed(cpu.split_once(": ").map_or(cpu.as_str(), |(_, name)| name).trim().to_owned()))
}

/// The kernel's first message, before it has examined the processor.
const LACKS: &str = "seL4 stops: its configuration needs what this processor lacks: ";

/// Each processor, what boots on it, and the expected message.
const LACKING: [(&str, &str, Build, &str); 6] = [
    ("corei7_sandy_bridge_2600k", "minimal", Build::Release, "1 GiB pages, INVPCID, FSGSBASE; the board"),
    ("corei7_sandy_bridge_2600k", "minimal", Build::Debug, "1 GiB pages, INVPCID, FSGSBASE; the board"),
    ("corei7_ivy_bridge_3770k", "minimal", Build::Release, "1 GiB pages, INVPCID; the board"),
    ("p4_willamette", "pc", Build::Release, "64-bit mode, VT-x; the board"),
    ("turion64_tyler", "pc", Build::Release, "VT-x; the board"),
    ("core2_penryn_t9600", "pc", Build::Release, "seL4 stops: the processor's VT-x has no EPT\r\n"),
];

fn lacking(context: &Context) -> Result<Outcome> {
    if kernel::are_own() {
        return Ok(Outcome::Skipped(
            "the sentence is of a patch of ours; other kernels have words of their own".into(),
        ));
    }
    for (processor, system, build, what) in LACKING {
        let sentence = if what.starts_with("seL4") { what.to_owned() } else { format!("{LACKS}{what}") };
        let system = match system {
            "minimal" => system.to_owned(),
            board => two_guests(context, board)?,
        };
        let mut machine = context.boot_with(&system, build, |options| options.processor = processor.to_owned())?;
        let found = machine.console.expect(&sentence, Duration::from_secs(60));
        found.into_diagnostic().wrap_err_with(|| last_lines(&machine)).wrap_err_with(|| processor.to_owned())?;
        machine.stop();
    }
    passed()
}

/// ISOLINUX loads the kernel and root-task's image, starting from the disk's boot sector.
fn disk(context: &Context) -> Result<Outcome> {
    let mut machine = context.boot_with("minimal", Build::Release, |options| options.as_disk = true)?;
    let found = machine.console.expect("root-task: minimal: ", LIMIT);
    found.into_diagnostic().wrap_err_with(|| last_lines(&machine))?;
    machine.stop();
    let log = machine.log();
    ensure!(!log.contains("Booting from CD"), "it started from a CD:\n{log}");
    passed()
}
