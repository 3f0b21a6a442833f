//! Stream sockets for components: AF_VSOCK without a kernel, for connections to guests and to other components.
//!
//! VIRTIO 1.2, section 5.10.6. A component that is a member of a `[[vsock]]` makes [`Sockets`] from its rings, listens or
//! connects, and then calls [`Sockets::poll`] whenever it has been signalled, until there are no more events. After that,
//! and after all that it sends, it signals net-server if [`Sockets::must_signal`] says so.
//!
//! Whoever is at the other end may be hostile: it can end its own connection, and make itself wait. Each connection has a
//! buffer of its own, and a peer that sends more than there is room for is reset.
//! Left out: ending one direction only, and time limits.
#![no_std]
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate std;

mod socket;
#[cfg(test)]
mod tests;

use heapless::Vec;
use mmio::{BrokenRing, Mended, NoRoom, RecordConsumer, RecordProducer};
pub use proto::vsock::Address;
use proto::vsock::{HEADER, Header, LONGEST, Op, STREAM, UP};
use socket::{Socket, State};

/// Ports that [`Sockets::listen`] takes at most.
const LISTENING: usize = 4;
/// The first port of those that connect.
const FIRST_PORT: u32 = 1 << 16;

/// A connection, from [`Event::Opened`] or [`Sockets::connect`] on, until [`Event::Closed`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Id {
    place: usize,
    serial: u32,
}

/// What has happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// There is a new connection, or the other side has accepted one.
    Opened(Id),
    /// Bytes have come, or the end of them ([`Sockets::is_at_end`]).
    Readable(Id),
    /// There is room again, for what [`Sockets::write`] has not taken.
    Writable(Id),
    /// The connection is no more, and what has not been read is lost.
    Closed(Id),
}

/// Why a connection cannot be opened or listened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// There is no place for it.
    TooMany,
    /// The ring to net-server has no room now: try again after a signal.
    Busy,
}

/// All sockets of a component: up to `N` connections, each with room for `B` bytes that have not been read.
pub struct Sockets<const N: usize, const B: usize> {
    cid: u32,
    output: RecordProducer,
    input: RecordConsumer,
    sockets: [Option<Socket<B>>; N],
    listening: Vec<u32, LISTENING>,
    next_port: u32,
    next_serial: u32,
    /// net-server knows that somebody answers here.
    announced: bool,
    /// An RST for somebody who has no socket here.
    refusal: Option<Header>,
}

impl<const N: usize, const B: usize> Sockets<N, B> {
    /// The sockets of this address, which send to `output` and receive from `input`. Connections of a predecessor end.
    pub fn new(cid: u32, output: RecordProducer, mut input: RecordConsumer) -> Self {
        while let Ok(Some(record)) = input.peek() {
            record.release();
        }
        Self {
            cid,
            output,
            input,
            sockets: [const { None }; N],
            listening: Vec::new(),
            next_port: FIRST_PORT,
            next_serial: 0,
            announced: false,
            refusal: None,
        }
    }

    /// Whether net-server is to be signalled now.
    pub fn must_signal(&mut self) -> bool {
        let output = self.output.must_signal();
        self.input.must_signal() || output
    }

    /// Accepts connections to a port from now on.
    pub fn listen(&mut self, port: u32) -> Result<(), Error> {
        self.listening.push(port).map_err(|_| Error::TooMany)
    }

    /// Asks for a connection; [`Event::Opened`] or [`Event::Closed`] tells what has become of it.
    pub fn connect(&mut self, to: Address) -> Result<Id, Error> {
        let place = self.sockets.iter().position(Option::is_none).ok_or(Error::TooMany)?;
        let own = Address { cid: self.cid, port: self.next_port };
        let socket = Socket::new(self.next_serial, own, to, State::Connecting);
        if !self.announce() || !send(&mut self.output, &socket.header(Op::Request), &[]) {
            return Err(Error::Busy);
        }
        self.next_port = self.next_port.checked_add(1).unwrap_or(FIRST_PORT);
        Ok(self.put(place, socket))
    }

