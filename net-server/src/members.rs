//! The members of networks of sockets: what becomes of a packet, who waits for whom, and who is owed an RST.
//!
//! A full ring is used in turns: whoever has found it full is the next to put something in. A member that makes no room
//! for [`PATIENCE`] while it is somebody's turn loses its connections: whoever waits gets RSTs, and it is told, once it
//! takes anything again.

use heapless::Vec;
use layout::{config::Name, limits::MAX_SWITCH_PORTS};
use mmio::{Mended, NoRoom, Record, RecordProducer};
use proto::vsock::{Address, DOWN, HEADER, Header, LONGEST, LOST, Op, Port, STREAM, UP};

use crate::connections::{Connections, End, State};
use crate::counts::{Counts, Refused};
use crate::switch::Moved;

/// Seconds for which a member may keep others waiting.
const PATIENCE: u64 = 4;

/// A member, without its rings.
#[derive(Clone, Debug)]
struct Member {
    name: Name,
    network: u8,
    cid: u32,
    /// It answers.
    present: bool,
    /// It has to be told that its connections are lost.
    lost: bool,
    /// Whose turn it is to put something into its ring, which is full.
    turn: Option<Turn>,
    /// For whose ring its next packet waits.
    waits_for: Option<usize>,
    broken: bool,
    counts: Counts,
}

/// A member's turn at a full ring. The ring's own client has it for what the switch itself answers.
#[derive(Clone, Copy, Debug)]
struct Turn {
    who: usize,
    since: u64,
}

/// What came of an attempt to put something into a ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Put {
    Done,
    /// There is no room yet, or others are first.
    Wait,
    /// The ring is broken.
    Never,
}

/// All members, with the rings to them.
#[derive(Debug)]
pub struct Members {
    all: Vec<Member, MAX_SWITCH_PORTS>,
    outputs: Vec<RecordProducer, MAX_SWITCH_PORTS>,
    connections: Connections,
    /// Members whose next packet need not wait any longer, as bits.
    ready: u64,
    patience: u64,
}

impl Members {
    /// Nobody yet, on a machine whose TSC has this rate.
    pub fn new(hertz: u64) -> Self {
        let connections = Connections::default();
        Self { all: Vec::new(), outputs: Vec::new(), connections, ready: 0, patience: PATIENCE * hertz }
    }

    /// Adds a member, with the ring to it.
    pub fn add(&mut self, Port { name, network, cid, .. }: &Port, output: RecordProducer) {
        let member = Member {
            name: name.clone(),
            network: *network,
            cid: *cid,
            present: false,
            // Its connections of before a restart are unknown to this switch.
            lost: true,
            turn: None,
            waits_for: None,
            broken: false,
            counts: Counts::default(),
        };
        // Cannot fail: there are no more than the configuration has room for.
        let _ = self.all.push(member);
        let _ = self.outputs.push(output);
    }

    /// A member's counts.
    pub fn counts(&self, member: usize) -> Option<Counts> {
        self.all.get(member).map(|member| member.counts)
    }

    /// See `Sockets::take_ready`.
    pub const fn take_ready(&mut self) -> u64 {
        core::mem::replace(&mut self.ready, 0)
    }

    /// Whether a member wants a signal for what was put into its ring.
    pub fn must_signal(&mut self, member: usize) -> bool {
        self.outputs.get_mut(member).is_some_and(RecordProducer::must_signal)
    }

    /// Ends the connections of a member that has kept others waiting for too long.
    pub fn expire(&mut self, member: usize, now: u64) {
        if self.all[member].turn.is_some_and(|turn| now.saturating_sub(turn.since) >= self.patience) {
            self.lose(member);
        }
    }

    /// When somebody will have waited for too long.
    pub fn deadline(&self) -> Option<u64> {
        let turns = self.all.iter().filter_map(|member| member.turn);
        turns.map(|turn| turn.since.saturating_add(self.patience)).min()
    }

    /// Handles a record. `false` if it has to wait.
    pub fn take(&mut self, from: usize, record: &Record<'_>, now: u64) -> bool {
        let waited = self.all[from].waits_for.take();
        let done = self.handle(from, record, now);
        match waited {
            Some(to) if self.all[from].waits_for != Some(to) => self.end_turn(to, from),
            _ => {}
        }
        done
    }

