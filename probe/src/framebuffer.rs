//! A framebuffer that the loader has set (multiboot 2, section 3.6.12), and characters on it, in Noto Sans Mono. Only pixels of 24
//! and 32 bits with a field for each colour, which is what UEFI's graphics output protocol has.

use noto_sans_mono_bitmap::{FontWeight, RasterHeight, RasterizedChar, get_raster, get_raster_width};

use crate::machine::{Machine, number};

/// A character's columns of pixels.
pub const CELL_WIDTH: u32 = get_raster_width(FontWeight::Regular, RasterHeight::Size16) as u32;
/// A character's rows of pixels.
pub const CELL_HEIGHT: u32 = RasterHeight::Size16.val() as u32;
/// More than any processor addresses.
const END: u64 = 1 << 52;
/// More than any screen has.
pub const MOST_BYTES: u64 = 1 << 29;
/// The tag's type of framebuffers with a field for each colour.
const DIRECT: u8 = 1;

/// A framebuffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Framebuffer {
    address: u64,
    /// Bytes from a row to the next.
    pitch: u64,
    width: u32,
    height: u32,
    /// Bytes of a pixel, 3 or 4.
    pixel: u32,
    /// Lowest bit and bits of red, green and blue.
    fields: [(u8, u8); 3],
}

impl Framebuffer {
    /// Reads the loader's tag; `None` if the format is another.
    pub fn parse(tag: &[u8]) -> Option<Self> {
        let framebuffer = Self::fields(tag)?;
        let Self { address, pitch, width, height, .. } = framebuffer;
        if width == 0 || height == 0 || framebuffer.row() > pitch || framebuffer.bytes() > MOST_BYTES {
            return None;
        }
        let end = address.checked_add(framebuffer.bytes())?;
        (end <= END).then_some(framebuffer)
    }

    /// Bytes of the pixels in a row.
    fn row(&self) -> u64 {
        u64::from(self.width) * u64::from(self.pixel)
    }

    /// Where it is.
    pub fn address(&self) -> u64 {
        self.address
    }

    /// Bytes from its first to its last pixel.
    pub fn bytes(&self) -> u64 {
        // A row is no longer than the pitch, which has 32 bits, so nothing overflows.
        self.pitch * u64::from(self.height.saturating_sub(1)) + self.row()
    }

    /// The same at another address, where it can be reached.
    pub fn at(self, address: u64) -> Self {
        Self { address, ..self }
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
        let pixel = u32::from(bits / 8);
        (kind == DIRECT && known && address != 0 && fields.iter().all(fits)).then_some(Self {
            address,
            pitch,
            width,
            height,
            pixel,
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
        let at = self.address + u64::from(y) * self.pitch + u64::from(x) * u64::from(self.pixel);
        let grey = |(low, size): (u8, u8)| (u64::from(brightness) * ((1 << size) - 1) / 255) << low;
        let pixel = self.fields.into_iter().map(grey).fold(0, |pixel, field| pixel | field) as u32;
        if self.pixel == 4 {
            machine.draw32(at, pixel);
        } else {
            (at..).zip(pixel.to_le_bytes()).take(3).for_each(|(at, byte)| machine.draw8(at, byte));
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
