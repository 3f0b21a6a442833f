//! The connections between sockets, each from the request that opens it to its end, and the RSTs that are owed to those
//! who have not heard of the end yet.

use heapless::Vec;
use layout::limits::MAX_SWITCH_PORTS;

/// Connections that one member may have opened: more are refused, and only its own.
pub const MOST: usize = 128;

/// One end: a member, by its number, and its socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct End {
    /// The member.
    pub member: u8,
    /// Its socket's port.
    pub socket: u32,
}

/// Which end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Opener,
    Accepter,
}

#[derive(Clone, Copy, Debug)]
struct Connection {
    opener: End,
    accepter: End,
    /// It has ended, and remains for the RSTs that are owed.
    ended: bool,
    owed: [bool; 2],
}

impl Connection {
    const fn end(&self, side: Side) -> End {
        match side {
            Side::Opener => self.opener,
            Side::Accepter => self.accepter,
        }
    }

    fn sides_of(&self, member: u8) -> impl Iterator<Item = Side> {
        [Side::Opener, Side::Accepter].into_iter().filter(move |side| self.end(*side).member == member)
    }
}

impl Side {
    const fn other(self) -> Self {
        match self {
            Self::Opener => Self::Accepter,
            Self::Accepter => Self::Opener,
        }
    }
}

/// What is known of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It is open, or on the way there.
    Live,
    /// It has ended, and one end does not know yet.
    Ended,
}

/// The member has opened too many connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooMany;

/// All connections, by the member that has opened them.
#[derive(Debug)]
pub struct Connections {
    opened: [Vec<Connection, MOST>; MAX_SWITCH_PORTS],
    /// How many RSTs are owed to each member.
    owed: [usize; MAX_SWITCH_PORTS],
}

impl Default for Connections {
    fn default() -> Self {
        Self { opened: [const { Vec::new() }; MAX_SWITCH_PORTS], owed: [0; MAX_SWITCH_PORTS] }
    }
}

impl Connections {
    /// The state of the connection between two ends, whoever has opened it.
    pub fn state(&self, one: End, two: End) -> Option<State> {
        let (owner, place, _) = self.find(one, two)?;
        let connection = self.opened.get(owner)?.get(place)?;
        Some(if connection.ended { State::Ended } else { State::Live })
    }

    /// Whether a member may open another one.
    pub fn has_room(&self, member: u8) -> bool {
        self.opened.get(usize::from(member)).is_some_and(|opened| !opened.is_full())
    }

    /// Adds a connection.
    pub fn open(&mut self, opener: End, accepter: End) -> Result<(), TooMany> {
        let opened = self.opened.get_mut(usize::from(opener.member)).ok_or(TooMany)?;
        opened.push(Connection { opener, accepter, ended: false, owed: [false; 2] }).map_err(|_| TooMany)
    }

    /// Ends a connection for `by`; the other end is owed an RST.
    pub fn end(&mut self, by: End, other: End) {
        let Some((owner, place, side)) = self.find(by, other) else { return };
        let Some(connection) = self.opened.get_mut(owner).and_then(|opened| opened.get_mut(place)) else { return };
        if !core::mem::replace(&mut connection.ended, true) {
            connection.owed[side.other() as usize] = true;
            self.owed[usize::from(other.member)] += 1;
        }
    }

    /// Ends all connections of a member, which is owed nothing any more.
    pub fn end_all(&mut self, member: u8) {
        for opened in &mut self.opened {
            for connection in opened.iter_mut() {
                let Some(side) = connection.sides_of(member).next() else { continue };
                let other = connection.end(side.other()).member;
                if !core::mem::replace(&mut connection.ended, true) {
                    connection.owed[side.other() as usize] = true;
                    self.owed[usize::from(other)] += 1;
                }
                if core::mem::replace(&mut connection.owed[side as usize], false) {
                    self.owed[usize::from(member)] -= 1;
                }
            }
            opened.retain(|connection| !connection.ended || connection.owed != [false; 2]);
        }
    }

