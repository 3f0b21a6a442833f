//! From a description to something that boots: kernel, root-task image and ISO in target/images/SYSTEM.
//!
//! The servers are built in one cargo call of their own (they share a target triple with the host's tools, whose
//! features must not leak into them), against one kernel prefix. Each kernel build has its own cargo target directory,
//! so changing between them rebuilds nothing.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use capdl_spec::host::{
    self, CompileError, Files, Form, Image as GuestImage, Mistake, Mistakes, Origin, System, What, console,
};
use capdl_spec::spec::Spec;
use miette::{IntoDiagnostic, Result, miette};

use crate::board_memory::MemoryNeeds;
use crate::bochs::Options;
use crate::bochs::config::{Devices, MOST_MEMORY_MIB};
use crate::cache;
use crate::console::voice::Voice;
use crate::iso::Contents;
use crate::iso::menu::{Console, DEBUG_KERNEL};
use crate::kernel::{self, Build, Kernel, Prefix};
use crate::packages::Purpose;
use crate::progress::Step;
use crate::project::{self, Project};
use crate::simulate::{self, Simulated};
use crate::{guest, iso, process, programs, room, setup, slots};

/// The board that is Bochs.
const BOCHS: &str = "bochs";

/// A system, ready to boot.
#[derive(Debug, Clone)]
pub struct Image {
    /// The description's name.
    pub system: String,
    /// The kernel's release and configuration.
    pub kernel: String,
    /// The bootable ISO.
    pub iso: PathBuf,
    /// Bytes of the root-task image in it.
    pub bytes: u64,
    /// How much memory an emulated board needs for it, in MiB.
    pub memory_mib: u32,
    /// What an emulated board has plugged in for it.
    pub devices: Devices,
    /// The number of the COM port that is an emulated board's console.
    pub com: u8,
    /// What root-task makes.
    pub spec: Spec,
    /// The consoles' names; the first one has the keyboard.
    pub consoles: Vec<String>,
    /// Held as long as the image's files are in use.
    _lock: Arc<File>,
}

impl Image {
    /// The options to run it in Bochs, under a name.
    pub fn options(&self, name: &str) -> Options {
        let mut options = Options::new(name, &self.iso);
        options.memory_mib = self.memory_mib;
        options.devices = self.devices.clone();
        options.com = self.com;
        let processes = self.spec.processes.iter().map(|process| process.name.clone());
        options.voice = Voice::new(&self.consoles, processes.chain(["root-task".to_owned()]).collect());
        options
    }
}

/// Builds a system, named as on the command line.
pub fn build(project: &Project, name: &str, build: Build) -> Result<Image> {
    make(project, name, build, false)
}

/// The same for a machine whose user has the boot menu and nothing else to ask why a boot has stopped: it waits for a choice,
/// and has the debug kernel beside our release kernel.
pub fn build_for_a_board(project: &Project, name: &str, build: Build) -> Result<Image> {
    make(project, name, build, true)
}

fn make(project: &Project, name: &str, build: Build, waits: bool) -> Result<Image> {
    // Mistakes of the user are reported before steps that take minutes.
    let description = project.system(name)?;
    let mut system = host::load(&description)?;
    programs::check(project, &system)?;
    setup::ensure(&[Purpose::Kernel, Purpose::Image])?;
    let prefix = kernel::prefix(project, Kernel::of(&system, build))?;
    let beside = (waits && build == Build::Release && !kernel::are_own()).then_some(Build::Debug);
    let debug_kernel = beside.map(|build| kernel::prefix(project, Kernel::of(&system, build))).transpose()?;
    let suffix = if build == Build::Release { String::new() } else { format!("-{}", build.name()) };
    let dir = project.images(&format!("{}{suffix}", system.name));
    std::fs::create_dir_all(project.images("")).into_diagnostic()?;
    let lock = Arc::new(room::share(&dir)?);
    std::fs::create_dir_all(&dir).into_diagnostic()?;
    room::keep_newest(&project.images(""), room::MOST);
    let (root_task, spec) = make_root_task_image(project, &mut system, &prefix, &dir)?;
    let size = std::fs::metadata(&root_task).map_or(0, |data| data.len());
    slots::suffice(&prefix, &spec, size)?;
    let memory_mib = memory_mib(&system, &MemoryNeeds::of(&spec, size))?;
    let step = Step::start("image: write the ISO");
    let kernel32 = iso::elf32(&prefix.kernel(), &dir)?;
    let debug_kernel = debug_kernel.map(|prefix| iso::elf32_as(&prefix.kernel(), &dir, DEBUG_KERNEL)).transpose()?;
    let (debug_kernel, console) = (debug_kernel.as_deref(), Console::of(&system));
    let contents = Contents { kernel: &kernel32, debug_kernel, root_task: &root_task, console, waits };
    let iso = iso::with_contents(contents, &dir)?;
    step.done();
    let devices = devices(project, &system)?;
    // Another console is that of no emulated board; `run` refuses it.
    let com = console::com_number(console.port).unwrap_or(1);
    simulate::write(&dir, &Simulated { board: system.board(), com, memory_mib, devices: &devices, spec: &spec })?;
    let consoles = system.consoles();
    let kernel = prefix.about().to_owned();
    Ok(Image { system: system.name, kernel, iso, bytes: size, memory_mib, devices, com, spec, consoles, _lock: lock })
}