    /// The other end of a connection.
    pub fn peer(&self, id: Id) -> Option<Address> {
        let socket = self.sockets.get(id.place)?.as_ref()?;
        (socket.serial == id.serial).then_some(socket.peer)
    }

    /// Takes bytes that have come; returns how many.
    pub fn read(&mut self, id: Id, into: &mut [u8]) -> usize {
        let taken = self.get(id).map_or(0, |socket| socket.take(into));
        self.settle();
        taken
    }

    /// Whether the other side will send nothing more, and all was read.
    pub fn is_at_end(&mut self, id: Id) -> bool {
        self.get(id).is_none_or(|socket| socket.is_at_end())
    }

    /// How many bytes [`write`](Self::write) would take now. If none, [`Event::Writable`] tells when it is some.
    pub fn room(&mut self, id: Id) -> usize {
        // What is owed goes first: data follow the acceptance of their connection.
        let room = if self.settle() { self.space(id) } else { 0 };
        if room == 0 {
            self.wait_for_room(id);
        }
        room
    }

    /// Sends bytes, as many as there is room for; returns how many. [`Event::Writable`] tells when there is more.
    pub fn write(&mut self, id: Id, bytes: &[u8]) -> usize {
        let (now, later) = bytes.split_at(self.room(id).min(bytes.len()));
        if !later.is_empty() {
            self.wait_for_room(id);
        }
        let Some(socket) = self.sockets.get_mut(id.place).and_then(Option::as_mut) else { return 0 };
        if now.is_empty() || socket.serial != id.serial {
            return 0;
        }
        let header = Header { len: now.len() as u32, ..socket.header(Op::Data) };
        // Cannot fail: there is room.
        send(&mut self.output, &header, now);
        socket.sent(header.len);
        now.len()
    }

    fn space(&mut self, id: Id) -> usize {
        let mut most = self.get(id).map_or(0, |socket| socket.credit()).min(LONGEST);
        while most > 0 && self.output.reserve(HEADER as u32 + most).is_err() {
            most /= 2;
        }
        most as usize
    }

    fn wait_for_room(&mut self, id: Id) {
        let Some(socket) = self.get(id) else { return };
        socket.wants_room = true;
        if socket.credit() > 0 {
            // There is a signal when the ring has room for a byte. If it has by now, the next poll finds out.
            self.output.park(HEADER as u32 + 1);
        }
    }

    /// Ends a connection, in both directions. [`Event::Closed`] follows.
    pub fn close(&mut self, id: Id) {
        if let Some(socket) = self.get(id) {
            socket.close();
        }
        self.settle();
    }

    /// Handles what has come, up to the next event; `None` if there is nothing more before the next signal.
    pub fn poll(&mut self) -> Option<Event> {
        loop {
            let settled = self.settle();
            if let Some(event) = (0..N).find_map(|place| self.news(place)) {
                return Some(event);
            }
            if !settled || !self.take() {
                return None;
            }
        }
    }

    /// What is to be reported of the socket at a place.
    fn news(&mut self, place: usize) -> Option<Event> {
        let serial = self.sockets.get(place)?.as_ref()?.serial;
        let id = Id { place, serial };
        let has_room = self.space(id) > 0;
        let socket = self.sockets.get_mut(place)?.as_mut()?;
        if core::mem::take(&mut socket.opened) {
            return Some(Event::Opened(id));
        }
        if core::mem::take(&mut socket.readable) && socket.state == State::Open {
            return Some(Event::Readable(id));
        }
        if socket.wants_room && has_room {
            socket.wants_room = false;
            return Some(Event::Writable(id));
        }
        if socket.state == State::Gone && socket.owes().is_none() {
            self.sockets[place] = None;
            return Some(Event::Closed(id));
        }
        None
    }

