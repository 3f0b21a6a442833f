//! `cargo xtask test`: runs every test, two boots at a time, and counts the results.
//!
//! A test that this machine cannot run is counted and listed with the reason, never skipped silently; likewise the
//! tests of the long form (`--all`) in a short run.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Instant;

use capdl_spec::host::mistake;
use miette::{IntoDiagnostic, Result, miette};

use crate::bochs::{Machine, Options};
use crate::image::{self, Image};
use crate::kernel::{self, Build, Kernel, Lacking, Prefix};
use crate::packages::Purpose;
use crate::project::Project;
use crate::{defects, progress, room, setup};

/// How many emulators run at a time.
const BOOTS_AT_A_TIME: usize = 2;

/// The layers of tests in running order, the cheap ones first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Group {
    /// Format, lints and the unit tests of all packages, on the host.
    Check,
    /// Wrong descriptions and their errors.
    Spec,
    /// Servers on seL4, called by a test client.
    Components,
    /// Tiny guests: an instruction or a device each.
    Guests,
    /// Whole systems with Linux in them.
    Boots,
    /// Pages of documentation, executed as they say.
    Walkthroughs,
}

impl Group {
    /// As it appears in test names.
    pub fn name(self) -> &'static str {
        match self {
            Self::Check => "check",
            Self::Spec => "spec",
            Self::Components => "components",
            Self::Guests => "guests",
            Self::Boots => "boots",
            Self::Walkthroughs => "walkthroughs",
        }
    }

    /// Whether its tests run concurrently. The first use all cores by themselves; the last build systems that others
    /// boot.
    fn is_parallel(self) -> bool {
        self >= Self::Components && self < Self::Walkthroughs
    }
}

/// How a test ended, if it did not fail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It passed, with a remark that may be empty.
    Passed(String),
    /// This machine cannot run it; why.
    Skipped(String),
}

/// It passed, without a remark.
pub fn passed() -> Result<Outcome> {
    Ok(Outcome::Passed(String::new()))
}

/// One test.
#[derive(Clone)]
pub struct Test {
    /// Its layer.
    pub group: Group,
    /// What it shows.
    pub name: &'static str,
    /// The test itself.
    pub run: fn(&Context) -> Result<Outcome>,
    long: bool,
    /// The defects of a kernel by which it fails.
    fails_by: &'static [&'static str],
}

impl Test {
    /// A test that every run includes.
    pub fn new(group: Group, name: &'static str, run: fn(&Context) -> Result<Outcome>) -> Self {
        Self { group, name, run, long: false, fails_by: &[] }
    }

    /// The same test, which shows these defects: it may fail on a user's kernel in which `kernel-check` has found one.
    pub fn fails_by(self, defects: &'static [&'static str]) -> Self {
        Self { fails_by: defects, ..self }
    }

    /// The same test, in the long form of the suite only: it takes minutes, and its result rarely changes.
    pub fn long(self) -> Self {
        Self { long: true, ..self }
    }

    /// Group and name, as filters see them.
    pub fn full_name(&self) -> String {
        format!("{}/{}", self.group.name(), self.name)
    }
}

/// State that tests share: the project, and the images built so far.
pub struct Context {
    /// The project under test.
    pub project: Project,
    images: Mutex<BTreeMap<String, Image>>,
    /// Locks of folders that must stay as long as tests run.
    used: Mutex<Vec<File>>,
}

impl Context {
    /// A context without any built images.
    pub fn new(project: Project) -> Self {
        Self { project, images: Mutex::default(), used: Mutex::default() }
    }

    /// The kernel prefix, built if need be.
    pub fn prefix(&self, kernel: impl Into<Kernel>) -> Result<Prefix> {
        // Also under the images' lock, since two builds of the same kernel would overwrite each other's files.
        let _building = self.images.lock().unwrap_or_else(PoisonError::into_inner);
        kernel::prefix(&self.project, kernel.into())
    }

