//! `cargo xtask import lspci FILE…`: turns the output of `lspci -vv` on a board into the device section of a
//! description.
//!
//! `capture` and `proc` read the files line by line, `device` derives what a guest needs for each chosen function, and
//! `section` writes that as TOML, with the origin of every value beside it.

mod address;
pub mod capture;
pub mod class;
pub mod device;
pub mod facts;
mod files;
mod proc;
mod section;

use std::io::{BufRead, IsTerminal, Write};
use std::path::PathBuf;

use miette::{IntoDiagnostic, Result, miette};

pub use self::address::PciAddress;
use self::capture::{Capture, Function};
pub use self::files::Files;
pub use self::section::Dma;
use crate::{progress, project};

/// What the user asked for.
#[derive(Debug)]
pub struct ImportOptions {
    /// Output of lspci; it, or further files, may hold /proc/ioports and /proc/interrupts.
    pub files: Vec<PathBuf>,
    /// The functions; if none are given, the tool asks.
    pub devices: Vec<PciAddress>,
    /// Their access to memory.
    pub dma: Dma,
    /// The output file; standard output if absent.
    pub output: Option<PathBuf>,
}

/// Reads the files, asks for devices if none are given, and writes their section.
pub fn lspci(options: &ImportOptions) -> Result<()> {
    let files = Files::read(&options.files)?;
    let capture = capture(&files)?;
    let devices = match options.devices.as_slice() {
        [] if std::io::stdin().is_terminal() => ask(&capture, &mut std::io::stdin().lock(), &mut std::io::stderr())?,
        devices => devices.to_vec(),
    };
    let section = section(&files, &capture, &devices, options.dma)?;
    match &options.output {
        Some(path) => {
            project::write_named(path, section.as_bytes())?;
            progress::say(&format!("written to {}", path.display()));
            Ok(())
        }
        None => std::io::stdout().write_all(section.as_bytes()).into_diagnostic(),
    }
}

/// The section for some devices of the files.
pub fn convert(files: &Files, devices: &[PciAddress], dma: Dma) -> Result<String> {
    section(files, &capture(files)?, devices, dma)
}

fn capture(files: &Files) -> Result<Capture> {
    let capture = capture::parse(files)?;
    if capture.functions.is_empty() {
        return Err(miette!(
            help = "boot Linux on the board itself, then: sudo lspci -vvxxx > FILE",
            "no PCI function in {}",
            files.names()
        ));
    }
    Ok(capture)
}

/// The section for some devices of a capture of these files.
pub fn section(files: &Files, capture: &Capture, devices: &[PciAddress], dma: Dma) -> Result<String> {
    let mut chosen: Vec<&Function> = Vec::new();
    for address in devices {
        let function = capture
            .functions
            .iter()
            .find(|function| function.address == *address)
            .ok_or_else(|| miette!(help = list(capture), "{} has no function {address}", files.names()))?;
        if let Some(reason) = device::refusal(function) {
            let remedy = format!("choose another device\n{}", list(capture));
            return Err(files.mistake(&function.line, format!("{address} cannot be passed through: {reason}"), remedy));
        }
        if chosen.iter().all(|other| other.address != *address) {
            chosen.push(function);
        }
    }
    if chosen.is_empty() {
        return Err(miette!(help = list(capture), "which devices? Name each with --device ADDRESS"));
    }
    section::write(files, capture, &chosen, dma)
}

/// The functions that a guest can have, a line each.
fn list(capture: &Capture) -> String {
    let mut lines = vec!["the devices are:".to_owned()];
    for function in capture.functions.iter().filter(|function| device::refusal(function).is_none()) {
        lines.push(format!("{} {}", function.address, device::plain(&function.title)));
    }
    let others = capture.functions.len() + 1 - lines.len();
    if others > 0 {
        lines.push(format!("and {others} that cannot be passed through (bridges, or without details)"));
    }
    lines.join("\n")
}

/// Shows the list and reads addresses until all are in it. An empty line or the end of the input chooses none.
fn ask(capture: &Capture, input: &mut impl BufRead, output: &mut impl Write) -> Result<Vec<PciAddress>> {
    writeln!(output, "{}", list(capture)).into_diagnostic()?;
    loop {
        write!(output, "Which ones? Addresses with spaces between them: ").into_diagnostic()?;
        output.flush().into_diagnostic()?;
        let mut line = String::new();
        input.read_line(&mut line).into_diagnostic()?;
        let words = line.split([' ', ',', '\t', '\n', '\r']).filter(|word| !word.is_empty());
        let known = |word: &str| {
            let address: PciAddress = word.parse()?;
            let is_here = capture.functions.iter().any(|function| function.address == address);
            if is_here { Ok(address) } else { Err(format!("there is no {address} in the list")) }
        };
        match words.map(known).collect::<Result<Vec<_>, String>>() {
            Ok(devices) => return Ok(devices),
            Err(message) => writeln!(output, "{message}").into_diagnostic()?,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use capdl_spec::host::Source;

    #[test]
    fn the_question_is_repeated_until_the_answer_is_an_address() {
        let text =
            "00:00.0 Host bridge: x\n\tControl: \n\n00:03.0 Ethernet controller: y\n\tControl: I/O+\n".to_owned();
        let files = Files::new([Source { path: "x".into(), text }]);
        let capture = capture(&files).expect("a capture");
        let mut output = Vec::new();
        let answer = ask(&capture, &mut "3\n00:04.0\n 00:03.0,\n".as_bytes(), &mut output).expect("an answer");
        assert_eq!(answer.iter().map(PciAddress::to_string).collect::<Vec<_>>(), ["00:03.0"]);
        let output = String::from_utf8(output).expect("text");
        assert!(output.starts_with("the devices are:\n00:03.0 Ethernet controller: y\nand 1 that cannot"), "{output}");
        assert!(output.contains("`3` is no PCI address") && output.contains("there is no 00:04.0"), "{output}");
    }
}