/// The name under which the probe is asked for, in place of a system's.
pub const PROBE: &str = "probe";

/// Builds the probe, which boots without seL4 and says what a board has: its ISO in target/images/probe.
pub fn probe(project: &Project) -> Result<PathBuf> {
    setup::ensure(&[Purpose::Image])?;
    let dir = project.images(PROBE);
    std::fs::create_dir_all(project.images("")).into_diagnostic()?;
    // One process or test at a time.
    let lock = room::lock_file(&dir)?;
    lock.lock().into_diagnostic()?;
    std::fs::create_dir_all(&dir).into_diagnostic()?;
    let step = Step::start("probe: build");
    let mut program = None;
    let cargo = building(&[PROBE], None, &project.root, &project.target.join("servers").join(PROBE));
    let said = process::capture(cargo, |line| match artifact(line) {
        Some((_, path)) => program = Some(path),
        None if line.starts_with('{') => {}
        None => step.note(line),
    });
    said.map_err(without_messages)?;
    step.done();
    let program = program.ok_or_else(|| miette!("cargo built no {PROBE}"))?;
    iso::with_probe(&program, &dir)
}

/// The root task with the bundle in it: specification, every server, every guest image. Returns its file and the
/// specification. If the images need the room, it moves the memory that devices access without an IOMMU.
pub fn make_root_task_image(
    project: &Project,
    system: &mut System,
    prefix: &Prefix,
    dir: &Path,
) -> Result<(PathBuf, Spec)> {
    // First the checks for the user's mistakes, then the steps that take minutes.
    let mut files = Files { images: guest_images(project, system)?, ..Files::default() };
    guest::loader::check(system, &files, prefix.processor()).map_err(Mistakes::report)?;
    // Two cargo calls: the root task has a heap, and in one call cargo would give the servers its features of shared
    // crates.
    let root_task = cargo_build(project, &["root-task"], prefix)?;
    let root_task = root_task.get("root-task").ok_or_else(|| miette!("cargo built no root-task"))?;
    let packages = system.packages();
    let packages: Vec<&str> = packages.iter().map(String::as_str).collect();
    let built = cargo_build(project, &packages, prefix)?;
    for part in system.parts() {
        let program = part.program;
        let path = match built.get(&program) {
            Some(path) => path.clone(),
            None => {
                let path = system.source.path.parent().unwrap_or(&project.root).join(&program);
                if path.is_dir() { outside(project, &path, prefix)? } else { path }
            }
        };
        files.elfs.insert(program, project::read(&path)?);
    }
    let bundle = match host::compile(system, &files) {
        Err(CompileError::Crowded { bundle, .. }) => {
            system.make_room(bundle);
            files.images = guest_images(project, system)?;
            host::compile(system, &files)?
        }
        compiled => compiled?,
    };
    let image = dir.join("root-task");
    let mut strip = process::tool("objcopy");
    strip.arg("--strip-debug").arg(root_task).arg(&image);
    process::output(strip)?;
    let elf = with_bundle(project::read(&image)?, &bundle.bytes)
        .ok_or_else(|| miette!("{} has no segment for the bundle (see crates/image-link)", root_task.display()))?;
    project::write(&image, &elf)?;
    Ok((image, bundle.spec))
}

/// The guests' images by name.
fn guest_images(project: &Project, system: &System) -> Result<BTreeMap<String, Vec<u8>>> {
    let mut images = BTreeMap::new();
    for image in system.images() {
        let path =
            guest_image(project, &image.origin, &image.form).map_err(|error| at_its_line(system, &image, error))?;
        images.insert(image.name, project::read(&path)?);
    }
    Ok(images)
}

/// The target of images. It is given explicitly, so that the user's `build.target` has no effect, and flags do not
/// apply to build scripts.
const TARGET: &str = "x86_64-unknown-linux-gnu";