    /// Any prefix, for interface files alone: a debug kernel's, which has all system calls, if there is one.
    pub fn interface(&self) -> Result<Prefix> {
        match self.prefix(Build::Debug) {
            Err(error) if error.is::<Lacking>() => self.prefix(Build::Release),
            found => found,
        }
    }

    /// A system's image, built once for all tests.
    pub fn image(&self, system: &str, build: Build) -> Result<Image> {
        let mut images = self.images.lock().unwrap_or_else(PoisonError::into_inner);
        let key = format!("{system} {}", build.name());
        if let Some(image) = images.get(&key) {
            return Ok(image.clone());
        }
        let image = image::build(&self.project, system, build)?;
        images.insert(key, image.clone());
        Ok(image)
    }

    /// A folder for the files of a system that a test builds by itself. No other build removes it to make room.
    pub fn folder(&self, name: &str) -> Result<PathBuf> {
        let dir = self.project.images(name);
        std::fs::create_dir_all(self.project.images("")).into_diagnostic()?;
        let lock = room::share(&dir)?;
        self.used.lock().unwrap_or_else(PoisonError::into_inner).push(lock);
        std::fs::create_dir_all(&dir).into_diagnostic()?;
        Ok(dir)
    }

    /// Boots a system in Bochs, with a console for the test.
    pub fn boot(&self, system: &str, build: Build) -> Result<Machine> {
        self.boot_with(system, build, |_| {})
    }

    /// The same, with other options: no input, further devices, another amount of memory.
    pub fn boot_with(&self, system: &str, build: Build, change: impl FnOnce(&mut Options)) -> Result<Machine> {
        let image = self.image(system, build)?;
        let mut options = image.options(&format!("test-{}", image.system));
        change(&mut options);
        Machine::boot(&self.project, &options)
    }
}

/// Which tests a run includes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// The tests to run after every change.
    Short,
    /// Everything (`--all`).
    Long,
}

/// Prints the names of the tests that a filter selects.
pub fn list(tests: Vec<Test>, filter: &str) -> Result<ExitCode> {
    for test in selected(tests, filter)? {
        progress::print(&format!("{}{}", test.full_name(), if test.long { "  (--all)" } else { "" }));
    }
    Ok(ExitCode::SUCCESS)
}

fn selected(tests: Vec<Test>, filter: &str) -> Result<Vec<Test>> {
    let (mut chosen, others): (Vec<Test>, Vec<Test>) =
        tests.into_iter().partition(|test| test.full_name().contains(filter));
    if chosen.is_empty() {
        let names: Vec<String> = others.iter().map(Test::full_name).collect();
        let short = others.iter().map(|test| test.name);
        let known: Vec<&str> = names.iter().map(String::as_str).chain(short).collect();
        let help = match mistake::close(filter, &known) {
            Some(name) => format!("did you mean `{name}`? `cargo xtask test --list` shows all names"),
            None => "`cargo xtask test --list` shows the names".to_owned(),
        };
        return Err(miette!(help = help, "no test's name contains `{filter}`"));
    }
    // Stable: within a group, the order of the list stays.
    chosen.sort_by_key(|test| test.group);
    Ok(chosen)
}

