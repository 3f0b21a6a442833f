//! A bzImage without compressed payload or padding, as memtest86+'s: it follows the boot protocol but is not Linux.

use std::time::Duration;

use miette::{Result, ensure, miette};

use crate::bochs::log::Ending;
use crate::kernel::Build;
use crate::project;
use crate::test::{Context, Group, Outcome, Test, passed};

/// The tests of this file.
pub fn all() -> Vec<Test> {
    vec![Test::new(Group::Guests, "a-bzimage-without-a-payload", without_a_payload)]
}

const LIMIT: Duration = Duration::from_secs(180);

/// The same file for two VMs; for one of them the build unpacks it.
const DESCRIPTION: &str = "board = \"bochs\"

[[vm]]
name = \"first\"
memory = \"4 MiB\"
kernel = \"./bzImage\"

[[vm]]
name = \"second\"
memory = \"4 MiB\"
kernel = \"./bzImage\"
decompress = \"guest\"
";

fn without_a_payload(context: &Context) -> Result<Outcome> {
    let dir = context.project.guest().join("tiny/bzimage");
    project::write(&dir.join("bzImage"), &bzimage())?;
    let description = dir.join("bzimage.toml");
    project::write(&description, DESCRIPTION.as_bytes())?;
    let mut machine =
        context.boot_with(&description.to_string_lossy(), Build::Release, |options| options.input = false)?;
    match machine.wait(LIMIT)? {
        Some(Ending::PowerOff) => {}
        Some(other) => return Err(machine.why(&other)),
        None => return Err(miette!("the guests did not switch themselves off")),
    }
    let console = String::from_utf8_lossy(&machine.console.transcript()).into_owned();
    for line in ["first: runs", "second: runs"] {
        ensure!(console.lines().any(|one| one.trim_end() == line), "no line `{line}` in\n{console}");
    }
    passed()
}

/// One sector of setup, by the offsets of Linux's Documentation/arch/x86/boot.rst, and 32-bit code that prints a line on
/// COM1, clears IF and halts.
fn bzimage() -> Vec<u8> {
    let byte = |byte| [0x66, 0xba, 0xf8, 0x03, 0xb0, byte, 0xee]; // mov dx, 0x3f8; mov al, byte; out dx, al
    let mut code: Vec<u8> = b"runs\r\n".iter().flat_map(|&text| byte(text)).collect();
    code.extend([0xfa, 0xf4]);
    let mut file = vec![0; 1024];
    let mut put = |at: usize, bytes: &[u8]| file[at..at + bytes.len()].copy_from_slice(bytes);
    put(0x1f1, &[1]);
    put(0x1f4, &(code.len().div_ceil(16) as u32).to_le_bytes());
    put(0x1fe, &[0x55, 0xaa, 0xeb, 0x66]);
    put(0x202, b"HdrS\x0c\x02");
    put(0x211, &[1]);
    put(0x22c, &0x7fff_ffffu32.to_le_bytes());
    put(0x230, &0x1000u32.to_le_bytes());
    put(0x238, &255u32.to_le_bytes());
    put(0x258, &0x10_0000u64.to_le_bytes());
    put(0x260, &0x1_0000u32.to_le_bytes());
    assert!(!code.len().is_multiple_of(16), "a padded file shows nothing");
    file.extend(code);
    file
}
