//! Runs external commands and shows their progress. An error has the command, how it ended, and its last output.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::io::{BufRead, BufReader};
use std::process::{Command, ExitStatus, Stdio};

use miette::{IntoDiagnostic, Result};

use crate::progress::Step;

/// The variables of the user's environment that commands see: the locations of programs, home, toolchains and temporary
/// files.
const PASSED: [&str; 11] = [
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "TERM",
    "TMPDIR",
    "CARGO_HOME",
    "RUSTUP_HOME",
    "RUSTUP_TOOLCHAIN",
    "RUSTUP_AUTO_INSTALL",
    "NIX_SSL_CERT_FILE",
];
/// Also variables with these prefixes: how cargo reaches its registries, and which certificates it trusts.
const PASSED_PREFIXES: [&str; 6] =
    ["CARGO_NET_", "CARGO_HTTP_", "CARGO_REGISTRY_", "CARGO_REGISTRIES_", "CARGO_CREDENTIAL_", "SSL_CERT_"];
/// And the proxies, which some programs read in lower case and some in upper case.
const PROXIES: [&str; 5] = ["http_proxy", "https_proxy", "ftp_proxy", "all_proxy", "no_proxy"];

/// A command that works the same on every host: it sees only the variables that `PASSED` lists, and none that could
/// change what it builds (RUSTFLAGS, CFLAGS, MAKEFLAGS, PYTHONPATH, LD_PRELOAD, a locale …). All commands of this tool
/// are made here.
pub fn tool(program: impl AsRef<OsStr>) -> Command {
    #[allow(clippy::disallowed_methods)]
    let mut command = Command::new(program);
    command.env_clear().envs(passed(std::env::vars_os()));
    command.env("LC_ALL", "C.UTF-8").env("TZ", "UTC");
    command
}

/// The inner cargo: the one that runs this tool, if any. Flags and wrappers are empty rather than absent, so that they
/// also override the user's configuration files.
pub fn cargo() -> Command {
    let mut cargo = tool(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.env("CARGO_TERM_COLOR", "never").env("RUSTC_WRAPPER", "").env("RUSTC_WORKSPACE_WRAPPER", "");
    cargo.env("RUSTFLAGS", "");
    cargo
}

/// The proxies of the user's environment.
pub fn proxies(environment: impl Iterator<Item = (OsString, OsString)>) -> impl Iterator<Item = (OsString, OsString)> {
    environment.filter(|(name, _)| name.to_str().is_some_and(is_proxy))
}

fn is_proxy(name: &str) -> bool {
    PROXIES.iter().any(|proxy| name.eq_ignore_ascii_case(proxy))
}

fn passed(environment: impl Iterator<Item = (OsString, OsString)>) -> impl Iterator<Item = (OsString, OsString)> {
    environment.filter(|(name, value)| {
        let Some(name) = name.to_str() else { return false };
        // Without the directory for temporary files, half of the tools fail, each with another message.
        let usable = name != "TMPDIR" || std::path::Path::new(value).is_dir();
        let known = PASSED.contains(&name) || PASSED_PREFIXES.iter().any(|prefix| name.starts_with(prefix));
        usable && (known || is_proxy(name))
    })
}

/// How many of a failed command's last lines are shown.
const TAIL: usize = 25;

/// Runs a long command under the heading `what`. Returns its output (both streams) if it succeeds.
pub fn run(what: &str, command: Command) -> Result<String> {
    let step = Step::start(what);
    let output = capture(command, |line| step.note(line))?;
    step.done();
    Ok(output)
}

/// Runs a short command without a heading. Returns its output (both streams) if it succeeds.
pub fn output(command: Command) -> Result<String> {
    capture(command, |_| {})
}

/// Runs a command with no input, hands every line that it prints to `each`, and fails unless it ends with exit code 0.
pub fn capture(command: Command, each: impl FnMut(&str)) -> Result<String> {
    let shown = show(&command);
    let (status, output) = finish(command, each)?;
    if status.success() {
        return Ok(output);
    }
    Err(failure(&shown, status, &output))
}

/// Runs a command with no input, and returns how it ended.
pub fn finish(mut command: Command, mut each: impl FnMut(&str)) -> Result<(ExitStatus, String)> {
    let shown = show(&command);
    let (reader, writer) = std::io::pipe().into_diagnostic()?;
    command.stdin(Stdio::null()).stdout(writer.try_clone().into_diagnostic()?).stderr(writer);
    let mut child = command.spawn().map_err(|error| {
        miette::miette!(
            help = "`cargo xtask setup` installs what the build needs; `cargo xtask doctor` lists what is missing",
            "cannot start `{shown}`: {error}"
        )
    })?;
    // `command` holds the pipe's write end; until it is dropped, the reader would not see the end.
    drop(command);
    let mut output = String::new();
    let mut reader = BufReader::new(reader);
    let mut line = Vec::new();
    while reader.read_until(b'\n', &mut line).into_diagnostic()? > 0 {
        let text = String::from_utf8_lossy(&line);
        each(text.trim_end());
        output.push_str(&text);
        line.clear();
    }
    Ok((child.wait().into_diagnostic()?, output))
}

/// Whether a program is in the search path or in the sbin directories, which an ordinary user's path may lack.
pub fn exists(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let dirs = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]);
    dirs.into_iter().any(|dir| dir.join(program).is_file())
}

