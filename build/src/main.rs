//! `cargo xtask COMMAND`: the command line of the build tool.
#![forbid(unsafe_code)]

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::builder::NonEmptyStringValueParser;
use clap::{Parser, Subcommand};
use miette::{Result, miette};
use xtask::guest::kbuild;
use xtask::import::{self, Dma, PciAddress};
use xtask::kernel::{self, Build};
use xtask::packages::Purpose;
use xtask::project::Project;
use xtask::test::Form;
use xtask::{audit, bench, board, defects, doctor, footprint, image, interrupt, map, progress, run, setup, test};

/// The system of a command that names none: a 64-bit guest, for which Debian 12 and 13 have the packages and the keys.
const DEFAULT: &str = "amd64";

/// Builds, boots and tests Portcullis: Linux in virtual machines on seL4.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Boot a system in Bochs and connect this terminal to its console
    Run {
        /// A name in systems/, or the path of a description
        #[arg(default_value = DEFAULT)]
        system: String,
        /// End with success when TEXT appears on the console
        #[arg(long, value_name = "TEXT", value_parser = NonEmptyStringValueParser::new())]
        until: Option<String>,
        /// Send what is typed to the VM NAME, in place of the first one
        #[arg(long, value_name = "NAME")]
        vm: Option<String>,
        /// Type CMD at the guest's shell and print its answer (repeatable)
        #[arg(long, value_name = "CMD", value_parser = NonEmptyStringValueParser::new())]
        exec: Vec<String>,
        /// End with failure after so many seconds of running
        #[arg(long, value_name = "SECONDS", allow_negative_numbers = true, value_parser = seconds)]
        timeout: Option<Duration>,
        /// Use the kernel with assertions and its own messages
        #[arg(long)]
        debug_kernel: bool,
    },
    /// Run every test but the long ones, or those whose name contains FILTER
    Test {
        /// Part of a name; `--list` shows them
        filter: Option<String>,
        /// The long ones too
        #[arg(long)]
        all: bool,
        /// Only print the names
        #[arg(long)]
        list: bool,
    },
    /// Measure what VM exits, boots and a guest's work cost, in emulated instructions
    Bench {
        /// Write the rows to FILE too
        #[arg(long, value_name = "FILE")]
        json: Option<PathBuf>,
        /// Only the rows of single exits: half a minute instead of three
        #[arg(long)]
        exits: bool,
    },
    /// Build a system: kernel, root-task image, bootable ISO and a `simulate` script in target/images/SYSTEM
    Image {
        /// A name in systems/, or the path of a description; `probe` is a program that boots without seL4 and says what a board has
        #[arg(default_value = DEFAULT)]
        system: String,
        /// Use the kernel with assertions and its own messages
        #[arg(long)]
        debug_kernel: bool,
    },
    /// Print what every process of a system may do
    Map {
        /// A name in systems/, or the path of a description
        #[arg(default_value = DEFAULT)]
        system: String,
        /// Also draw it
        #[arg(long, value_name = "FILE")]
        svg: Option<PathBuf>,
    },
    /// Print what flows between the VMs and components of a system, and whether its policies hold
    Audit {
        /// A name in systems/, or the path of a description
        #[arg(default_value = DEFAULT)]
        system: String,
        /// As JSON
        #[arg(long)]
        json: bool,
        /// Also draw the matrix
        #[arg(long, value_name = "FILE")]
        svg: Option<PathBuf>,
    },
    /// Turn what another system says of a board into a part of a description
    Import {
        #[command(subcommand)]
        from: Import,
    },
    /// Make things for guests
    Guest {
        #[command(subcommand)]
        what: ForGuests,
    },
    /// Build the seL4 kernel alone
    Kernel {
        /// Build the one with assertions and its own messages
        #[arg(long)]
        debug_kernel: bool,
    },
    /// Ask a kernel for its known defects, print them, and keep the result for `image` and `run`
    KernelCheck {
        /// Ask the one with assertions and its own messages
        #[arg(long)]
        debug_kernel: bool,
    },
    /// Install the Debian packages that are missing
    Setup,
    /// Show what this machine has and lacks, and what therefore runs here
    Doctor {
        /// Judge another machine by the serial log of `image probe`, or by files of Linux on it (repeatable, or a folder), and print a
        /// description to start from
        #[arg(long, value_name = "FILE", num_args = 1..)]
        board: Vec<PathBuf>,
    },
}

