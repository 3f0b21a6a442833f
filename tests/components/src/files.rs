//! fileserver: an image read through it equals the file; no other image can be opened, and no other memory written.

use layout::config::Component;
use mmio::{OutOfRange, SharedBuffer, Span};
use proto::file::{Client, Error, File};
use rt::Endpoint;
use sha2::{Digest, Sha256};

use crate::verdict::Verdict;

/// The image that the client may open, and the one that only the outsider may.
const GRANTED: &str = "Cargo.lock";
const OTHERS: &str = "LICENSE";

/// Bytes per read: divides neither the buffer's nor the images' size.
const CHUNK: u32 = 4093;
/// Offset in the buffer.
const START: u32 = 11;

fn server() -> Client<Endpoint> {
    Client(Endpoint::at(proto::file::SERVICE.slot))
}

fn buffer(config: &Component) -> Option<SharedBuffer> {
    Some(SharedBuffer::new(rt::shared(config.files?)))
}

/// Reads the granted image, and tries to open the others.
pub fn granted(verdict: &mut Verdict, config: &Component) {
    let Some(buffer) = buffer(config) else { return verdict.holds("a buffer to read into", false) };
    let file = match server().open(GRANTED) {
        Ok(file) => file,
        error => return verdict.holds("the granted image opens", error.is_ok()),
    };
    match digest(file, &buffer) {
        Ok(digest) => log::info!("sha256 {} {GRANTED}", Hex(digest.as_slice())),
        Err(_) => verdict.holds("the granted image can be read", false),
    }
    verdict.equal("an unknown name", server().open("Cargo.lick"), Err(Error::NotFound));
    verdict.equal("an empty name", server().open(""), Err(Error::NotFound));
    verdict.equal("an image of another's", server().open(OTHERS), Err(Error::NotFound));
    let span = Span { start: 0, len: 16 };
    for id in (0..=u8::MAX).filter(|&id| id != file.id) {
        let read = server().read(File { id, ..file }, 0, span);
        verdict.equal("a number that was not given out", read, Err(Error::NotFound));
    }
    ranges(verdict, file, &buffer);
}

/// Tries to open the image that the other client was granted.
pub fn not_granted(verdict: &mut Verdict, config: &Component) {
    let Some(buffer) = buffer(config) else { return verdict.holds("a buffer to read into", false) };
    verdict.equal("an image of another's", server().open(GRANTED), Err(Error::NotFound));
    match server().open(OTHERS).map(|file| digest(file, &buffer)) {
        Ok(Ok(digest)) => log::info!("sha256 {} {OTHERS}", Hex(digest.as_slice())),
        _ => verdict.holds("the granted image can be read", false),
    }
}

/// Spans outside the buffer, and offsets at and beyond the end of the image.
fn ranges(verdict: &mut Verdict, file: File, buffer: &SharedBuffer) {
    let whole = buffer.whole();
    let beyond = [
        Span { start: whole.len, len: 1 },
        Span { start: whole.len - 1, len: 2 },
        Span { start: 0, len: whole.len + 1 },
        Span { start: u32::MAX, len: u32::MAX },
        Span { start: 1, len: u32::MAX },
    ];
    for span in beyond {
        verdict.equal("a span outside the buffer", server().read(file, 0, span), Err(Error::OutOfRange));
    }
    let span = Span { start: 8, len: 16 };
    let mark = [0xa5; 32];
    verdict.holds("the buffer is writable", buffer.copy_out(Span { start: 0, len: 32 }, &mark).is_ok());
    for offset in [file.size, file.size + 1, u64::MAX - 7, u64::MAX] {
        verdict.equal("an offset behind the end", server().read(file, offset, span), Ok(0));
    }
    verdict.equal("the last byte", server().read(file, file.size - 1, span), Ok(1));
    let mut seen = [0; 32];
    let copied = buffer.copy_in(Span { start: 0, len: 32 }, &mut seen).map(|seen| [&seen[..8], &seen[9..]]);
    verdict.equal("bytes beside the last one", copied, Ok([&mark[..8], &mark[9..]]));
    let Ok(target) = buffer.window(whole) else { return };
    let copied = server().copy(file, file.size - 4, 8, buffer, &target, 0);
    verdict.equal("a copy of more than there is", copied, Err(Error::Short));
}

/// Whatever fails, the image could not be read.
struct Unread;

impl From<Error> for Unread {
    fn from(_: Error) -> Self {
        Unread
    }
}

impl From<OutOfRange> for Unread {
    fn from(_: OutOfRange) -> Self {
        Unread
    }
}

fn digest(file: File, buffer: &SharedBuffer) -> Result<[u8; 32], Unread> {
    let (mut hash, mut offset) = (Sha256::new(), 0);
    let mut local = [0; CHUNK as usize];
    while offset < file.size {
        let count = server().read(file, offset, Span { start: START, len: CHUNK })?;
        if count == 0 {
            return Err(Unread);
        }
        hash.update(buffer.copy_in(Span { start: START, len: count }, &mut local)?);
        offset += u64::from(count);
    }
    Ok(hash.finalize().into())
}

struct Hex<'a>(&'a [u8]);

impl core::fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}
