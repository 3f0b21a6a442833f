//! Executes the pages of docs/walkthroughs and the README: runs their commands and compares the answers.
//!
//! Each page runs in its own folder, which links to the project's folders, so that the page's files appear nowhere
//! else. Commands without a boot always run, and lines quoted from the tree have to be there. `add-a-device-model`,
//! `add-a-server` and `add-a-hypercall` change the tree: their edits always have to apply, and the long form changes, builds and tests a copy
//! of the tree.

use std::ffi::OsStr;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use capdl_spec::host::Debian;
use miette::{Context as _, IntoDiagnostic, Result, bail, ensure};

use crate::bochs::{Machine, last_lines};
use crate::guest::{self, debian};
use crate::kernel::{self, Build, Lacking};
use crate::process;
use crate::project::{self, Project};
use crate::test::{Context, Group, Outcome, Test};
use crate::walkthrough::{self, Action};

/// The tests of this file.
pub fn all() -> Vec<Test> {
    vec![
        Test::new(Group::Check, "walkthroughs-on-the-host", on_the_host),
        Test::new(Group::Walkthroughs, "systems-that-boot", booted).long(),
        Test::new(Group::Walkthroughs, "a-device-model", |context| changed(context, DEVICE_MODEL)).long(),
        Test::new(Group::Walkthroughs, "a-server", |context| changed(context, SERVER)).long(),
        Test::new(Group::Walkthroughs, "a-hypercall", |context| changed(context, HYPERCALL)).long(),
    ]
}

/// The pages that change the project.
const DEVICE_MODEL: &str = "add-a-device-model";
const SERVER: &str = "add-a-server";
const HYPERCALL: &str = "add-a-hypercall";
/// Prefixes of commands that boot a system, or read files that a boot has left.
const BOOTS: [&str; 3] = ["cargo xtask run", "cargo xtask test", "debugfs"];
/// How long a boot and each command of a session may take on a busy machine.
const LIMIT: Duration = Duration::from_secs(420);

/// A page's name, and what it says.
fn pages(project: &Project) -> Result<Vec<(String, String)>> {
    let folder = project.root.join("docs/walkthroughs");
    let mut files = vec![project.root.join("README.md")];
    for entry in std::fs::read_dir(&folder).into_diagnostic().wrap_err_with(|| folder.display().to_string())? {
        files.push(entry.into_diagnostic()?.path());
    }
    files.sort();
    let page = |file: &PathBuf| {
        let text = String::from_utf8_lossy(&project::read(file)?).into_owned();
        Ok((file.file_stem().unwrap_or_default().to_string_lossy().into_owned(), text))
    };
    files.iter().filter(|file| file.extension() == Some(OsStr::new("md"))).map(page).collect()
}

fn on_the_host(context: &Context) -> Result<Outcome> {
    let (mut commands, mut edits) = (0, 0);
    for (name, text) in pages(&context.project)? {
        let steps = walkthrough::steps(&text);
        // Edits that only quote are on any page.
        edits += fitting(&context.project.root, &steps).wrap_err_with(|| name.clone())?;
        if !changes(&name) {
            commands += follow(context, &name, &steps, |command| !boots(command)).wrap_err(name)?;
        }
    }
    ensure!(commands > 0 && edits > 0, "no page has a command, or none an edit");
    Ok(Outcome::Passed(format!("{commands} commands, {edits} edits and quotations")))
}

fn booted(context: &Context) -> Result<Outcome> {
    let mut commands = 0;
    for (name, text) in pages(&context.project)?.iter().filter(|(name, _)| !changes(name)) {
        commands += follow(context, name, &walkthrough::steps(text), boots).wrap_err_with(|| name.clone())?;
    }
    Ok(Outcome::Passed(format!("{commands} commands")))
}

fn changes(page: &str) -> bool {
    [DEVICE_MODEL, SERVER, HYPERCALL].contains(&page)
}

fn boots(command: &str) -> bool {
    BOOTS.iter().any(|begin| command.starts_with(begin))
}

/// Checks that all edits of a page apply to the files. Returns their number.
fn fitting(root: &Path, steps: &[Action]) -> Result<usize> {
    let mut count = 0;
    for step in steps {
        if let Action::Edit { path, hunks } = step {
            edited(&root.join(path), hunks)?;
            count += hunks.len();
        }
    }
    Ok(count)
}