/// The variable by which build scripts learn that another seL4 is installed at the same path, whatever the files' times.
const CONTENT: &str = "SEL4_PREFIX_CONTENT";

/// Builds image packages against a prefix; each one's ELF by package name.
pub fn cargo_build(project: &Project, packages: &[&str], prefix: &Prefix) -> Result<BTreeMap<String, PathBuf>> {
    let step = Step::start(&format!("{}: build ({})", packages.join(", "), prefix.name()));
    let mut built = BTreeMap::new();
    let target = project.target.join("servers").join(prefix.name());
    let mut cargo = building(packages, Some(prefix.dir()), &project.root, &target);
    cargo.env(CONTENT, cache::fingerprint(&prefix.dir().join("libsel4/include"))?);
    let said = process::capture(cargo, |line| match artifact(line) {
        Some((name, path)) => drop(built.insert(name, path)),
        None if line.starts_with('{') => {}
        None => step.note(line),
    });
    said.map_err(without_messages)?;
    step.done();
    all_of(packages, built)
}

/// Builds a crate outside of the project, in its folder, as the project's own packages are built. Returns its ELF.
fn outside(project: &Project, folder: &Path, prefix: &Prefix) -> Result<PathBuf> {
    const PROFILE: &str = "[profile.image]";
    let manifest = String::from_utf8_lossy(&project::read(&project.root.join("Cargo.toml"))?).into_owned();
    let (_, profile) = manifest.split_once(PROFILE).ok_or_else(|| miette!("Cargo.toml has no {PROFILE}"))?;
    let config = project.target.join("outside").join("profile.toml");
    project::write(&config, format!("{PROFILE}{profile}").as_bytes())?;
    // The versions that the project is tested with, unless the crate has chosen others, or is part of a workspace.
    let lock = folder.join("Cargo.lock");
    let own = String::from_utf8_lossy(&project::read(&folder.join("Cargo.toml"))?).into_owned();
    if !lock.exists() && own.lines().any(|line| line.trim() == "[workspace]") {
        project::write(&lock, &project::read(&project.root.join("Cargo.lock"))?)?;
    }
    let step = Step::start(&format!("{}: build ({})", folder.display(), prefix.name()));
    let mut built = Vec::new();
    // Packages of the same name are other programs.
    let name = cache::sha256(folder.canonicalize().into_diagnostic()?.as_os_str().as_encoded_bytes());
    let target = project.target.join("outside").join(name).join(prefix.name());
    let mut cargo = building(&[], Some(prefix.dir()), &project.root, &target);
    cargo.env(CONTENT, cache::fingerprint(&prefix.dir().join("libsel4/include"))?);
    cargo.arg("--manifest-path").arg(folder.join("Cargo.toml")).arg("--config").arg(&config);
    let linked = image_link::process().into_iter().map(|argument| format!("-Clink-arg={argument}"));
    let flags: Vec<String> = RUSTFLAGS.split(' ').map(str::to_owned).chain(linked).collect();
    cargo.env_remove("RUSTFLAGS").env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"));
    let said = process::capture(cargo, |line| match artifact(line) {
        Some((_, path)) => built.push(path),
        None if line.starts_with('{') => {}
        None => step.note(line),
    });
    said.map_err(without_messages)?;
    step.done();
    match <[PathBuf; 1]>::try_from(built) {
        Ok([path]) => Ok(path),
        Err(programs) => {
            let help = "it needs one [[bin]] and the feature `image`, as templates/component has them";
            Err(miette!(help = help, "{} builds {} programs for an image, not 1", folder.display(), programs.len()))
        }
    }
}

/// The paths from cargo's messages, since a file at the expected place may be an old one.
fn all_of(packages: &[&str], built: BTreeMap<String, PathBuf>) -> Result<BTreeMap<String, PathBuf>> {
    match packages.iter().find(|package| !built.contains_key(**package)) {
        Some(package) => Err(miette!("cargo built no program of the package {package}")),
        None => Ok(built),
    }
}

/// In every process, vector registers cost a trap if the guest uses them too, so automatic vectorisation is off.
const RUSTFLAGS: &str = "-Cno-vectorize-slp -Cno-vectorize-loops";

/// cargo's call in the folder `root`, against the prefix `dir` where the packages use seL4.
fn building(packages: &[&str], dir: Option<&Path>, root: &Path, target: &Path) -> Command {
    let mut cargo = process::cargo();
    cargo.current_dir(root);
    cargo.envs(dir.map(|dir| ("SEL4_PREFIX", dir)));
    cargo.env("RUSTFLAGS", RUSTFLAGS);
    cargo.env("CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_LINKER", "cc");
    cargo.args(["build", "--profile", "image", "--features", "image", "--bins", "--target", TARGET]);
    cargo.args(["--message-format", "json-render-diagnostics", "--target-dir"]);
    cargo.arg(target);
    for package in packages {
        cargo.args(["--package", package]);
    }
    cargo
}

