//! Wrong descriptions, one mistake each: `tests/spec/NAME.toml` earns exactly what `NAME.expected` says.
//! With `BLESS` in the environment the expected files are written anew; read the difference before committing it.

use std::{
    fs,
    path::{Path, PathBuf},
};

use capdl_spec::host::{self, Source};
use miette::{GraphicalReportHandler, GraphicalTheme};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/spec")
}

fn wrong_descriptions() -> Vec<PathBuf> {
    let files = fs::read_dir(folder()).expect("tests/spec exists").map(|file| file.expect("is readable").path());
    let mut files: Vec<_> = files.filter(|path| path.extension().is_some_and(|e| e == "toml")).collect();
    files.sort();
    files
}

fn verdict(path: &Path) -> String {
    let bytes = fs::read(path).expect("is readable");
    let source = Source::of(path, &bytes);
    let said = source.and_then(host::parse).map_or_else(|mistakes| mistakes.plain(), |_| "nothing\n".into());
    said.replace(&format!("{}/", folder().display()), "")
}

#[test]
fn every_wrong_description_earns_its_message() {
    let mut different = Vec::new();
    for path in wrong_descriptions() {
        let (said, file) = (verdict(&path), path.with_extension("expected"));
        if std::env::var_os("BLESS").is_some() {
            fs::write(&file, &said).expect("is writable");
        }
        let expected = fs::read_to_string(&file).unwrap_or_default();
        if said != expected {
            different.push(format!("{}\nexpected: {expected}but it says: {said}", path.display()));
        }
    }
    assert!(different.is_empty(), "{}", different.join("\n"));
}

/// What a terminal shows of a description, colours apart.
fn shown(path: &Path, bytes: &[u8]) -> String {
    let source = Source::of(path, bytes);
    let Err(mistakes) = source.and_then(host::parse) else { return String::new() };
    let (report, mut text) = (mistakes.report(), String::new());
    let handler = GraphicalReportHandler::new_themed(GraphicalTheme::unicode_nocolor()).with_wrap_lines(false);
    handler.render_report(&mut text, report.as_ref()).expect("it is written to memory");
    text
}

fn fits_on_a_screen(name: &str, text: &str) {
    assert!(text.lines().count() <= 40, "{name}: {} lines:\n{text}", text.lines().count());
    assert!(text.lines().all(|line| line.chars().count() <= 850), "{name}: a long line:\n{text}");
    assert!(text.len() < 6000, "{name}: {} bytes", text.len());
    let control = text.chars().find(|c| c.is_control() && *c != '\n');
    assert_eq!(control, None, "{name}:\n{text}");
}

#[test]
fn every_error_fits_on_a_screen() {
    for path in wrong_descriptions() {
        let text = shown(&path, &fs::read(&path).expect("is readable"));
        fits_on_a_screen(&path.display().to_string(), &text);
    }
}

/// Descriptions of sizes that nobody writes by hand: an answer at once, and a short one.
#[test]
fn giants_earn_short_errors_and_soon() {
    const HEAD: &str = "board = \"bochs\"\n[[vm]]\nname = \"linux\"\nmemory = \"128 MiB\"\nkernel = \"debian-686\"\n";
    let vms = |count: usize| {
        let vm = |n| format!("[[vm]]\nname = \"v{n}\"\nmemory = \"2 MiB\"\nkernel = \"./none\"\n");
        "board = \"bochs\"\n".to_string() + &(0..count).map(vm).collect::<String>()
    };
    let list = |key: &str, entry: &str, count: usize| format!("{HEAD}{key} = [{}]\n", vec![entry; count].join(", "));
    let giants = [
        ("10,000 VMs", vms(10_000)),
        ("200 VMs", vms(200)),
        ("too long a file", HEAD.repeat(20_000)),
        ("a name of a megabyte", HEAD.replace("linux", &"n".repeat(1_000_000))),
        ("a board of a megabyte", HEAD.replace("bochs", &"b".repeat(1_000_000))),
        ("a kernel of a megabyte", HEAD.replace("debian-686", &format!("./{}", "k".repeat(1_000_000)))),
        ("a key of a megabyte", format!("{HEAD}{} = 1\n", "k".repeat(1_000_000))),
        ("a command line of a megabyte", format!("{HEAD}cmdline = \"{}\"\n", "c ".repeat(500_000))),
        ("backquotes", format!("{HEAD}{:?} = 1\n", "`".repeat(100_000))),
        ("20,000 ports", list("ioports", "{ start = 1, end = 2, name = \"x\" }", 20_000)),
        ("20,000 functions", list("pci_devices", "\"00:03.0\"", 20_000)),
        ("20,000 interrupts", list("irqs", "{ name = \"a\", source = 1 }", 20_000)),
        ("100,000 direct ports", list("direct_ports", "1", 100_000)),
        ("250 functions", list("pci_devices", "\"00:03.0\"", 250)),
        ("nested lists", format!("{HEAD}direct_ports = {}{}\n", "[".repeat(100_000), "]".repeat(100_000))),
        ("nested tables", format!("{HEAD}x = {}{}\n", "{a=".repeat(100_000), "}".repeat(100_000))),
        ("a dotted key", format!("{HEAD}{} = 1\n", vec!["a"; 100_000].join("."))),
        (
            "10,000 policies",
            format!(
                "{HEAD}[policy.on_fault]\n{}",
                (0..10_000).map(|n| format!("p{n} = \"stop\"\n")).collect::<String>()
            ),
        ),
    ];
    for (name, text) in giants {
        let started = std::time::Instant::now();
        let said = shown(Path::new("giant.toml"), text.as_bytes());
        assert!(!said.is_empty(), "{name} is right");
        fits_on_a_screen(name, &said);
        assert!(started.elapsed().as_secs() < 10, "{name} took {:?}", started.elapsed());
    }
}