/// The command as a user would type it.
pub fn show(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let quoted = words.map(|word| {
        let word = word.to_string_lossy();
        let plain = !word.is_empty() && word.chars().all(|c| c.is_ascii_alphanumeric() || "-_./=:,+@%".contains(c));
        if plain { word.into_owned() } else { format!("'{}'", word.replace('\'', r"'\''")) }
    });
    quoted.collect::<Vec<_>>().join(" ")
}

/// The error for a failed command.
pub fn failure(shown: &str, status: ExitStatus, output: &str) -> miette::Report {
    let mut tail: VecDeque<&str> = output.lines().rev().take(TAIL).collect();
    tail.make_contiguous().reverse();
    let said = if tail.is_empty() { "(it printed nothing)".into() } else { tail.make_contiguous().join("\n") };
    miette::miette!("`{shown}` failed with {status}:\n{said}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failing_command_is_shown_with_its_code_and_its_last_words() {
        let mut command = tool("sh");
        command.args(["-c", "echo first; echo 'last words' >&2; exit 3"]);
        let error = output(command).unwrap_err().to_string();
        assert!(error.contains("exit status: 3"), "{error}");
        assert!(error.contains("last words"), "{error}");
    }

    #[test]
    fn both_streams_are_captured_in_order() {
        let mut command = tool("sh");
        command.args(["-c", "echo one; echo two >&2; echo three"]);
        assert_eq!(output(command).unwrap(), "one\ntwo\nthree\n");
    }

    #[test]
    fn a_command_is_shown_so_that_it_can_be_pasted() {
        let mut command = tool("dpkg-query");
        command.args(["-W", "${Package} it's"]);
        assert_eq!(show(&command), r"dpkg-query -W '${Package} it'\''s'");
    }

    /// The environment that a command sees, started from one with `variables` in it.
    fn seen(variables: &[(&str, &str)]) -> Vec<String> {
        let all = variables.iter().map(|(name, value)| (OsString::from(name), OsString::from(value)));
        passed(all).map(|(name, _)| name.to_string_lossy().into_owned()).collect()
    }

    #[test]
    fn nothing_that_could_change_what_is_built_reaches_a_command() {
        let hostile = [
            "RUSTFLAGS",
            "CARGO_ENCODED_RUSTFLAGS",
            "CARGO_BUILD_TARGET",
            "CARGO_BUILD_RUSTFLAGS",
            "CARGO_TARGET_DIR",
            "CARGO_BUILD_TARGET_DIR",
            "CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUSTFLAGS",
            "CARGO_PROFILE_IMAGE_LTO",
            "CARGO_PROFILE_RELEASE_STRIP",
            "CARGO_INCREMENTAL",
            "RUSTC",
            "RUSTC_WRAPPER",
            "RUSTC_WORKSPACE_WRAPPER",
            "RUSTC_BOOTSTRAP",
            "RUST_TARGET_PATH",
            "MAKEFLAGS",
            "MFLAGS",
            "MAKELEVEL",
            "MAKEFILES",
            "GNUMAKEFLAGS",
            "CC",
            "CXX",
            "CPP",
            "LD",
            "AR",
            "AS",
            "CFLAGS",
            "CPPFLAGS",
            "CXXFLAGS",
            "LDFLAGS",
            "ASFLAGS",
            "CPATH",
            "C_INCLUDE_PATH",
            "LIBRARY_PATH",
            "GCC_EXEC_PREFIX",
            "COMPILER_PATH",
            "LD_PRELOAD",
            "LD_LIBRARY_PATH",
            "LD_AUDIT",
            "LD_BIND_NOW",
            "PYTHONPATH",
            "PYTHONHOME",
            "PYTHONSTARTUP",
            "PYTHONOPTIMIZE",
            "PYTHONWARNINGS",
            "GREP_OPTIONS",
            "GREP_COLORS",
            "LANG",
            "LC_ALL",
            "LC_CTYPE",
            "LANGUAGE",
            "TZ",
            "CDPATH",
            "BASH_ENV",
            "ENV",
            "SHELLOPTS",
            "BASHOPTS",
            "IFS",
            "POSIXLY_CORRECT",
            "CMAKE_GENERATOR",
            "CMAKE_PREFIX_PATH",
            "DESTDIR",
            "CMAKE_BUILD_TYPE",
            "CMAKE_TOOLCHAIN_FILE",
            "XML_CATALOG_FILES",
            "BXSHARE",
            "LTDL_LIBRARY_PATH",
            "APT_CONFIG",
            "SOURCE_DATE_EPOCH",
            "DPKG_ROOT",
            "TAR_OPTIONS",
            "XZ_OPT",
            "GZIP",
            "QEMU_AUDIO_DRV",
            "DISPLAY",
            "SEL4_PREFIX",
        ];
        assert_eq!(seen(&hostile.map(|name| (name, "x"))), [""; 0]);
    }

    #[test]
    fn programs_home_toolchain_registries_and_proxies_are_found() {
        let needed = [
            "PATH",
            "HOME",
            "CARGO_HOME",
            "RUSTUP_HOME",
            "RUSTUP_TOOLCHAIN",
            "CARGO_NET_OFFLINE",
            "CARGO_HTTP_PROXY",
            "CARGO_REGISTRIES_MINE_TOKEN",
            "SSL_CERT_FILE",
            "http_proxy",
            "HTTPS_PROXY",
            "no_proxy",
        ];
        assert_eq!(seen(&needed.map(|name| (name, "x"))), needed);
    }

    #[test]
    fn a_directory_for_temporary_files_that_is_not_there_is_not_passed_on() {
        assert_eq!(seen(&[("TMPDIR", "/no/such")]), [""; 0]);
        assert_eq!(seen(&[("TMPDIR", "/tmp")]), ["TMPDIR"]);
    }

    #[test]
    fn the_inner_cargo_overrides_flags_and_wrappers_of_configuration_files() {
        let cargo = cargo();
        for name in ["RUSTFLAGS", "RUSTC_WRAPPER", "RUSTC_WORKSPACE_WRAPPER"] {
            let set = cargo.get_envs().find(|(set, _)| *set == name);
            assert_eq!(set, Some((OsStr::new(name), Some(OsStr::new("")))), "{name}");
        }
    }

    #[test]
    fn every_command_has_one_locale() {
        let mut command = tool("sh");
        command.args(["-c", "echo $LC_ALL $TZ $LANG"]);
        assert_eq!(output(command).unwrap(), "C.UTF-8 UTC\n");
    }

    #[test]
    fn a_missing_program_is_named() {
        let error = output(tool("no-such-program")).unwrap_err().to_string();
        assert!(error.contains("no-such-program"), "{error}");
    }
}
