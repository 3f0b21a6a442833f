//! One connection: its credits, the bytes that were not read yet, and what is still to be sent and reported. It does not know
//! the rings.

use heapless::Deque;
use mmio::Record;
use proto::vsock::{Address, HEADER, Header, NO_MORE_RECEIVED, NO_MORE_SENT, Op};

/// How far a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// The other side has not answered yet.
    Connecting,
    Open,
    /// This side has ended it, and the other one has not agreed yet.
    Closing,
    /// It is no more.
    Gone,
}

/// What is still to be sent, in this order.
#[derive(Clone, Copy, Debug, Default)]
struct Owed {
    response: bool,
    credit: bool,
    shutdown: bool,
    reset: bool,
}

/// A connection.
pub struct Socket<const B: usize> {
    /// Tells it from its predecessors.
    pub serial: u32,
    pub own: Address,
    pub peer: Address,
    pub state: State,
    received: Deque<u8, B>,
    /// Bytes that its user has taken, ever.
    taken: u32,
    /// The same, as the other side knows it.
    told: u32,
    /// Bytes that were sent, ever.
    sent: u32,
    /// The other side's credit: room in all, and bytes taken ever.
    peer_room: u32,
    peer_taken: u32,
    /// Directions that the other side has ended.
    ended: u32,
    owed: Owed,
    /// To be reported.
    pub opened: bool,
    pub readable: bool,
    /// Its user has more to send than there was room for.
    pub wants_room: bool,
}

impl<const B: usize> Socket<B> {
    const ROOM: u32 = {
        assert!(B > 0 && B < 1 << 31, "credits count 32 bits");
        B as u32
    };

    pub fn new(serial: u32, own: Address, peer: Address, state: State) -> Self {
        Self {
            serial,
            own,
            peer,
            state,
            received: Deque::new(),
            taken: 0,
            told: 0,
            sent: 0,
            peer_room: 0,
            peer_taken: 0,
            ended: 0,
            owed: Owed::default(),
            opened: false,
            readable: false,
            wants_room: false,
        }
    }

    /// The answer to a request.
    pub fn accepted(serial: u32, request: &Header) -> Self {
        let mut socket = Self::new(serial, request.to, request.from, State::Open);
        (socket.peer_room, socket.peer_taken) = (request.room, request.taken);
        (socket.owed.response, socket.opened) = (true, true);
        socket
    }

    /// A packet's header, with this side's credit.
    pub const fn header(&self, op: Op) -> Header {
        Header { room: Self::ROOM, taken: self.taken, ..Header::new(self.own, self.peer, op) }
    }

    /// A packet was sent, with that header and `len` bytes.
    pub const fn sent(&mut self, len: u32) {
        self.told = self.taken;
        self.sent = self.sent.wrapping_add(len);
    }

    /// Bytes that the other side has room for. What it says may be a lie, to its own harm.
    pub const fn credit(&self) -> u32 {
        match self.state {
            State::Open if self.ended & NO_MORE_RECEIVED == 0 => {
                self.peer_room.saturating_sub(self.sent.wrapping_sub(self.peer_taken))
            }
            _ => 0,
        }
    }

    /// Takes bytes that have come.
    pub fn take(&mut self, into: &mut [u8]) -> usize {
        let taken = into.iter_mut().map_while(|place| self.received.pop_front().map(|byte| *place = byte)).count();
        self.count(taken as u32);
        taken
    }

    /// Whether the other side sends nothing more, and all of it was taken.
    pub fn is_at_end(&self) -> bool {
        self.received.is_empty() && (self.ended & NO_MORE_SENT != 0 || self.state == State::Gone)
    }

    /// Ends it from this side.
    pub const fn close(&mut self) {
        match self.state {
            State::Connecting => self.reset(),
            State::Open => (self.owed.shutdown, self.state) = (true, State::Closing),
            State::Closing | State::Gone => {}
        }
    }

    const fn reset(&mut self) {
        self.owed = Owed { response: false, credit: false, shutdown: false, reset: true };
        self.state = State::Gone;
    }

    /// Handles a packet of this connection.
    pub fn receive(&mut self, header: &Header, record: &Record<'_>) {
        (self.peer_room, self.peer_taken) = (header.room, header.taken);
        match header.op {
            Some(Op::Response) if self.state == State::Connecting => (self.state, self.opened) = (State::Open, true),
            Some(Op::Data) => self.data(header.len, record),
            Some(Op::CreditRequest) => self.owed.credit = true,
            Some(Op::Shutdown) => (self.ended, self.readable) = (self.ended | header.flags, true),
            Some(Op::Reset) => (self.state, self.owed) = (State::Gone, Owed::default()),
            Some(Op::Request | Op::Response | Op::CreditUpdate) | None => {}
        }
        self.end();
    }

    fn data(&mut self, len: u32, record: &Record<'_>) {
        match self.state {
            State::Open if len as usize <= B - self.received.len() => {}
            // Nobody reads it any more, and the other side need not wait with its end.
            State::Closing => return self.count(len),
            // More than it was told that there is room for, or before it has accepted the connection.
            State::Open | State::Connecting => return self.reset(),
            State::Gone => return,
        }
        let mut bytes = [0; 256];
        let mut at = HEADER as u32;
        let end = at.saturating_add(len).min(record.len());
        while at < end {
            let part = (end - at).min(bytes.len() as u32);
            let Some(bytes) = bytes.get_mut(..part as usize) else { return };
            if record.read(at, bytes).is_err() {
                return;
            }
            // There is room.
            self.received.extend(bytes.iter().copied());
            at += part;
        }
        self.readable = true;
    }

    /// Counts bytes as taken. The other side is told before it runs out of credit.
    fn count(&mut self, taken: u32) {
        self.taken = self.taken.wrapping_add(taken);
        if self.taken.wrapping_sub(self.told) >= Self::ROOM.div_ceil(2) {
            self.owed.credit = true;
        }
        self.end();
    }

    /// Where the other side has ended both directions, it waits for an RST, which it gets when all was read.
    fn end(&mut self) {
        let both = self.ended & NO_MORE_RECEIVED != 0 && self.ended & NO_MORE_SENT != 0;
        match self.state {
            State::Open if both && self.received.is_empty() => self.reset(),
            State::Closing if both => self.reset(),
            _ => {}
        }
    }

    /// What is to be sent next.
    pub const fn owes(&self) -> Option<Header> {
        let header = match self.owed {
            Owed { response: true, .. } => self.header(Op::Response),
            Owed { credit: true, .. } if !matches!(self.state, State::Gone) => self.header(Op::CreditUpdate),
            Owed { shutdown: true, .. } => {
                Header { flags: NO_MORE_RECEIVED | NO_MORE_SENT, ..self.header(Op::Shutdown) }
            }
            Owed { reset: true, .. } => self.header(Op::Reset),
            _ => return None,
        };
        Some(header)
    }

    /// That was sent.
    pub const fn paid(&mut self, op: Option<Op>) {
        match op {
            Some(Op::Response) => self.owed.response = false,
            Some(Op::Shutdown) => self.owed.shutdown = false,
            Some(Op::Reset) => self.owed.reset = false,
            _ => {}
        }
        // Each packet carries the credit.
        self.owed.credit = false;
        self.sent(0);
    }

    /// Forgets what is owed: the other side has gone, or net-server has.
    pub fn lose(&mut self) {
        (self.state, self.owed) = (State::Gone, Owed::default());
    }
}