/// A file with hunks applied.
fn edited(path: &Path, hunks: &[String]) -> Result<String> {
    let text = String::from_utf8_lossy(&project::read(path)?).into_owned();
    let changed = hunks.iter().try_fold(text, |text, hunk| walkthrough::apply(&text, hunk));
    changed.wrap_err_with(|| path.display().to_string())
}

/// Writes a page's files and runs the selected commands; returns their number.
fn follow(context: &Context, page: &str, steps: &[Action], wanted: impl Fn(&str) -> bool) -> Result<usize> {
    let project = &context.project;
    let any = steps.iter().any(|step| matches!(step, Action::Command { command, .. } if wanted(command)));
    if !any {
        return Ok(0);
    }
    let folder = project.target.join("walkthroughs").join(page);
    prepare(project, &folder)?;
    let mut count = 0;
    for step in steps {
        match step {
            Action::File { path, text } => add(&folder.join(path), text)?,
            Action::Edit { hunks, .. } if hunks.iter().all(|hunk| walkthrough::quotes(hunk)) => {}
            Action::Edit { path, .. } => bail!("{page} edits {path}, which is the project's"),
            Action::Command { command, answer } if wanted(command) => {
                match command.strip_prefix("cargo xtask run ") {
                    Some(system) if !system.contains(' ') => session(context, system, answer)?,
                    _ => run(project, &folder, command, answer)?,
                }
                count += 1;
            }
            Action::Command { .. } => {}
        }
    }
    Ok(count)
}

/// A new folder with links to the project's folders, and a kernel and an initrd for the reader.
fn prepare(project: &Project, folder: &Path) -> Result<()> {
    if folder.exists() {
        std::fs::remove_dir_all(folder).into_diagnostic()?;
    }
    std::fs::create_dir_all(folder).into_diagnostic()?;
    for name in ["systems", "tests", "build"] {
        symlink(project.root.join(name), folder.join(name)).into_diagnostic()?;
    }
    symlink(&project.target, folder.join("target")).into_diagnostic()?;
    let kernel = debian::kernel(project, Debian::I386)?;
    std::fs::copy(kernel, folder.join("bzImage")).into_diagnostic()?;
    std::fs::copy(guest::initramfs(project, Debian::I386, None)?, folder.join("initrd")).into_diagnostic()?;
    Ok(())
}

fn add(path: &Path, text: &str) -> Result<()> {
    let before = if path.exists() { project::read(path)? } else { Vec::new() };
    project::write(path, &[&before, text.as_bytes()].concat())
}

/// An interactive run: the text after a prompt in the answer is typed when the prompt appears.
fn session(context: &Context, system: &str, answer: &str) -> Result<()> {
    let image = context.image(system, Build::Release)?;
    let mut machine = Machine::boot(&context.project, &image.options(&image.system))?;
    let mut last = "";
    for (prompt, text) in answer.lines().filter_map(typed) {
        let waited = machine.console.expect(prompt, LIMIT);
        waited.into_diagnostic().wrap_err_with(|| format!("no `{prompt}` for `{text}`:\n{}", console(&machine)))?;
        machine.console.send(format!("{text}\r").as_bytes()).into_diagnostic()?;
        last = if text == "poweroff" { "" } else { prompt };
    }
    if last.is_empty() {
        machine.wait(LIMIT)?;
    } else {
        machine.console.expect(last, LIMIT).into_diagnostic()?;
    }
    let said = console(&machine);
    as_the_page_says(&format!("cargo xtask run {system}"), &format!("{answer}\n…"), &said)
}

/// Prompt and command of a line of a session.
fn typed(line: &str) -> Option<(&str, &str)> {
    let ends = ["login: ", "(initramfs) ", "# "];
    let (end, at) = ends.into_iter().find_map(|end| Some((end, line.find(end)?)))?;
    let (prompt, text) = line.split_at(at + end.len());
    (!text.is_empty() && !line[..at].trim_end().contains(' ')).then_some((prompt, text))
}

/// A console's output as a terminal shows it: without sequences that move the cursor or set modes (CSI, ECMA-48 section
/// 5.4), and without NUL, which has no effect.
fn console(machine: &Machine) -> String {
    let text = String::from_utf8_lossy(&machine.console.transcript()).replace(['\r', '\0'], "");
    let mut parts = text.split("\x1b[");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |text, part| {
        text + part.split_once(|c: char| ('@'..='~').contains(&c)).map_or("", |(_, rest)| rest)
    })
}

