//! string-reverse: a component with a channel of two dataports. At each event it reverses the string in the first one into the
//! second, and emits an event.
#![no_std]
#![forbid(unsafe_code)]

use channel::Dataport;

/// Bytes of the longest string, and its NUL.
const ROOM: usize = 4096;

/// Reverses the string in `input`, which ends with a NUL or with the dataport, into `output`, byte by byte. What has no room
/// there, the string's beginning, is left out.
pub fn reverse(input: &Dataport, output: &Dataport) {
    let mut buffer = [0; ROOM];
    let [from, to] = [input, output].map(|dataport| usize::try_from(dataport.len()).unwrap_or(ROOM).min(ROOM));
    let text = buffer.get_mut(..from).unwrap_or_default();
    // Copied once: the other end may change it meanwhile.
    if input.read(0, text).is_err() {
        return;
    }
    let end = text.iter().position(|byte| *byte == 0).unwrap_or_else(|| unterminated(text));
    buffer[..end].reverse();
    let end = end.min(to - 1);
    buffer[end] = 0;
    // A dataport that only the other end writes is the description's mistake, which the process has found.
    let _ = output.write(0, &buffer[..=end]);
}

/// Bytes of a string that does not end: what leaves room for a NUL.
// Not inlined, so that a test can break it in the boot image.
#[cold]
#[inline(never)]
fn unterminated(text: &[u8]) -> usize {
    text.len().min(ROOM - 1)
}