    /// The next RST that is owed to a member: its end, and the other.
    pub fn owed(&self, member: u8) -> Option<(End, End)> {
        if self.owed.get(usize::from(member)).is_none_or(|owed| *owed == 0) {
            return None;
        }
        let of = |connection: &Connection| {
            let side = connection.sides_of(member).find(|side| connection.owed[*side as usize])?;
            Some((connection.end(side), connection.end(side.other())))
        };
        self.opened.iter().flatten().find_map(of)
    }

    /// That RST was sent.
    pub fn paid(&mut self, to: End, other: End) {
        let Some((owner, place, side)) = self.find(to, other) else { return };
        let Some(opened) = self.opened.get_mut(owner) else { return };
        let Some(connection) = opened.get_mut(place) else { return };
        if core::mem::replace(&mut connection.owed[side as usize], false) {
            self.owed[usize::from(to.member)] -= 1;
        }
        if connection.ended && connection.owed == [false; 2] {
            opened.swap_remove(place);
        }
    }

    /// Who has opened the connection, which of theirs it is, and which side of it `one` is.
    fn find(&self, one: End, two: End) -> Option<(usize, usize, Side)> {
        [(one, two, Side::Opener), (two, one, Side::Accepter)].into_iter().find_map(|(opener, accepter, side)| {
            let owner = usize::from(opener.member);
            let opened = self.opened.get(owner)?;
            let is = |connection: &Connection| connection.opener == opener && connection.accepter == accepter;
            Some((owner, opened.iter().position(is)?, side))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn end(member: u8, socket: u32) -> End {
        End { member, socket }
    }

    #[test]
    fn a_connection_is_known_from_both_ends_until_both_know_of_its_end() {
        let mut all = Connections::default();
        let (a, b) = (end(0, 1024), end(1, 7));
        all.open(a, b).unwrap();
        assert_eq!([all.state(a, b), all.state(b, a)], [Some(State::Live); 2]);
        assert_eq!([all.state(end(0, 7), end(1, 1024)), all.state(a, end(2, 7))], [None; 2]);
        all.end(b, a);
        assert_eq!(all.state(a, b), Some(State::Ended));
        assert_eq!((all.owed(0), all.owed(1)), (Some((a, b)), None));
        all.end(a, b);
        assert_eq!((all.owed(0), all.owed(1)), (Some((a, b)), None), "the first end counts");
        all.paid(a, b);
        assert_eq!((all.state(a, b), all.owed(0)), (None, None));
    }

    #[test]
    fn who_is_gone_is_owed_nothing_and_all_others_are() {
        let mut all = Connections::default();
        let (a, b, c) = (end(0, 1), end(1, 2), end(2, 3));
        for (one, two) in [(a, b), (c, b), (a, c), (b, end(0, 9))] {
            all.open(one, two).unwrap();
        }
        all.end(a, b);
        assert_eq!(all.owed(1), Some((b, a)));
        all.end_all(1);
        assert_eq!(all.owed(1), None);
        assert_eq!(all.state(a, b), None, "both know");
        assert_eq!((all.owed(0), all.owed(2)), (Some((end(0, 9), b)), Some((c, b))));
        assert_eq!(all.state(a, c), Some(State::Live));
        all.paid(end(0, 9), b);
        all.paid(c, b);
        assert_eq!([0, 1, 2].map(|member| all.owed(member)), [None; 3]);
    }

    #[test]
    fn each_member_has_room_of_its_own() {
        let mut all = Connections::default();
        for n in 0..MOST as u32 {
            assert!(all.has_room(0));
            all.open(end(0, n), end(1, 7)).unwrap();
        }
        assert!(!all.has_room(0) && all.has_room(1));
        assert_eq!(all.open(end(0, 999), end(1, 7)), Err(TooMany));
        assert_eq!(all.open(end(1, 1), end(0, 7)), Ok(()));
        all.end(end(0, 5), end(1, 7));
        assert!(!all.has_room(0), "until the other end knows");
        all.paid(end(1, 7), end(0, 5));
        assert!(all.has_room(0));
    }
}
