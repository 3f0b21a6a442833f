//! A file of fileserver's as a disk. Nobody writes it: what a client writes, block by block, is kept in a layer of its own, and
//! a read takes each block from the layer or else from the file. Data go from fileserver's buffer to the client's ring, so no
//! second copy of the file is in memory.
//!
//! A layer begins with a table: for each block of the file a word, which is 0 or, from 1 on, the number of the layer's block
//! that has its contents. Its memory is block-server's own, and zeros when that begins.

use layout::config::Name;
use mmio::{OutOfRange, Record, Reservation, SharedBuffer, Span, Window};
use proto::{
    block::{BLOCK, SECTOR, layer_table},
    file::{self, File},
    wire::Transport,
};

/// Why an operation fails.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// The layer has no room for another block.
    Full,
    /// fileserver refuses.
    File(file::Error),
    /// The client's record, or what fileserver says of the file, has changed.
    OutOfRange,
}

impl From<OutOfRange> for Fault {
    fn from(_: OutOfRange) -> Self {
        Fault::OutOfRange
    }
}

impl From<file::Error> for Fault {
    fn from(error: file::Error) -> Self {
        Fault::File(error)
    }
}

/// fileserver, and the buffer shared with it.
pub struct Files<T> {
    server: file::Client<T>,
    buffer: SharedBuffer,
}

impl<T: Transport> Files<T> {
    /// By this transport, with this buffer.
    pub const fn new(transport: T, buffer: Window) -> Self {
        Self { server: file::Client(transport), buffer: SharedBuffer::new(buffer) }
    }

    /// Appends the `len` bytes of a file from `at` on to a record.
    fn append(&self, file: File, mut at: u64, len: u64, to: &mut Reservation<'_>) -> Result<(), Fault> {
        let end = at + len;
        while at < end {
            let whole = self.buffer.whole();
            let span = Span { len: u32::try_from(end - at).unwrap_or(whole.len).min(whole.len), ..whole };
            let count = self.server.read(file, at, span)?;
            if count == 0 {
                return Err(file::Error::Short.into());
            }
            to.copy_from(&self.buffer.window(span)?, 0, count)?;
            at += u64::from(count);
        }
        Ok(())
    }
}

/// What a client has written.
struct Layer {
    memory: Window,
    /// Bytes of the table.
    table: u64,
    /// Blocks that there are, and that have contents.
    blocks: u32,
    used: u32,
}

impl Layer {
    /// The layer in this memory, which is zeros, for a file of so many bytes.
    fn new(memory: Window, file: u64) -> Self {
        let table = layer_table(file);
        let blocks = memory.len().saturating_sub(table) / BLOCK;
        Self { memory, table, blocks: u32::try_from(blocks).unwrap_or(u32::MAX), used: 0 }
    }

    /// Where the contents of a block of the file are, if it was written.
    fn find(&self, block: u64) -> Option<u64> {
        let number = self.memory.read_u32(4 * block).ok()?;
        Some(self.place(number.checked_sub(1)?))
    }

    const fn place(&self, number: u32) -> u64 {
        self.table + number as u64 * BLOCK
    }

    /// A place for the contents of a block, which `fill` brings there. It is the block's as soon as `fill` has succeeded.
    fn add(&mut self, block: u64, fill: impl FnOnce(&Window, u64) -> Result<(), Fault>) -> Result<u64, Fault> {
        if self.used >= self.blocks {
            return Err(Fault::Full);
        }
        let place = self.place(self.used);
        fill(&self.memory, place)?;
        self.memory.write_u32(4 * block, self.used + 1)?;
        self.used += 1;
        Ok(place)
    }
}

/// A file as a client has it.
pub struct Image {
    pub name: Name,
    file: File,
    layer: Option<Layer>,
    /// The last fault, which is in the log.
    pub last: Option<Fault>,
}

impl Image {
    /// The file of this name, with a layer in this memory.
    pub fn open<T: Transport>(files: &Files<T>, name: &Name, layer: Option<Window>) -> Result<Self, file::Error> {
        let file = files.server.open(name)?;
        let layer = layer.map(|memory| Layer::new(memory, file.size));
        Ok(Self { name: name.clone(), file, layer, last: None })
    }

    /// How many it has.
    pub const fn sectors(&self) -> u64 {
        self.file.size / SECTOR as u64
    }

    /// Whether there is nowhere to write to.
    pub const fn is_read_only(&self) -> bool {
        self.layer.is_none()
    }

    /// KiB that the client can write, and those that it has written.
    pub fn room(&self) -> (u64, u64) {
        let kib = |blocks| u64::from(blocks) * BLOCK / 1024;
        self.layer.as_ref().map_or((0, 0), |layer| (kib(layer.blocks), kib(layer.used)))
    }

    /// Appends sectors to a record.
    pub fn read<T: Transport>(
        &self,
        files: &Files<T>,
        sector: u64,
        sectors: u32,
        to: &mut Reservation<'_>,
    ) -> Result<(), Fault> {
        let Some(layer) = &self.layer else {
            return files.append(self.file, sector * u64::from(SECTOR), u64::from(sectors * SECTOR), to);
        };
        // What comes from the file since the last block of the layer.
        let mut from_file = None;
        for (at, len) in pieces(sector, sectors) {
            match layer.find(at / BLOCK) {
                None => {
                    let (_, so_far) = from_file.get_or_insert((at, 0));
                    *so_far += len;
                }
                Some(place) => {
                    if let Some((first, so_far)) = from_file.take() {
                        files.append(self.file, first, so_far, to)?;
                    }
                    to.copy_from(&layer.memory, place + at % BLOCK, len as u32)?;
                }
            }
        }
        from_file.map_or(Ok(()), |(first, so_far)| files.append(self.file, first, so_far, to))
    }

    /// Writes sectors, whose bytes are in a record from `from` on.
    pub fn write<T: Transport>(
        &mut self,
        files: &Files<T>,
        sector: u64,
        sectors: u32,
        record: &Record<'_>,
        mut from: u32,
    ) -> Result<(), Fault> {
        let Self { file, layer, .. } = self;
        let Some(layer) = layer else { return Err(Fault::Full) };
        for (at, len) in pieces(sector, sectors) {
            let block = at / BLOCK;
            let place = match layer.find(block) {
                Some(place) => place,
                None => layer.add(block, |memory, place| {
                    // What is not written now is the file's.
                    let (first, end) = (block * BLOCK, ((block + 1) * BLOCK).min(file.size));
                    match len == end - first {
                        true => Ok(()),
                        false => Ok(files.server.copy(*file, first, end - first, &files.buffer, memory, place)?),
                    }
                })?,
            };
            record.copy_to(from, &layer.memory, place + at % BLOCK, len as u32)?;
            from += len as u32;
        }
        Ok(())
    }
}

/// The bytes of sectors, block by block: where each piece begins, and how long it is.
fn pieces(sector: u64, sectors: u32) -> impl Iterator<Item = (u64, u64)> {
    let mut at = sector * u64::from(SECTOR);
    let end = at + u64::from(sectors * SECTOR);
    core::iter::from_fn(move || {
        let first = at;
        at = (first / BLOCK + 1) * BLOCK;
        at = at.min(end);
        (first < end).then_some((first, at - first))
    })
}