    fn handle(&mut self, from: usize, record: &Record<'_>, now: u64) -> bool {
        let mut head = [0; HEADER];
        if record.read(0, &mut head).is_err() {
            let mut notice = [0; UP.len()];
            let read = record.len() == UP.len() as u32 && record.read(0, &mut notice).is_ok();
            self.notice(from, read.then_some(notice));
            return true;
        }
        let is_whole = |header: &Header| {
            let data = if header.op == Some(Op::Data) { LONGEST } else { 0 };
            header.len <= data && record.len() == HEADER as u32 + header.len
        };
        let Some(header) = Header::parse(&head).filter(is_whole) else {
            self.count(from, Refused::Malformed);
            return true;
        };
        if header.from.cid != self.all[from].cid {
            self.count(from, Refused::Spoofed);
            return true;
        }
        let to = self.receiver(from, header.to.cid);
        let ends = to.map(|to| {
            (End { member: from as u8, socket: header.from.port }, End { member: to as u8, socket: header.to.port })
        });
        let known = ends.and_then(|(one, two)| self.connections.state(one, two));
        let pass = match (header.op, ends, known) {
            (Some(Op::Reset), Some((one, two)), _) => {
                self.connections.end(one, two);
                self.settle(two.member.into(), now);
                return true;
            }
            // "RST … in response to RST" would go on for ever.
            (Some(Op::Reset), None, _) => return true,
            _ if header.kind != STREAM => None,
            // Nobody opens a connection that is open.
            (None, ..) | (Some(Op::Request), _, Some(State::Live)) => {
                self.count(from, Refused::Malformed);
                return true;
            }
            (Some(Op::Request), Some(ends), None) => {
                (self.all[from].present && self.connections.has_room(from as u8)).then_some(ends)
            }
            (Some(_), Some(ends), Some(State::Live)) => Some(ends),
            (Some(_), ..) => None,
        };
        if let Some((one, two)) = pass {
            let to = usize::from(two.member);
            match self.put(to, from, &head, Some(record), now) {
                Put::Done => {
                    if header.op == Some(Op::Request) {
                        // Cannot fail: there is room.
                        let _ = self.connections.open(one, two);
                    }
                    return true;
                }
                Put::Wait => {
                    self.all[from].waits_for = Some(to);
                    return false;
                }
                Put::Never => self.lose(to),
            }
        }
        self.refuse(from, &header, now)
    }

    /// Answers a packet by RST. `false` if that has to wait.
    fn refuse(&mut self, from: usize, header: &Header, now: u64) -> bool {
        // Who has to be told that all is lost need not be told of each connection.
        if !self.all[from].lost {
            match self.put(from, from, &header.refusal().bytes(), None, now) {
                Put::Done => {}
                Put::Wait => {
                    self.all[from].waits_for = Some(from);
                    return false;
                }
                Put::Never => self.lose(from),
            }
        }
        true
    }

    /// The member that has an address in a member's network, if it answers.
    fn receiver(&self, from: usize, cid: u32) -> Option<usize> {
        let network = self.all[from].network;
        let is = |member: &Member| member.network == network && member.cid == cid && member.present;
        self.all.iter().position(is).filter(|to| *to != from)
    }

    /// A client begins to answer, or is gone. In either case it knows of no connection.
    fn notice(&mut self, from: usize, notice: Option<[u8; UP.len()]>) {
        let member = &mut self.all[from];
        match notice {
            Some(UP) => member.present = true,
            Some(DOWN) => member.present = false,
            _ => return self.count(from, Refused::Malformed),
        }
        (member.lost, member.turn) = (false, None);
        self.connections.end_all(from as u8);
        // They find that the connections are gone.
        self.wake(from);
    }

    fn count(&mut self, from: usize, refused: Refused) {
        let Member { name, counts, .. } = &mut self.all[from];
        counts.add(name, refused);
    }