/// Runs the tests that a filter selects, of the long ones only those that it names in full unless the form is the long
/// one. The exit code says whether all of them passed.
pub fn run(project: &Project, tests: Vec<Test>, filter: &str, form: Form) -> Result<ExitCode> {
    let (tests, left): (Vec<Test>, Vec<Test>) = selected(tests, filter)?
        .into_iter()
        .partition(|test| !test.long || form == Form::Long || [test.name, &test.full_name()].contains(&filter));
    setup::ensure(&[Purpose::Kernel, Purpose::Image, Purpose::Bochs])?;
    let context = Context::new(project.clone());
    let started = Instant::now();
    let (beside, alone): (Vec<Test>, Vec<Test>) = tests.into_iter().partition(|test| test.group.is_parallel());
    let left = left.iter().map(|test| format!("  {}", test.full_name())).collect();
    let (before, after): (Vec<Test>, Vec<Test>) = alone.into_iter().partition(|test| test.group < Group::Components);
    let mut results = Results { left, defects: defects::present(project)?, ..Results::default() };
    for test in before {
        results.add(&test, judge(&test, &context));
    }
    let queue = Mutex::new(VecDeque::from(beside));
    let results = Mutex::new(results);
    thread::scope(|scope| {
        for _ in 0..BOOTS_AT_A_TIME {
            scope.spawn(|| {
                while let Some(test) = take(&queue) {
                    let verdict = judge(&test, &context);
                    results.lock().unwrap_or_else(PoisonError::into_inner).add(&test, verdict);
                }
            });
        }
    });
    let mut results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
    for test in after {
        results.add(&test, judge(&test, &context));
    }
    progress::print(&results.summary(started.elapsed().as_secs()));
    Ok(if results.failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn take(queue: &Mutex<VecDeque<Test>>) -> Option<Test> {
    queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
}

/// A test's result and the seconds that it took.
type Verdict = (Result<Outcome>, f32);

fn judge(test: &Test, context: &Context) -> Verdict {
    let started = Instant::now();
    let result = catch_unwind(AssertUnwindSafe(|| (test.run)(context)));
    let result = result.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
        Err(miette!("it panicked: {}", text.unwrap_or("(no message)")))
    });
    (result, started.elapsed().as_secs_f32())
}

#[derive(Default)]
struct Results {
    /// The known defects of the user's kernel.
    defects: BTreeSet<String>,
    passed: u32,
    failed: Vec<String>,
    /// Failed by a known defect.
    endangered: Vec<String>,
    skipped: Vec<String>,
    left: Vec<String>,
}

impl Results {
    fn add(&mut self, test: &Test, (result, seconds): Verdict) {
        let name = test.full_name();
        let (word, note) = match result {
            Ok(Outcome::Passed(note)) => {
                self.passed += 1;
                ("ok  ", note)
            }
            Ok(Outcome::Skipped(reason)) => {
                self.skipped.push(format!("  {name}: {reason}"));
                ("skip", reason)
            }
            // A test that needs another kernel than those that the user names.
            Err(error) if error.chain().any(|cause| cause.is::<Lacking>()) => {
                let reason = error.root_cause().to_string();
                self.skipped.push(format!("  {name}: {reason}"));
                ("skip", reason)
            }
            Err(error) if test.fails_by.iter().any(|defect| self.defects.contains(*defect)) => {
                let defects: Vec<&str> =
                    test.fails_by.iter().copied().filter(|defect| self.defects.contains(*defect)).collect();
                progress::say(&format!("{name} failed, by a known defect of this kernel:\n{error:?}"));
                let defects = defects.join(", ");
                self.endangered.push(format!("  {name}: {defects}"));
                ("FAIL", format!("known defects of this kernel: {defects}"))
            }
            Err(error) => {
                let error = match kernel::are_own() && !test.fails_by.is_empty() {
                    true => error.wrap_err(format!(
                        "not among this kernel's known defects, as far as `cargo xtask kernel-check` has been run: {}",
                        test.fails_by.join(", ")
                    )),
                    false => error,
                };
                progress::say(&format!("{name} failed:\n{error:?}"));
                self.failed.push(format!("  {name}"));
                ("FAIL", String::new())
            }
        };
        let note = if note.is_empty() { note } else { format!("  ({note})") };
        progress::print(&format!("{word} {name}  {seconds:.1} s{note}"));
    }

    fn summary(&self, seconds: u64) -> String {
        let mut text = format!("\nAfter {} min {} s:\n", seconds / 60, seconds % 60);
        let lists = [
            ("Could not run here:", &self.skipped),
            ("Left to `cargo xtask test --all`:", &self.left),
            ("Failed by known defects of this kernel (docs/kernel-defects.md):", &self.endangered),
            ("Failed:", &self.failed),
        ];
        for (heading, names) in lists {
            if !names.is_empty() {
                text += &format!("{heading}\n{}\n", names.join("\n"));
            }
        }
        text += &format!("{} passed, {} failed, {} skipped", self.passed, self.failed.len(), self.skipped.len());
        if !self.endangered.is_empty() {
            text += &format!(", {} by known defects", self.endangered.len());
        }
        if self.left.is_empty() { text } else { text + &format!(", {} left to --all", self.left.len()) }
    }
}

