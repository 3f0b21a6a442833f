//! The ports and what becomes of a frame.
//!
//! A frame is checked, then goes to one port or to several of the same network. Its first bytes, by which that is decided,
//! are copied once, and the copy is what goes on: the sender may change them in the meantime.

use heapless::Vec;
use layout::{config::Name, limits::MAX_SWITCH_PORTS};
use mmio::{BrokenRing, Mended, NoRoom, Record, RecordConsumer, RecordProducer};
use proto::net::{Config, HEADER, LONGEST, Mac, Offload, Port as Described, SHORTEST};

use crate::{
    bucket::Bucket,
    counts::{Counts, Refused},
    learned::Learned,
};

/// Bytes of a record that are copied: header and addresses.
const HEAD: usize = HEADER + 2 * 6;

/// The rings of a port.
#[derive(Debug)]
pub struct Rings {
    /// From the client.
    pub input: RecordConsumer,
    /// To the client.
    pub output: RecordProducer,
}

/// A port, without its rings.
#[derive(Clone, Debug)]
struct Port {
    name: Name,
    network: u8,
    mac: Mac,
    bridge: bool,
    learned: Learned,
    groups: Bucket,
    counts: Counts,
    broken: bool,
}

/// What came of looking at a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moved {
    /// A frame was taken, or a packet of a socket.
    Frame,
    /// There was none that could be, and a signal comes when there is.
    Nothing,
    /// A ring of this port has just broken.
    Broke,
}

/// The switches of all networks.
#[derive(Debug, Default)]
pub struct Switch {
    ports: Vec<Port, MAX_SWITCH_PORTS>,
    inputs: Vec<RecordConsumer, MAX_SWITCH_PORTS>,
    outputs: Vec<RecordProducer, MAX_SWITCH_PORTS>,
}

impl Switch {
    /// The ports of a configuration, with these rings, at time `now` of a TSC of this rate.
    pub fn new(config: &Config, rings: impl Iterator<Item = Rings>, hertz: u64, now: u64) -> Self {
        let mut switch = Self::default();
        for (Described { name, network, mac, bridge, .. }, Rings { input, output }) in config.ports.iter().zip(rings) {
            let port = Port {
                name: name.clone(),
                network: *network,
                mac: *mac,
                bridge: *bridge,
                learned: Learned::default(),
                groups: Bucket::new(hertz, now),
                counts: Counts::default(),
                broken: false,
            };
            // Cannot fail: there are no more ports than the configuration has room for.
            let _ = switch.ports.push(port);
            let _ = switch.inputs.push(input);
            let _ = switch.outputs.push(output);
        }
        switch
    }

    /// How many ports there are.
    pub fn len(&self) -> usize {
        self.ports.len()
    }

    /// A port's counts.
    pub fn counts(&self, port: usize) -> Option<Counts> {
        self.ports.get(port).map(|port| port.counts)
    }

    /// Goes on with a port's client that has begun anew, if its predecessor has broken a ring.
    pub fn mend(&mut self, port: usize) {
        let Self { ports, inputs, outputs } = self;
        if let (Some(port), Some(input), Some(output)) =
            (ports.get_mut(port), inputs.get_mut(port), outputs.get_mut(port))
        {
            port.broken &= input.mend().max(output.mend()) == Mended::Broken;
        }
    }

    /// Moves the next frame from a port's client, if there is one.
    pub fn step(&mut self, port: usize, now: u64) -> Moved {
        let Self { ports, inputs, outputs } = self;
        let Some(input) = inputs.get_mut(port) else { return Moved::Nothing };
        match input.peek() {
            Ok(Some(record)) => {
                forward(ports, outputs, port, &record, now);
                record.release();
                Moved::Frame
            }
            // A broken ring is not waited for, and the next look finds out.
            Ok(None) => {
                if input.park() {
                    Moved::Frame
                } else {
                    Moved::Nothing
                }
            }
            Err(BrokenRing) => self.broken(port),
        }
    }

    /// Whether a port's client wants a signal, for frames or for room.
    pub fn must_signal(&mut self, port: usize) -> bool {
        let input = self.inputs.get_mut(port).is_some_and(RecordConsumer::must_signal);
        let output = self.outputs.get_mut(port).is_some_and(RecordProducer::must_signal);
        input || output
    }

