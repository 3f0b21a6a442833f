//! A framebuffer that the loader has set (multiboot 2, section 3.6.12), and characters on it, in Noto Sans Mono. Only pixels of 24
//! and 32 bits with a field for each colour, which is what UEFI's graphics output protocol has.

use core::fmt;

use noto_sans_mono_bitmap::{FontWeight, RasterHeight, RasterizedChar, get_raster, get_raster_width};

use crate::machine::{Machine, number};

/// A character's columns of pixels.
pub const CELL_WIDTH: u32 = get_raster_width(FontWeight::Regular, RasterHeight::Size16) as u32;
/// A character's rows of pixels.
pub const CELL_HEIGHT: u32 = RasterHeight::Size16.val() as u32;
/// The first address that the program cannot reach.
const END: u64 = 1 << 32;
/// The tag's type of framebuffers with a field for each colour.
const DIRECT: u8 = 1;

/// A framebuffer, all of which can be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Framebuffer {
    address: u64,
    /// Bytes from a row to the next.
    pitch: u64,
    width: u32,
    height: u32,
    /// Bytes of a pixel, 3 or 4.
    bytes: u32,
    /// Lowest bit and bits of red, green and blue.
    fields: [(u8, u8); 3],
}

/// Why a framebuffer is left alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unusable {
    /// Its pixels are none of 24 or 32 bits with three fields.
    Format,
    /// It does not end below 4 GiB.
    High,
}

impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Format => "its framebuffer has a format that the probe does not know",
            Self::High => "its framebuffer is not below 4 GiB",
        })
    }
}

impl Framebuffer {
    /// Reads the loader's tag.
    pub fn parse(tag: &[u8]) -> Result<Self, Unusable> {
        let framebuffer = Self::fields(tag).ok_or(Unusable::Format)?;
        let Self { address, pitch, width, height, bytes, .. } = framebuffer;
        let row = u64::from(width) * u64::from(bytes);
        if row > pitch || width == 0 || height == 0 {
            return Err(Unusable::Format);
        }
        // A pitch has 32 bits, so the product does not overflow.
        let end = address.checked_add(pitch * u64::from(height - 1) + row);
        if end.is_none_or(|end| end > END) { Err(Unusable::High) } else { Ok(framebuffer) }
    }

    fn fields(tag: &[u8]) -> Option<Self> {
        let (address, pitch) = (number::<8>(tag, 8)?, number::<4>(tag, 16)?);
        let (width, height) = (number::<4>(tag, 20)? as u32, number::<4>(tag, 24)? as u32);
        let (bits, kind) = (*tag.get(28)?, *tag.get(29)?);
        let field = |at| Some((*tag.get(at)?, *tag.get(at + 1)?));
        let fields = [field(32)?, field(34)?, field(36)?];
        let fits = |(low, size): &(u8, u8)| *size > 0 && u32::from(*low) + u32::from(*size) <= u32::from(bits);
        // Pixels of 32 bits are written as words.
        let known = match bits {
            24 => true,
            32 => address.is_multiple_of(4) && pitch.is_multiple_of(4),
            _ => false,
        };
        let bytes = u32::from(bits / 8);
        (kind == DIRECT && known && address != 0 && fields.iter().all(fits)).then_some(Self {
            address,
            pitch,
            width,
            height,
            bytes,
            fields,
        })
    }

    /// Pixels in a row, and rows.
    pub fn size(&self) -> (u32, u32) {
        (self.width, self.height)
    }

    /// Makes all of it black.
    pub fn clear(&self, machine: &impl Machine) {
        for y in 0..self.height {
            (0..self.width).for_each(|x| self.point(machine, x, y, 0));
        }
    }

    /// Draws a character; each pixel of the font is a square of `scale` pixels. What is outside is left out.
    pub fn draw(&self, machine: &impl Machine, (left, top): (u32, u32), scale: u32, byte: u8) {
        let Some(raster) = raster(byte) else { return };
        for (y, row) in (0..).zip(raster.rows()) {
            for (x, brightness) in (0..).zip(row) {
                for (down, right) in (0..scale).flat_map(|down| (0..scale).map(move |right| (down, right))) {
                    self.point(machine, left + scale * x + right, top + scale * y + down, *brightness);
                }
            }
        }
    }

    fn point(&self, machine: &impl Machine, x: u32, y: u32, brightness: u8) {
        if x >= self.width || y >= self.height {
            return;
        }
        let at = self.address + u64::from(y) * self.pitch + u64::from(x) * u64::from(self.bytes);
        let grey = |(low, size): (u8, u8)| (u64::from(brightness) * ((1 << size) - 1) / 255) << low;
        let pixel = self.fields.into_iter().map(grey).fold(0, |pixel, field| pixel | field) as u32;
        if self.bytes == 4 {
            machine.write32(at, pixel);
        } else {
            (at..).zip(pixel.to_le_bytes()).take(3).for_each(|(at, byte)| machine.write8(at, byte));
        }
    }
}

/// A character's pixels; those of a question mark if the font does not have it.
pub fn raster(byte: u8) -> Option<RasterizedChar> {
    let raster = |character| get_raster(character, FontWeight::Regular, RasterHeight::Size16);
    raster(char::from(byte)).or_else(|| raster('?'))
}

#[cfg(test)]
mod tests;
