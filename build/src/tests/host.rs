//! Host-side results of the build: the kernel prefixes, the same in any environment, and the doctor's report.

use std::path::Path;

use miette::{IntoDiagnostic, Result, ensure};

use crate::kernel::{self, Build};
use crate::test::{Context, Group, Outcome, Test, passed};
use crate::{doctor, process, project};

/// The tests of this file.
pub fn all() -> Vec<Test> {
    let test = |name, run| Test::new(Group::Check, name, run);
    vec![
        test("kernel-prefixes", kernel_prefixes),
        test("a-hostile-environment-changes-nothing", hostile_environment),
        test("doctor", doctor_reports),
    ]
}

fn kernel_prefixes(context: &Context) -> Result<Outcome> {
    for build in [Build::Release, Build::Debug] {
        let prefix = context.prefix(build)?;
        ensure!(prefix.kernel().is_file(), "{} is missing", prefix.kernel().display());
    }
    passed()
}

/// Each of these variables breaks or changes a build that sees it. `@` stands for a directory with a space and a letter
/// outside ASCII in its name, in which a file `six.py` is no Python.
const HOSTILE: [(&str, &str); 30] = [
    ("RUSTFLAGS", "--cfg hostile"),
    ("CARGO_ENCODED_RUSTFLAGS", "--cfg\u{1f}hostile"),
    ("CARGO_BUILD_TARGET", "i686-unknown-linux-gnu"),
    ("CARGO_BUILD_RUSTFLAGS", "--cfg hostile"),
    ("CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_LINKER", "/bin/false"),
    ("CARGO_PROFILE_IMAGE_OPT_LEVEL", "0"),
    ("CARGO_PROFILE_RELEASE_STRIP", "symbols"),
    ("RUSTC_WRAPPER", "/bin/false"),
    ("RUSTC_WORKSPACE_WRAPPER", "/bin/false"),
    ("MAKEFLAGS", "-n"),
    ("GNUMAKEFLAGS", "-n"),
    ("MAKEFILES", "/dev/zero/none"),
    ("CC", "/bin/false"),
    ("CFLAGS", "-m32"),
    ("CPPFLAGS", "-DCONFIG_HOSTILE"),
    ("LDFLAGS", "-r"),
    ("CPATH", "@"),
    ("PYTHONPATH", "@"),
    ("PYTHONHOME", "@"),
    ("LD_PRELOAD", "/no/such.so"),
    ("GREP_OPTIONS", "--color=always"),
    ("LC_ALL", "tr_TR.UTF-8"),
    ("LANGUAGE", "tr"),
    ("TZ", "Asia/Kathmandu"),
    ("CDPATH", "/tmp"),
    ("BASH_ENV", "/no/such"),
    ("CMAKE_GENERATOR", "Ninja"),
    ("DESTDIR", "/no/such"),
    ("SOURCE_DATE_EPOCH", "1"),
    ("TMPDIR", "@"),
];

/// In a hostile environment the build keeps the servers as they are, and a kernel built below a path with a space has
/// the same bytes.
fn hostile_environment(context: &Context) -> Result<Outcome> {
    let place = context.project.target.join("a höstile place");
    let _ = std::fs::remove_dir_all(&place);
    project::write(&place.join("six.py"), b"this is no Python")?;
    let image = context.image("minimal", Build::Release)?;
    let root_task = image.iso.with_file_name("root-task");
    let prefix = context.prefix(Build::Release)?;
    let servers = context.project.target.join("servers").join(prefix.name());
    let servers = servers.join("x86_64-unknown-linux-gnu/image/root-task");
    let seen = || Ok::<_, miette::Report>((project::read(&root_task)?, written(&servers)?));
    let before = seen()?;
    hostile(&["image", "minimal"], &place, &context.project.target)?;
    ensure!(seen()? == before, "the root task is another, or its servers were built anew");
    if !kernel::are_own() {
        hostile(&["kernel"], &place, &place)?;
        let kernel = project::read(&place.join("sel4/release/bin/kernel.elf"))?;
        ensure!(kernel == project::read(&prefix.kernel())?, "the kernel is another");
    }
    std::fs::remove_dir_all(&place).into_diagnostic()?;
    passed()
}

fn written(path: &Path) -> Result<std::time::SystemTime> {
    std::fs::metadata(path).and_then(|data| data.modified()).into_diagnostic()
}

/// Runs this tool once more, with a umask that hides files and with everything of [`HOSTILE`].
fn hostile(arguments: &[&str], place: &Path, target: &Path) -> Result<()> {
    let mut shell = process::tool("sh");
    shell.args(["-c", "umask 077; exec \"$@\"", "sh"]);
    // The tests of all packages may have rebuilt this tool at the same path.
    let tool = std::env::current_exe().into_diagnostic()?.to_string_lossy().into_owned();
    shell.arg(tool.trim_end_matches(" (deleted)")).args(arguments);
    for (name, value) in HOSTILE {
        shell.env(name, value.replace('@', &place.to_string_lossy()));
    }
    kernel::hand_on(&mut shell);
    let manifest = std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    shell.env("CARGO_MANIFEST_DIR", manifest).env("CARGO_TARGET_DIR", target);
    process::run(&format!("check: {} in a hostile environment", arguments.join(" ")), shell).map(|_| ())
}

fn doctor_reports(_: &Context) -> Result<Outcome> {
    let report = doctor::report()?;
    for heading in
        ["System", "Packages", "Processor", "Runs here", if kernel::are_own() { "SEL4_PREFIX" } else { "Kernel" }]
    {
        ensure!(report.lines().any(|line| line.starts_with(heading)), "no line `{heading}` in\n{report}");
    }
    ensure!(report.lines().count() <= 24, "more than a screen:\n{report}");
    passed()
}
