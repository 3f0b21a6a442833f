//! udp-echo: a component that is a member of a network. It sends datagrams of UDP back to where they came from, and answers ARP
//! and pings.
#![no_std]
#![forbid(unsafe_code)]

use ethernet::{Port, Stack};
use smoltcp::{
    iface::{Config, Interface, PollIngressSingleResult, SocketHandle, SocketSet, SocketStorage},
    socket::udp::{PacketBuffer, PacketMetadata, Socket},
    time::{Duration, Instant},
    wire::{HardwareAddress, IpCidr, Ipv4Cidr},
};

/// Bytes of datagrams that wait in one direction.
const ROOM: usize = 8192;
/// How many datagrams those may be.
const DATAGRAMS: usize = 16;
/// Bytes of the longest datagram: what fits into a frame.
const LONGEST: usize = 1472;
/// Frames in a turn.
const TURN: usize = 16;
/// How long an answer waits for its receiver to be found.
const PATIENCE: Duration = Duration::from_secs(3);

/// The memory of the stack's sockets.
#[derive(Debug)]
pub struct Room<'a> {
    received: [u8; ROOM],
    sent: [u8; ROOM],
    received_meta: [PacketMetadata; DATAGRAMS],
    sent_meta: [PacketMetadata; DATAGRAMS],
    sockets: [SocketStorage<'a>; 1],
}

impl Default for Room<'_> {
    fn default() -> Self {
        Self {
            received: [0; ROOM],
            sent: [0; ROOM],
            received_meta: [PacketMetadata::EMPTY; DATAGRAMS],
            sent_meta: [PacketMetadata::EMPTY; DATAGRAMS],
            sockets: [SocketStorage::EMPTY],
        }
    }
}

/// The component, without its process.
pub struct Echo<'a> {
    stack: Stack,
    interface: Interface,
    sockets: SocketSet<'a>,
    socket: SocketHandle,
    udp: u16,
    /// When answers that cannot be sent are dropped.
    stuck: Option<Instant>,
}

impl<'a> Echo<'a> {
    /// One with this address in the network of `port`, which answers at `udp`, not 0.
    pub fn new(port: Port, address: Ipv4Cidr, udp: u16, room: &'a mut Room<'a>, now: Instant) -> Self {
        let mut stack = Stack::new(port);
        let mut interface = Interface::new(Config::new(HardwareAddress::Ethernet(stack.address())), &mut stack, now);
        // Cannot fail: it is the first address.
        interface.update_ip_addrs(|addresses| {
            let _ = addresses.push(IpCidr::Ipv4(address));
        });
        let Room { received, sent, received_meta, sent_meta, sockets } = room;
        let received = PacketBuffer::new(&mut received_meta[..], &mut received[..]);
        let mut socket = Socket::new(received, PacketBuffer::new(&mut sent_meta[..], &mut sent[..]));
        let bound = socket.bind(udp);
        debug_assert!(bound.is_ok());
        let mut sockets = SocketSet::new(&mut sockets[..]);
        let socket = sockets.add(socket);
        Self { stack, interface, sockets, socket, udp, stuck: None }
    }

    /// Takes some frames and answers. Returns whether there may be more.
    pub fn turn(&mut self, now: Instant) -> bool {
        let Self { stack, interface, sockets, socket: handle, .. } = self;
        interface.poll_maintenance(now);
        let mut more = true;
        for _ in 0..TURN {
            if interface.poll_ingress_single(now, stack, sockets) == PollIngressSingleResult::None {
                more = false;
                break;
            }
        }
        let socket = sockets.get_mut::<Socket>(*handle);
        let mut datagram = [0; LONGEST];
        while socket.can_send()
            && let Ok((len, from)) = socket.recv_slice(&mut datagram)
        {
            // What has no room is lost.
            let _ = socket.send_slice(datagram.get(..len).unwrap_or_default(), from.endpoint);
        }
        interface.poll_egress(now, stack, sockets);
        self.drop_stuck(now);
        more
    }

    /// An answer to an address that nobody has would keep all others behind it.
    fn drop_stuck(&mut self, now: Instant) {
        let socket = self.sockets.get_mut::<Socket>(self.socket);
        if socket.send_queue() == 0 {
            self.stuck = None;
        } else if now >= *self.stuck.get_or_insert(now + PATIENCE) {
            socket.close();
            let bound = socket.bind(self.udp);
            debug_assert!(bound.is_ok());
            self.stuck = None;
        }
    }

    /// When to have a turn at the latest, even if nothing comes.
    pub fn deadline(&mut self, now: Instant) -> Option<Duration> {
        self.interface.poll_delay(now, &self.sockets)
    }

    /// Whether the switch wants a signal; the caller must send it then.
    pub fn must_signal(&mut self) -> bool {
        self.stack.port().must_signal()
    }
}