/// The program that one of cargo's messages announces (the Cargo book, "JSON messages").
fn artifact(line: &str) -> Option<(String, PathBuf)> {
    let message: serde_json::Value = serde_json::from_str(line.strip_prefix('{').map(|_| line)?).ok()?;
    let path = message.get("executable")?.as_str()?;
    Some((message.get("target")?.get("name")?.as_str()?.to_owned(), path.into()))
}

/// An error without cargo's JSON messages among the lines that it quotes.
fn without_messages(error: miette::Report) -> miette::Report {
    let text = error.to_string();
    let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with("{\"reason\"")).collect();
    miette!("{}", lines.join("\n"))
}

/// An unusable kernel, as a mistake of the description that names it.
fn at_its_line(system: &System, image: &GuestImage, error: miette::Report) -> miette::Report {
    let (Some(wrong), Some(span)) = (error.downcast_ref::<guest::error::Error>(), system.names_image(image)) else {
        return error;
    };
    let message = format!("the kernel `{}` cannot be used: {wrong}", image.name);
    Mistake::new(&system.source, span, message, wrong.remedy()).into()
}

/// The file of a guest's image; fetches, makes or decompresses it as its origin and form say.
fn guest_image(project: &Project, origin: &Origin, form: &Form) -> Result<PathBuf> {
    let path = match origin {
        Origin::Stock(stock) => match stock.what {
            What::Kernel => guest::debian::kernel(project, stock.debian)?,
            What::Busybox => guest::initramfs(project, stock.debian, None)?,
            What::Disk => guest::disk_initramfs(project, stock.debian)?,
            What::Sysv => guest::disk::image(project, guest::disk::Contents::FileSystem)?,
            What::Lvm => guest::disk::image(project, guest::disk::Contents::Lvm)?,
            What::Systemd => guest::disk::image(project, guest::disk::Contents::Systemd)?,
        },
        Origin::File(path) if path.extension().is_some_and(|extension| extension == "c") => {
            guest::tiny::kernel(project, path)?
        }
        Origin::File(path) => path.clone(),
    };
    match form {
        Form::AsIs => Ok(path),
        Form::Decompressed => guest::loaded_vmlinux(project, &path, None),
        Form::Relocated { at } => guest::loaded_vmlinux(project, &path, Some(*at)),
        Form::Extended(additions) => guest::additions::extended(project, &path, additions),
    }
}

/// The devices that the description plugs into an emulated board.
fn devices(project: &Project, system: &System) -> Result<Devices> {
    let disk = system.emulator.disk.as_ref().map(|disk| {
        let origin = disk.get_ref().within(system.folder());
        guest_image(project, &origin, &Form::AsIs)
    });
    let cards = system.emulator.cards.iter().map(|card| (*card.slot.get_ref(), card.model)).collect();
    Ok(Devices { disk: disk.transpose()?, cards })
}

/// Appends the bundle to the root task's ELF and describes it in the program header that is reserved for it: the last
/// loadable one, of a single byte (crates/image-link/root-task.ld). `None` if there is no such header.
pub fn with_bundle(mut elf: Vec<u8>, bundle: &[u8]) -> Option<Vec<u8>> {
    let field = |elf: &[u8], at: usize, width: usize| {
        let bytes = elf.get(at..at + width)?;
        Some(bytes.iter().rev().fold(0u64, |value, byte| value << 8 | u64::from(*byte)))
    };
    // ELF64 (System V ABI, chapters 4 and 5): e_phoff, e_phentsize, e_phnum; then p_type, p_offset, p_filesz, p_memsz.
    let (table, size, count) =
        (field(&elf, 32, 8)? as usize, field(&elf, 54, 2)? as usize, field(&elf, 56, 2)? as usize);
    let headers: Vec<usize> = (0..count).map(|n| table + n * size).collect();
    let header = headers.into_iter().rfind(|at| field(&elf, *at, 4) == Some(1))?;
    if field(&elf, header + 40, 8) != Some(1) {
        return None;
    }
    elf.resize(elf.len().next_multiple_of(4096), 0);
    let (offset, length) = (elf.len() as u64, bundle.len() as u64);
    for (at, value) in [(8, offset), (32, length), (40, length)] {
        elf.get_mut(header + at..header + at + 8)?.copy_from_slice(&value.to_le_bytes());
    }
    elf.extend_from_slice(bundle);
    Some(elf)
}