#[derive(Subcommand)]
enum ForGuests {
    /// Build the kernel modules of a folder against the headers of a guest's kernel, and print their files
    Module {
        /// A folder with kbuild's Makefile, such as `obj-m := hello.o`
        folder: PathBuf,
        /// The guest's kernel, as its description names it; the default system's when left out
        #[arg(long, value_parser = kbuild::KERNELS)]
        kernel: Option<String>,
        /// Its release of Debian; when left out, the last one with that kernel, or the default system's
        #[arg(long, value_parser = ["bookworm", "trixie"])]
        release: Option<String>,
    },
}

#[derive(Subcommand)]
enum Import {
    /// The device section of a VM, from `lspci -vv` of a Linux that was booted on the board itself
    Lspci {
        /// The output of `lspci -vv` or `lspci -vvxxx`; /proc/ioports and /proc/interrupts in it, or in further files
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
        /// A device to pass through, such as 00:1f.2 (repeatable)
        #[arg(long = "device", value_name = "ADDRESS")]
        devices: Vec<PciAddress>,
        /// The board has no IOMMU: trust the devices with all memory
        #[arg(long)]
        trusted: bool,
        /// Write the section there, in place of standard output
        #[arg(long, value_name = "FILE")]
        output: Option<PathBuf>,
    },
}

fn main() -> ExitCode {
    interrupt::install();
    // Other users read the files made here: the emulator's, a user namespace's, an installed Debian's.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    // Errors quote the output of commands, whose lines must stay whole.
    let handler = || miette::MietteHandlerOpts::new().wrap_lines(false).build();
    let _ = miette::set_hook(Box::new(move |_| Box::new(handler())));
    let result = obey(Arguments::parse().command);
    interrupt::clean_up();
    match result {
        Ok(code) => code,
        Err(error) => {
            progress::say(&format!("{error:?}"));
            ExitCode::FAILURE
        }
    }
}