/// Runs a command as a reader's shell would, but runs this program for `cargo xtask`, and `cargo` on the project itself:
/// the target directory, and so the folder, may be anywhere.
fn run(project: &Project, folder: &Path, command: &str, answer: &str) -> Result<()> {
    const XTASK: &str = "cargo() { verb=$1; shift; \
        if [ \"$verb\" = xtask ]; then \"$XTASK\" \"$@\"; \
        else command cargo \"$verb\" --manifest-path \"$MANIFEST\" \"$@\"; fi; }";
    let mut shell = shell(folder, &format!("{XTASK}\n{command}"));
    shell
        // Not by its path, since `cargo test` may have replaced the file meanwhile.
        .env("XTASK", format!("/proc/{}/exe", std::process::id()))
        .env("CARGO_MANIFEST_DIR", project.root.join("build"))
        .env("CARGO_TARGET_DIR", &project.target)
        .env("MANIFEST", project.root.join("Cargo.toml"));
    compare(shell, command, answer)
}

fn shell(folder: &Path, script: &str) -> Command {
    let mut shell = process::tool("sh");
    shell.arg("-c").arg(format!("exec 2>&1\n{script}")).current_dir(folder).stdin(Stdio::null());
    // As at a terminal with the width of these pages.
    shell.env("CARGO_TERM_COLOR", "never").env("NO_COLOR", "1").env("COLUMNS", "120");
    kernel::hand_on(&mut shell);
    shell
}

fn compare(mut shell: Command, command: &str, answer: &str) -> Result<()> {
    let output = shell.output().into_diagnostic()?;
    let said = String::from_utf8_lossy(&output.stdout).replace('\r', "");
    if kernel::are_own() && said.contains("accept_kernel_defects = [") {
        return Err(Lacking(format!("the kernel has defects that endanger the system of `{command}`")).into());
    }
    as_the_page_says(command, answer, &said).wrap_err_with(|| format!("it ended with {}", output.status))
}

fn as_the_page_says(command: &str, answer: &str, said: &str) -> Result<()> {
    if walkthrough::matches(answer, said) {
        return Ok(());
    }
    let lines: Vec<&str> = answer.lines().collect();
    let begins = |count: &usize| walkthrough::matches(&format!("{}\n…", lines[..*count].join("\n")), said);
    let first = (1..=lines.len()).find(|count| !begins(count));
    let why = first.map_or("there is more behind its last line".to_owned(), |count| {
        format!("behind the lines before it, this one of the page's is not there:\n{}", lines[count - 1])
    });
    bail!("`{command}` does not answer as the page says; {why}\nIt ends\n{}", last_lines(said.as_bytes(), 30))
}

/// Changes a copy of the tree as a page says, and runs its commands there.
fn changed(context: &Context, page: &str) -> Result<Outcome> {
    let project = &context.project;
    let folder = project.target.join("walkthroughs").join(page);
    let (tree, target) = (folder.join("tree"), folder.join("target"));
    if tree.exists() {
        std::fs::remove_dir_all(&tree).into_diagnostic()?;
    }
    project::copy_tree(&project.root, &tree)?;
    std::fs::create_dir_all(&target).into_diagnostic()?;
    // Fetched files, and results that do not depend on the edited files.
    for name in ["guest", "sel4"] {
        let (shared, link) = (project.target.join(name), target.join(name));
        // A link to a folder that is not there yet could not be followed.
        std::fs::create_dir_all(&shared).into_diagnostic()?;
        if !link.exists() {
            symlink(shared, link).into_diagnostic()?;
        }
    }
    let (_, text) = pages(project)?.into_iter().find(|(name, _)| name == page).unwrap_or_default();
    let mut commands = 0;
    for step in walkthrough::steps(&text) {
        match step {
            Action::File { path, text } => add(&tree.join(path), &text)?,
            Action::Edit { path, hunks } => {
                let path = tree.join(path);
                project::write(&path, edited(&path, &hunks)?.as_bytes())?;
            }
            Action::Command { command, answer } => {
                let mut shell = shell(&tree, &command);
                shell.env("CARGO_TARGET_DIR", &target).env_remove("CARGO_MANIFEST_DIR");
                compare(shell, &command, &answer)?;
                commands += 1;
            }
        }
    }
    ensure!(commands > 0, "the page has no command");
    Ok(Outcome::Passed(format!("{commands} commands")))
}