/// The memory of an emulated board, in MiB; an error if Bochs cannot have that much.
fn memory_mib(system: &System, needs: &MemoryNeeds) -> Result<u32> {
    let mib = needs.mib();
    if system.board().name == BOCHS && mib > MOST_MEMORY_MIB {
        let help = "give the VMs less memory, or smaller kernels and initrds";
        let sum = needs.sum();
        return Err(miette!(
            help = help,
            "the system needs a board with {mib} MiB of memory, and Bochs has at most {MOST_MEMORY_MIB} MiB: {sum}"
        ));
    }
    u32::try_from(mib).into_diagnostic()
}

#[cfg(test)]
mod tests {
    use capdl_spec::host::Source;

    use super::*;

    #[test]
    fn a_board_that_bochs_does_not_have_is_refused_with_the_sum() {
        let system = |board: &str| {
            let vm = "[[vm]]\nname = \"linux\"\nmemory = \"1792 MiB\"\nkernel = \"debian-686\"\n";
            let text = format!("board = \"{board}\"\n{vm}");
            host::parse(Source { path: "x.toml".into(), text }).expect("it is right")
        };
        let needs = MemoryNeeds { objects: 3 << 30, image: 100 << 20, placed: 0 };
        let error = memory_mib(&system("bochs"), &needs).unwrap_err().to_string();
        let words = ["with 3200 MiB", "at most 3072 MiB", "3072 MiB for guests", "100 MiB of images"];
        assert!(words.iter().all(|word| error.contains(word)), "{error}");
        assert_eq!(memory_mib(&system("pc"), &needs).unwrap(), 3200);
        assert_eq!(memory_mib(&system("bochs"), &MemoryNeeds { objects: 2 << 30, ..needs }).unwrap(), 2176);
    }

    /// An ELF64 header and two loadable program headers, of sizes 16 and 1.
    fn elf() -> Vec<u8> {
        let mut elf = vec![0; 64 + 2 * 56];
        elf[..4].copy_from_slice(b"\x7fELF");
        elf[32] = 64;
        elf[54] = 56;
        elf[56] = 2;
        for (header, size) in [(64, 16), (120, 1)] {
            elf[header] = 1;
            elf[header + 32] = size;
            elf[header + 40] = size;
        }
        elf
    }

    #[test]
    fn the_bundle_goes_on_a_page_of_its_own_and_into_the_segment_that_waits() {
        let image = with_bundle(elf(), b"bundle").unwrap();
        assert_eq!(&image[4096..], b"bundle");
        assert_eq!(image[120 + 8..120 + 16], 4096u64.to_le_bytes());
        assert_eq!(image[120 + 32..120 + 40], 6u64.to_le_bytes());
        assert_eq!(image[120 + 40..120 + 48], 6u64.to_le_bytes());
        assert_eq!(image[64 + 32], 16, "the other segment stays");
    }

    #[test]
    fn programs_are_built_for_the_images_target_whatever_the_users_is() {
        let cargo = building(&["root-task"], Some(Path::new("/prefix")), Path::new("/project"), Path::new("/target"));
        let arguments: Vec<_> = cargo.get_args().collect();
        assert!(arguments.windows(2).any(|pair| pair == ["--target", TARGET]), "{arguments:?}");
    }

    #[test]
    fn a_program_that_cargo_has_not_built_is_missed() {
        let built = BTreeMap::from([("root-task".to_owned(), PathBuf::from("/t/root-task"))]);
        assert_eq!(all_of(&["root-task"], built.clone()).unwrap(), built);
        let error = all_of(&["root-task", "vmm-server"], built).unwrap_err().to_string();
        assert_eq!(error, "cargo built no program of the package vmm-server");
    }

    #[test]
    fn cargo_says_what_it_has_built() {
        let line = r#"{"reason":"compiler-artifact","target":{"name":"root-task"},"executable":"/t/image/root-task"}"#;
        assert_eq!(artifact(line), Some(("root-task".to_owned(), "/t/image/root-task".into())));
        for other in [r#"{"reason":"compiler-artifact","executable":null}"#, "   Compiling x", "{ x"] {
            assert_eq!(artifact(other), None, "{other}");
        }
    }

    #[test]
    fn an_elf_without_a_segment_for_the_bundle_is_refused() {
        let mut elf = elf();
        elf[120 + 40] = 2;
        assert_eq!(with_bundle(elf, b"bundle"), None);
        assert_eq!(with_bundle(b"\x7fELF".to_vec(), b"bundle"), None);
    }
}