fn obey(command: Command) -> Result<ExitCode> {
    let project = Project::find()?;
    match command {
        Command::Run { system, until, vm, exec, timeout, debug_kernel } => {
            let build = kernel_for(debug_kernel);
            run::run(&project, &run::RunOptions { system, vm, build, until, exec, timeout })?;
        }
        Command::Test { filter, all, list } => {
            let filter = filter.unwrap_or_default();
            let form = if all { Form::Long } else { Form::Short };
            return if list {
                test::list(xtask::tests::all(), &filter)
            } else {
                test::run(&project, xtask::tests::all(), &filter, form)
            };
        }
        Command::Bench { json, exits } => bench::run(&project, json.as_deref(), exits)?,
        Command::Image { system, debug_kernel: true } if system == image::PROBE => {
            let help = "leave --debug-kernel out; a description of your own is ./probe.toml";
            return Err(miette!(help = help, "the probe boots without a kernel"));
        }
        Command::Image { system, debug_kernel: false } if system == image::PROBE => {
            progress::print(&image::probe(&project)?.display().to_string());
        }
        Command::Image { system, debug_kernel } => {
            defects::consult(&project, &system, kernel_for(debug_kernel))?;
            let image = image::build_for_a_board(&project, &system, kernel_for(debug_kernel))?;
            progress::say(&format!("Kernel: {}", image.kernel));
            progress::say(&footprint::text(&image.spec, image.bytes));
            progress::print(&image.iso.display().to_string());
        }
        Command::Map { system, svg } => progress::print(map::map(&project, &system, svg.as_deref())?.trim_end()),
        Command::Audit { system, json, svg } => {
            let shown = audit::audit(&project, &system, svg.as_deref(), json)?;
            progress::print(shown.text.trim_end());
            shown.policies?;
        }
        Command::Import { from: Import::Lspci { files, devices, trusted, output } } => {
            let dma = if trusted { Dma::Trusted } else { Dma::Domain };
            import::lspci(&import::ImportOptions { files, devices, dma, output })?;
        }
        Command::Guest { what: ForGuests::Module { folder, kernel, release } } => {
            let default = kbuild::of_system(&project, DEFAULT)?;
            let debian = kbuild::named(kernel.as_deref(), release.as_deref(), default)?;
            for module in kbuild::modules(&project, debian, &folder)? {
                progress::print(&module.display().to_string());
            }
        }
        Command::Kernel { debug_kernel } => {
            progress::print(&kernel::prefix(&project, kernel_for(debug_kernel).into())?.dir().display().to_string());
        }
        Command::KernelCheck { debug_kernel } => {
            progress::print(&defects::check(&project, kernel_for(debug_kernel).into())?);
        }
        Command::Setup => {
            setup::ensure(&Purpose::ALL)?;
            progress::print("Everything is installed.");
        }
        Command::Doctor { board } if board.is_empty() => progress::print(doctor::report()?.trim_end()),
        Command::Doctor { board } => {
            let judged = board::judge_files(&board)?;
            progress::say(judged.report().trim_end());
            progress::print(judged.description.trim_end());
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Longest time to wait: a year.
const MOST_SECONDS: u64 = 365 * 24 * 3600;

/// Reads a time.
fn seconds(text: &str) -> std::result::Result<Duration, String> {
    let number = text.parse().ok().filter(|seconds| (1..=MOST_SECONDS).contains(seconds));
    let wanted = || format!("it is a whole number of seconds, 1 to {MOST_SECONDS}, like --timeout 120");
    number.map(Duration::from_secs).ok_or_else(wanted)
}

fn kernel_for(debug: bool) -> Build {
    if debug { Build::Debug } else { Build::Release }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(arguments: &[&str]) -> String {
        let arguments = ["cargo xtask"].iter().chain(arguments);
        Arguments::try_parse_from(arguments).err().map(|error| error.to_string()).unwrap_or_default()
    }

    #[test]
    fn help_the_version_and_the_nearest_command_are_there() {
        for (arguments, said) in [
            (&["help"][..], "Boot a system in Bochs"),
            (&["help", "run"], "--timeout <SECONDS>"),
            (&["--version"], concat!("xtask ", env!("CARGO_PKG_VERSION"))),
            (&["imgae"], "'image'"),
            (&["run", "--timout", "3"], "'--timeout'"),
        ] {
            assert!(refused(arguments).contains(said), "{arguments:?}: {}", refused(arguments));
        }
    }

    #[test]
    fn cargo_shows_its_progress_while_it_compiles_the_tool() {
        let alias = include_str!("../../.cargo/config.toml").lines().find(|line| line.starts_with("xtask = "));
        let words: Vec<&str> = alias.unwrap().trim_end_matches('"').split(' ').collect();
        assert!(words.contains(&"xtask") && words.iter().all(|word| !["-q", "--quiet"].contains(word)), "{words:?}");
    }

    #[test]
    fn a_time_is_a_whole_number_of_seconds() {
        assert_eq!(refused(&["run", "--timeout", "120"]), "");
        for wrong in ["abc", "", "0", "-5", "1.5", "2m", "0x10", "31536001", "99999999999999999999"] {
            let said = refused(&["run", "--timeout", wrong]);
            for part in ["--timeout <SECONDS>", "a whole number of seconds, 1 to ", "like --timeout 120"] {
                assert!(said.contains(part), "{wrong}: {said}");
            }
        }
    }

    #[test]
    fn what_is_waited_for_or_typed_is_not_empty() {
        for option in ["--until", "--exec"] {
            let said = refused(&["run", option, ""]);
            assert!(said.contains(option) && said.contains("a value is required"), "{said}");
        }
    }
}