    fn broken(&mut self, port: usize) -> Moved {
        let known = self.ports.get_mut(port).is_none_or(|port| core::mem::replace(&mut port.broken, true));
        if known { Moved::Nothing } else { Moved::Broke }
    }
}

/// Sends a frame where it belongs, or counts why it does not.
fn forward(ports: &mut [Port], outputs: &mut [RecordProducer], from: usize, record: &Record<'_>, now: u64) {
    let judged = judge(ports, from, record, now);
    let Some(sender) = ports.get_mut(from) else { return };
    let (network, head, to) = match judged {
        Ok((head, to)) => (sender.network, head, to),
        Err(refused) => return sender.counts.add(&sender.name, refused),
    };
    for (number, (port, output)) in ports.iter_mut().zip(outputs).enumerate() {
        if number == from || port.network != network || !to.reaches(number, port) {
            continue;
        }
        if copy(output, &head, record).is_err() {
            port.counts.add(&port.name, Refused::Dropped);
        }
    }
}

/// Where a frame belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum To {
    Port(usize),
    /// All ports of the network.
    Group,
    /// Those behind which an address may be that no port has.
    Bridges,
}

impl To {
    const fn reaches(self, number: usize, port: &Port) -> bool {
        match self {
            Self::Port(to) => to == number,
            Self::Group => true,
            Self::Bridges => port.bridge,
        }
    }
}

/// Checks a frame; returns its head as it goes on, and where to.
fn judge(ports: &mut [Port], from: usize, record: &Record<'_>, now: u64) -> Result<([u8; HEAD], To), Refused> {
    let frame = record.len().checked_sub(HEADER as u32).ok_or(Refused::Malformed)?;
    let mut head = [0; HEAD];
    if !(SHORTEST..=LONGEST).contains(&frame) || record.read(0, &mut head).is_err() {
        return Err(Refused::Malformed);
    }
    let [header, to, source] = split(&head).ok_or(Refused::Malformed)?;
    let header = header.try_into().map_err(|_| Refused::Malformed)?;
    let offload = Offload::parse(header, frame).ok_or(Refused::Malformed)?;
    let [to, source] = [to, source].map(|bytes| Mac(bytes.try_into().unwrap_or_default()));
    let network = ports.get(from).map(|port| port.network);
    let owner = |mac: Mac| ports.iter().position(|port| Some(port.network) == network && port.mac == mac);
    let (to_owner, source_owner) = (owner(to), owner(source));
    let sender = ports.get_mut(from).ok_or(Refused::Malformed)?;
    let learns = match source_owner {
        Some(owner) => {
            if owner != from {
                return Err(Refused::Spoofed);
            }
            false
        }
        None => sender.bridge && !source.is_group(),
    };
    if source_owner.is_none() && !learns {
        return Err(Refused::Spoofed);
    }
    if to.is_group() && !sender.groups.take(now) {
        return Err(Refused::Limited);
    }
    if learns {
        learn(ports, from, source);
    }
    let to = match to_owner {
        _ if to.is_group() => To::Group,
        Some(port) => To::Port(port),
        None => {
            let behind = |port: &Port| Some(port.network) == network && port.learned.has(to);
            ports.iter().position(behind).map_or(To::Bridges, To::Port)
        }
    };
    if let Some(header) = head.get_mut(..HEADER) {
        header.copy_from_slice(&offload.header());
    }
    Ok((head, to))
}

/// Header, destination and source.
fn split(head: &[u8; HEAD]) -> Option<[&[u8]; 3]> {
    Some([head.get(..HEADER)?, head.get(HEADER..HEADER + 6)?, head.get(HEADER + 6..)?])
}

/// Has an address belong to a port, and to no other of its network.
fn learn(ports: &mut [Port], from: usize, mac: Mac) {
    let network = ports.get(from).map(|port| port.network);
    for (number, port) in ports.iter_mut().enumerate() {
        if number == from {
            port.learned.add(mac);
        } else if Some(port.network) == network {
            port.learned.forget(mac);
        }
    }
}

fn copy(output: &mut RecordProducer, head: &[u8; HEAD], record: &Record<'_>) -> Result<(), NoRoom> {
    let mut copy = output.reserve(record.len())?;
    let rest = record.len().saturating_sub(HEAD as u32);
    // Neither can fail: the room is that of the whole record.
    let copied = copy.write(head).and_then(|()| record.forward(HEAD as u32, &mut copy, rest));
    debug_assert!(copied.is_ok());
    copy.publish();
    Ok(())
}
