//! The back end of a guest's disk: the rings to block-server.
//!
//! Its first request is a greeting, and what comes before the answer to that is none of this process's: a predecessor may
//! have died with requests under way.

use devices::{
    GuestMemory,
    virtio::{
        Broken, Request as GuestRequest,
        block::{Backend, Disk as Shape, Finished, ID, Operation, Started},
    },
};
use mmio::{Mended, NotARing, Record, RecordConsumer, RecordProducer, RecordRing, Reservation, Window};
use proto::block::{self, Completion, Geometry, Request, SECTOR, Status};

/// Set in the tags of greetings, and not in those of the guest's requests.
const GREETING: u64 = 1 << 63;

/// The disk.
#[derive(Debug)]
pub struct Disk {
    requests: RecordProducer,
    completions: RecordConsumer,
    shape: Shape,
    /// Something was published or released since the last look.
    output: bool,
}

impl Disk {
    /// The disk behind these rings, of which nothing is known yet.
    pub fn new(requests: Window, completions: Window) -> Result<Self, NotARing> {
        let (requests, completions) = (RecordRing::new(requests)?.producer(), RecordRing::new(completions)?.consumer());
        let shape = Shape { sectors: 0, read_only: false, id: [0; ID] };
        Ok(Self { requests, completions, shape, output: false })
    }

    /// Greets block-server. `token` is a number that no predecessor has used. False if the ring is full of a predecessor's
    /// requests, or broken by it: then try again after a signal.
    pub fn greet(&mut self, token: u64) -> bool {
        if self.requests.mend() == Mended::Broken {
            return false;
        }
        let request = Request { tag: GREETING | token, operation: block::Operation::Hello };
        let len = Request::BYTES as u32;
        if !self.has_room(len) {
            return false;
        }
        let Ok(mut record) = self.requests.reserve(len) else { return false };
        let written = record.write(&request.bytes());
        debug_assert!(written.is_ok());
        record.publish();
        true
    }

    /// Whether there is room for a request. Without, block-server signals when there is.
    fn has_room(&mut self, len: u32) -> bool {
        self.requests.reserve(len).is_ok() || self.requests.park(len)
    }

    /// Whether there is a completion. Without, block-server signals when there is.
    fn has_completion(&mut self) -> bool {
        !matches!(self.completions.peek(), Ok(None)) || self.completions.park()
    }

    /// Looks for the answer to the greeting with this token. `Some(false)` says that there is no disk.
    pub fn is_greeted(&mut self, token: u64) -> Option<bool> {
        if self.completions.mend() == Mended::Broken {
            return None;
        }
        while self.has_completion() {
            let Ok(Some(record)) = self.completions.peek() else { return Some(false) };
            let (mut head, mut shape) = ([0; Completion::BYTES], [0; Geometry::BYTES]);
            let read = record.read(0, &mut head).and_then(|()| record.read(head.len() as u32, &mut shape));
            record.release();
            let Completion { tag, status } = Completion::of(&head);
            if tag == GREETING | token {
                let Geometry { sectors, read_only } = Geometry::of(&shape);
                (self.shape.sectors, self.shape.read_only) = (sectors, read_only);
                return Some(read.is_ok() && status == Status::Done);
            }
        }
        None
    }

    /// Names the disk, for `/dev/disk/by-id`.
    pub fn set_id(&mut self, text: &str) {
        for (to, from) in self.shape.id.iter_mut().zip(text.bytes()) {
            *to = from;
        }
    }

    /// Whether block-server wants a signal for what has changed since the last call; the caller must send it then.
    pub fn must_signal(&mut self) -> bool {
        self.output = false;
        self.requests.must_signal() | self.completions.must_signal()
    }

    /// Sends a request, with what `data` appends for a write.
    pub fn begin(
        &mut self,
        tag: u32,
        operation: Operation,
        data: impl FnOnce(&mut Reservation<'_>) -> Result<u32, Broken>,
    ) -> Result<Started, Broken> {
        let (operation, bytes) = match operation {
            Operation::Read { sector, sectors } => (block::Operation::Read { sector, sectors }, 0),
            Operation::Write { sector, sectors } => (block::Operation::Write { sector, sectors }, sectors * SECTOR),
            Operation::Flush => (block::Operation::Flush, 0),
        };
        let len = Request::BYTES as u32 + bytes;
        // Without room, block-server signals when there is some; the device is polled then.
        if !self.has_room(len) {
            return Ok(Started::Busy);
        }
        let Ok(mut record) = self.requests.reserve(len) else { return Ok(Started::Busy) };
        let written = record.write(&Request { tag: tag.into(), operation }.bytes());
        debug_assert!(written.is_ok());
        if bytes > 0 && data(&mut record)? != bytes {
            return Err(Broken::Request);
        }
        record.publish();
        self.output = true;
        Ok(Started::Yes)
    }

    /// The completion that [`Backend::finished`] has given, and where in it the data begin.
    pub fn data(&mut self) -> Option<(Record<'_>, u32)> {
        let record = self.completions.peek().ok().flatten()?;
        Some((record, Completion::BYTES as u32))
    }
}

impl Backend for Disk {
    const MOST: u32 = block::MOST;

    fn disk(&self) -> Shape {
        self.shape
    }

    fn start(
        &mut self,
        tag: u32,
        operation: Operation,
        request: &mut GuestRequest<'_, impl GuestMemory>,
    ) -> Result<Started, Broken> {
        self.begin(tag, operation, |record| request.send(record))
    }

    fn finished(&mut self) -> Option<Finished> {
        while self.has_completion() {
            let Ok(Some(record)) = self.completions.peek() else { return None };
            let mut head = [0; Completion::BYTES];
            let read = record.read(0, &mut head);
            let Completion { tag, status } = Completion::of(&head);
            match u32::try_from(tag) {
                Ok(tag) if read.is_ok() => {
                    let len = record.len() - head.len() as u32;
                    return Some(Finished { tag, ok: status == Status::Done, len });
                }
                _ => record.release(),
            }
        }
        None
    }

    fn deliver(&mut self, request: &mut GuestRequest<'_, impl GuestMemory>) -> Result<u32, Broken> {
        self.data().map_or(Ok(0), |(record, at)| request.receive(&record, at))
    }

    fn release(&mut self) {
        if let Ok(Some(record)) = self.completions.peek() {
            record.release();
            self.output = true;
        }
    }

    fn has_output(&self) -> bool {
        self.output
    }
}