    /// Sends what is owed. `false` if that has to wait for a signal.
    fn settle(&mut self) -> bool {
        if !self.announce() {
            return false;
        }
        if let Some(refusal) = &self.refusal
            && !send(&mut self.output, refusal, &[])
        {
            return false;
        }
        self.refusal = None;
        for socket in self.sockets.iter_mut().flatten() {
            while let Some(header) = socket.owes() {
                if !send(&mut self.output, &header, &[]) {
                    return false;
                }
                socket.paid(header.op);
            }
        }
        true
    }

    /// Handles the next record. `false` if there is none before the next signal.
    fn take(&mut self) -> bool {
        let record = match self.input.peek() {
            Ok(Some(record)) => record,
            Ok(None) => return self.input.park(),
            Err(BrokenRing) => {
                self.lose();
                self.announced = false;
                return self.input.mend() != Mended::Broken;
            }
        };
        let mut head = [0; HEADER];
        if record.read(0, &mut head).is_err() {
            // Not a packet: net-server has begun again, and knows of no connection.
            record.release();
            self.announced = false;
            self.lose();
            return true;
        }
        let header = Header::parse(&head);
        let is = |socket: &&mut Socket<B>, header: &Header| {
            socket.own == header.to && socket.peer == header.from && socket.state != State::Gone
        };
        let known = header.and_then(|header| self.sockets.iter_mut().flatten().find(|socket| is(socket, &header)));
        let request = match (header, known) {
            (Some(header), Some(socket)) => {
                socket.receive(&header, &record);
                None
            }
            // net-server answers what else belongs to no connection.
            (header, _) => header.filter(|header| header.op == Some(Op::Request)),
        };
        record.release();
        if let Some(request) = request {
            self.request(&request);
        }
        true
    }

    /// Accepts a connection, or refuses it.
    fn request(&mut self, request: &Header) {
        let listens = request.kind == STREAM && self.listening.contains(&request.to.port);
        match self.sockets.iter().position(Option::is_none).filter(|_| listens) {
            Some(place) => {
                let socket = Socket::accepted(self.next_serial, request);
                self.put(place, socket);
            }
            None => self.refusal = Some(request.refusal()),
        }
    }

    fn put(&mut self, place: usize, socket: Socket<B>) -> Id {
        let id = Id { place, serial: socket.serial };
        self.next_serial = self.next_serial.wrapping_add(1);
        if let Some(free) = self.sockets.get_mut(place) {
            *free = Some(socket);
        }
        id
    }

    fn get(&mut self, id: Id) -> Option<&mut Socket<B>> {
        self.sockets.get_mut(id.place)?.as_mut().filter(|socket| socket.serial == id.serial)
    }

    /// No connection is left.
    fn lose(&mut self) {
        self.sockets.iter_mut().flatten().for_each(Socket::lose);
        self.refusal = None;
    }

    /// Tells net-server that somebody answers here. `false` if that has to wait for a signal.
    fn announce(&mut self) -> bool {
        if !self.announced {
            // A predecessor may have broken the ring. Then net-server signals when both ends have been made anew.
            self.announced = self.output.mend() != Mended::Broken && put_record(&mut self.output, &UP, &[]);
        }
        self.announced
    }
}

/// Sends a packet. `false` if there is no room; then a signal comes when there is.
fn send(output: &mut RecordProducer, header: &Header, data: &[u8]) -> bool {
    put_record(output, &header.bytes(), data)
}

fn put_record(output: &mut RecordProducer, head: &[u8], data: &[u8]) -> bool {
    let len = (head.len() + data.len()) as u32;
    loop {
        match output.reserve(len) {
            Ok(mut record) => {
                // Cannot fail: that much is reserved.
                let _ = record.write(head).and_then(|()| record.write(data));
                record.publish();
                return true;
            }
            Err(NoRoom::Full) => {}
            // A broken ring swallows everything: connections end when nothing is answered.
            Err(NoRoom::TooLong) => return true,
            Err(NoRoom::Broken) => match output.mend() {
                Mended::Broken => return true,
                _ => continue,
            },
        }
        if !output.park(len) {
            return false;
        }
    }
}