    /// A member has kept others waiting for too long, or has broken its ring.
    fn lose(&mut self, member: usize) {
        let Member { present, lost, turn, .. } = &mut self.all[member];
        (*present, *lost, *turn) = (false, true, None);
        self.connections.end_all(member as u8);
        self.wake(member);
    }

    /// A member's own ring is broken.
    pub fn broken(&mut self, member: usize) -> Moved {
        if core::mem::replace(&mut self.all[member].broken, true) {
            return Moved::Nothing;
        }
        self.leave_turn(member);
        self.lose(member);
        Moved::Broke
    }

    /// A member has nothing to send: it waits for nobody's room, and is nobody's next.
    pub fn leave_turn(&mut self, member: usize) {
        if let Some(to) = self.all[member].waits_for.take() {
            self.end_turn(to, member);
        }
    }

    /// Looks whether the ring to a member can be used again.
    pub fn mend(&mut self, member: usize) -> Mended {
        self.outputs.get_mut(member).map_or(Mended::Broken, RecordProducer::mend)
    }

    /// Both of a member's rings are whole.
    pub fn mended(&mut self, member: usize) {
        self.all[member].broken = false;
    }

    /// Sends a member what it is owed, as far as there is room.
    pub fn settle(&mut self, member: usize, now: u64) {
        if self.all[member].lost {
            self.all[member].lost = !tell(&mut self.outputs[member]);
            return;
        }
        while let Some((end, other)) = self.connections.owed(member as u8) {
            let address = |end: End| Address { cid: self.all[usize::from(end.member)].cid, port: end.socket };
            let reset = Header::new(address(other), address(end), Op::Reset);
            match self.put(member, member, &reset.bytes(), None, now) {
                Put::Done => {
                    self.connections.paid(end, other);
                    self.end_turn(member, member);
                }
                Put::Wait => return,
                Put::Never => return self.lose(member),
            }
        }
    }

    /// Puts a packet into the ring to `to`'s client: `head`, then what `record` has behind its own.
    fn put(&mut self, to: usize, who: usize, head: &[u8; HEADER], record: Option<&Record<'_>>, now: u64) -> Put {
        let member = &mut self.all[to];
        if member.turn.is_some_and(|turn| turn.who != who) {
            return Put::Wait;
        }
        let output = &mut self.outputs[to];
        let rest = record.map_or(0, |record| record.len().saturating_sub(HEADER as u32));
        let len = HEADER as u32 + rest;
        loop {
            match output.reserve(len) {
                Ok(mut copy) => {
                    // Neither can fail: the room is that of the whole.
                    let copied = copy.write(head).and_then(|()| match record {
                        Some(record) => record.forward(HEADER as u32, &mut copy, rest),
                        None => Ok(()),
                    });
                    debug_assert!(copied.is_ok());
                    copy.publish();
                    return Put::Done;
                }
                Err(NoRoom::Full) => {
                    if !output.park(len) {
                        member.turn.get_or_insert(Turn { who, since: now });
                        return Put::Wait;
                    }
                }
                Err(NoRoom::TooLong | NoRoom::Broken) => return Put::Never,
            }
        }
    }

    /// Ends `who`'s turn at a ring, if it has it: the others may try.
    fn end_turn(&mut self, to: usize, who: usize) {
        if self.all[to].turn.is_some_and(|turn| turn.who == who) {
            self.all[to].turn = None;
            self.wake(to);
        }
    }

    /// Whoever waits for a member's ring can try again.
    pub fn wake(&mut self, member: usize) {
        for (number, waiting) in self.all.iter().enumerate() {
            if waiting.waits_for == Some(member) {
                self.ready |= 1 << number;
            }
        }
    }
}

/// Tells a client that its connections are lost, if there is room.
fn tell(output: &mut RecordProducer) -> bool {
    loop {
        match output.reserve(LOST.len() as u32) {
            Ok(mut record) => {
                // Cannot fail: that much is reserved.
                let _ = record.write(&LOST);
                record.publish();
                return true;
            }
            Err(NoRoom::Full) => {}
            Err(NoRoom::TooLong | NoRoom::Broken) => return false,
        }
        if !output.park(LOST.len() as u32) {
            return false;
        }
    }
}
