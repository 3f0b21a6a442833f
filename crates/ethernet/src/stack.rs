//! The port as a device of smoltcp.

use smoltcp::{
    phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken},
    time::Instant,
    wire::EthernetAddress,
};

use crate::{port::Port, wire::LONGEST};

/// Bytes of a frame without a tag.
const UNTAGGED: usize = 1514;

/// A port for smoltcp.
#[derive(Debug)]
pub struct Stack {
    port: Port,
    received: [u8; LONGEST],
    sent: [u8; LONGEST],
}

impl Stack {
    /// This port's.
    pub const fn new(port: Port) -> Self {
        Self { port, received: [0; LONGEST], sent: [0; LONGEST] }
    }

    /// The port.
    pub const fn port(&mut self) -> &mut Port {
        &mut self.port
    }

    /// Its address.
    pub const fn address(&self) -> EthernetAddress {
        EthernetAddress(self.port.mac().0)
    }
}

impl Device for Stack {
    type RxToken<'a> = StackReceives<'a>;
    type TxToken<'a> = StackSends<'a>;

    fn receive(&mut self, _: Instant) -> Option<(StackReceives<'_>, StackSends<'_>)> {
        let len = self.port.receive(&mut self.received)?;
        let frame = self.received.get(..len)?;
        Some((StackReceives(frame), StackSends { port: &mut self.port, frame: &mut self.sent }))
    }

    fn transmit(&mut self, _: Instant) -> Option<StackSends<'_>> {
        Some(StackSends { port: &mut self.port, frame: &mut self.sent })
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = UNTAGGED;
        capabilities
    }
}

/// A frame that has come.
#[derive(Debug)]
pub struct StackReceives<'a>(&'a [u8]);

impl RxToken for StackReceives<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(self.0)
    }
}

/// Room for a frame to send.
#[derive(Debug)]
pub struct StackSends<'a> {
    port: &'a mut Port,
    frame: &'a mut [u8; LONGEST],
}

impl TxToken for StackSends<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        // smoltcp asks for no more than the capabilities say.
        let len = len.min(self.frame.len());
        let (frame, _) = self.frame.split_at_mut(len);
        let result = f(frame);
        // A full ring loses frames, as a wire does.
        let _ = self.port.send(frame);
        result
    }
}