#[cfg(test)]
mod unit {
    use super::*;

    fn test(name: &'static str) -> Test {
        Test::new(Group::Check, name, |_| passed())
    }

    #[test]
    fn the_summary_names_what_failed_and_what_could_not_run_and_ends_with_the_counts() {
        let mut results = Results::default();
        results.add(&test("good"), (passed(), 0.1));
        results.add(&test("bad"), (Err(miette!("x")), 0.1));
        results.add(&test("impossible"), (Ok(Outcome::Skipped("no KVM".into())), 0.1));
        let text = results.summary(61);
        assert!(text.contains("check/impossible: no KVM") && text.contains("Failed:\n  check/bad"), "{text}");
        assert_eq!(text.lines().last(), Some("1 passed, 1 failed, 1 skipped"));
    }

    #[test]
    fn a_test_whose_kernel_the_user_does_not_name_is_counted_as_skipped() {
        let mut results = Results::default();
        let error = miette::Report::from(Lacking("no debug kernel".into())).wrap_err("SEL4_PREFIX").wrap_err("boot");
        results.add(&test("debug"), (Err(error), 0.1));
        let text = results.summary(1);
        assert!(text.contains("Could not run here:\n  check/debug: no debug kernel"), "{text}");
        assert_eq!(text.lines().last(), Some("0 passed, 0 failed, 1 skipped"));
    }

    #[test]
    fn a_test_that_fails_by_a_known_defect_of_the_users_kernel_is_counted_apart() {
        let mut results = Results { defects: ["cr2".to_owned()].into(), ..Results::default() };
        results.add(&test("state").fails_by(&["cr2"]), (Err(miette!("lost")), 0.1));
        results.add(&test("state").fails_by(&["cr2"]), (passed(), 0.1));
        results.add(&test("ports").fails_by(&["ports"]), (Err(miette!("open")), 0.1));
        let text = results.summary(1);
        assert!(text.contains("(docs/kernel-defects.md):\n  check/state: cr2\nFailed:\n  check/ports\n"), "{text}");
        assert_eq!(text.lines().last(), Some("1 passed, 1 failed, 0 skipped, 1 by known defects"));
    }

    #[test]
    fn the_summary_names_what_was_left_to_the_long_form() {
        let mut results = Results { left: vec!["  check/slow".into()], ..Results::default() };
        results.add(&test("good"), (passed(), 0.1));
        let text = results.summary(1);
        assert!(text.contains("Left to `cargo xtask test --all`:\n  check/slow\n"), "{text}");
        assert_eq!(text.lines().last(), Some("1 passed, 0 failed, 0 skipped, 1 left to --all"));
    }

    #[test]
    fn a_name_that_no_test_has_is_answered_with_the_nearest() {
        let tests = || vec![test("lints"), test("units")];
        let help = |filter| selected(tests(), filter).err().and_then(|error| Some(error.help()?.to_string()));
        assert_eq!(help("lint"), None);
        assert!(help("lnits").is_some_and(|help| help.starts_with("did you mean `lints`?")));
        assert!(help("check/unit s").is_some_and(|help| help.starts_with("did you mean `check/units`?")));
        assert!(help("boots/other").is_some_and(|help| help.starts_with("`cargo xtask test --list`")));
    }

    #[test]
    fn a_panicking_test_fails_and_the_others_go_on() {
        let context = Context::new(Project { root: "/nowhere".into(), target: "/nowhere".into() });
        let bad = Test { run: |_| panic!("oh"), ..test("bad") };
        let (result, _) = judge(&bad, &context);
        assert_eq!(result.unwrap_err().to_string(), "it panicked: oh");
    }
}
