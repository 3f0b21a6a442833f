//! What QEMU's screen shows, as characters: those of text mode, or pixels that are characters in the probe's font.

use std::collections::HashMap;

use miette::{Result, miette};
use probe::framebuffer::{CELL_HEIGHT, CELL_WIDTH, raster};
use serde_json::json;

use crate::project;
use crate::qemu::Machine;

const WIDTH: usize = CELL_WIDTH as usize;
const HEIGHT: usize = CELL_HEIGHT as usize;
/// In place of what is no character.
const UNKNOWN: char = '\u{fffd}';

/// The screen's lines of characters, without blanks at their ends, and how many characters a line has.
pub type Lines = (Vec<String>, usize);

/// What a screen in text mode shows.
pub fn text(machine: &mut Machine) -> Result<Lines> {
    const COLUMNS: usize = 80;
    const ROWS: usize = 25;
    let file = machine.dir().join("screen.bin");
    machine.ask("pmemsave", json!({ "val": 0xb8000, "size": 2 * COLUMNS * ROWS, "filename": file }))?;
    // A character, then its colour.
    let characters: Vec<u8> = project::read(&file)?.into_iter().step_by(2).collect();
    let line = |line: &[u8]| String::from_utf8_lossy(line).trim_end().to_owned();
    Ok((characters.chunks(COLUMNS).map(line).collect(), COLUMNS))
}

/// What a framebuffer shows.
pub fn pixels(machine: &mut Machine) -> Result<Lines> {
    read(&picture(machine)?).ok_or_else(|| miette!("the screen's picture has another format"))
}

/// Whether a framebuffer shows nothing.
pub fn is_black(machine: &mut Machine) -> Result<bool> {
    let picture = picture(machine)?;
    let pixels = picture.splitn(4, |byte| *byte == b'\n').nth(3);
    Ok(pixels.is_none_or(|pixels| pixels.iter().all(|byte| *byte == 0)))
}

fn picture(machine: &mut Machine) -> Result<Vec<u8>> {
    let file = machine.dir().join("screen.ppm");
    machine.ask("screendump", json!({ "filename": file }))?;
    project::read(&file)
}

/// Reads a picture as QEMU writes it: a portable pixmap with a byte for each colour.
fn read(picture: &[u8]) -> Option<Lines> {
    let mut parts = picture.splitn(4, |byte| *byte == b'\n');
    let mut text = || std::str::from_utf8(parts.next()?).ok();
    let (kind, size, most) = (text()?, text()?, text()?);
    let (width, height) = size.split_once(' ')?;
    let (width, height): (usize, usize) = (width.parse().ok()?, height.parse().ok()?);
    let pixels = parts.next().filter(|pixels| pixels.len() == 3 * width * height)?;
    if (kind, most) != ("P6", "255") {
        return None;
    }
    let known: HashMap<Vec<u8>, char> =
        (b' '..=b'~').filter_map(|byte| Some((raster(byte)?.pixels().to_vec(), char::from(byte)))).collect();
    let grey = |x: usize, y: usize| match pixels[3 * (width * y + x)..][..3] {
        [red, green, blue] if red == green && green == blue => Some(red),
        _ => None,
    };
    let character = |row: usize, column: usize| {
        let cell = (0..HEIGHT).flat_map(|y| (0..WIDTH).map(move |x| (WIDTH * column + x, HEIGHT * row + y)));
        let cell: Option<Vec<u8>> = cell.map(|(x, y)| grey(x, y)).collect();
        cell.and_then(|cell| known.get(&cell).copied()).unwrap_or(UNKNOWN)
    };
    let columns = width / WIDTH;
    let line = |row| (0..columns).map(|column| character(row, column)).collect::<String>().trim_end().to_owned();
    Some(((0..height / HEIGHT).map(line).collect(), columns))
}