/// Bytes that are not what they say, and pieces of a right description: an error, or none, and never a panic.
#[test]
fn damaged_descriptions_are_answered() {
    let right = fs::read(folder().join("../../systems/cma34cr-ethernet.toml")).expect("is readable");
    for end in 0..right.len() {
        fits_on_a_screen("cut off", &shown(Path::new("x.toml"), &right[..end]));
    }
    for at in (0..right.len()).step_by(3) {
        for byte in [0, 8, 0x1b, b'"', b'\r', b'[', b'=', 0x80, 0xff] {
            let mut damaged = right.clone();
            damaged[at] = byte;
            fits_on_a_screen("damaged", &shown(Path::new("x.toml"), &damaged));
        }
    }
    let windows = String::from_utf8_lossy(&right).replace('\n', "\r\n");
    assert_eq!(shown(Path::new("x.toml"), windows.as_bytes()), "", "ends of lines as on Windows");
    assert_eq!(shown(Path::new("x.toml"), &[b"\xef\xbb\xbf", &right[..]].concat()), "", "a mark of UTF-8");
}

/// What a hand slips into a description that is right: every answer is in words of descriptions, not of the parser.
#[test]
fn slips_of_the_hand_are_answered_in_words_of_descriptions() {
    type Slip = (&'static str, fn(&str) -> String);
    const SLIPS: [Slip; 16] = [
        ("no quotes", |line| line.replace('"', "")),
        ("the first quote forgotten", |line| line.replacen('"', "", 1)),
        ("the last quote forgotten", |line| {
            line.chars().rev().collect::<String>().replacen('"', "", 1).chars().rev().collect()
        }),
        ("curly quotes", |line| line.replace('"', "”")),
        ("a colon", |line| line.replacen('=', ":", 1)),
        ("no equals sign", |line| line.replacen('=', "", 1)),
        ("no value", |line| line.split('=').next().unwrap_or(line).to_string() + "="),
        ("no comma", |line| line.replace(',', " ")),
        ("no ]", |line| line.replacen(']', "", 1)),
        ("no [", |line| line.replacen('[', "", 1)),
        ("no }", |line| line.replace('}', "")),
        ("no {", |line| line.replace('{', "")),
        ("a semicolon", |line| line.to_string() + ";"),
        ("twice", |line| format!("{line}\n{line}")),
        ("no 0x", |line| line.replace("0x", "")),
        ("round brackets", |line| line.replace('[', "(").replace(']', ")")),
    ];
    let systems =
        fs::read_dir(folder().join("../../systems")).expect("is there").map(|file| file.expect("is readable").path());
    let mut weak = Vec::new();
    for path in systems.filter(|path| path.extension().is_some_and(|e| e == "toml")) {
        let text = fs::read_to_string(&path).expect("is readable");
        let lines: Vec<&str> = text.lines().collect();
        for (n, (what, slip)) in (0..lines.len()).flat_map(|n| SLIPS.map(|slip| (n, slip))) {
            let line = lines[n];
            if line.starts_with('#') || slip(line) == line {
                continue;
            }
            let slipped = [&lines[..n].join("\n"), "\n", &slip(line), "\n", &lines[n + 1..].join("\n")].concat();
            let Err(mistakes) = Source::of(Path::new("x.toml"), slipped.as_bytes()).and_then(host::parse) else {
                continue;
            };
            let said = mistakes.plain();
            if ["expected", "invalid", "minimal.toml", "unclosed", "extra"].iter().any(|word| said.contains(word)) {
                weak.push(format!("{what}: {}\n{said}", slip(line)));
            }
        }
    }
    weak.sort();
    weak.dedup();
    assert!(weak.is_empty(), "{}", weak.join("\n"));
}

#[test]
fn there_are_wrong_descriptions() {
    assert!(wrong_descriptions().len() >= 20);
}
