//! The process: takes IRQControl, builds the server, serves.
#![no_std]
#![no_main]
#![deny(unsafe_code)]

use irq_server::{Controller, Origin, Refused, Server};
use layout::{Bdf, SCRATCH_BITS, Slot, scratch_cptr, slot};
use proto::irq::{Config, Line, MsiMessage, dispatch};
use rt::Event;
use sel4::irq::{FIRST_VECTOR, MsiSource, Polarity, Trigger};
use sel4::{CPtrWithDepth, Error, cap};

rt::main!(main);

fn main(config: Config) -> ! {
    log::info!("{} lines", config.lines.len());
    let mut server = Server::new(config, Kernel);
    rt::serve(|event| match event {
        Event::Call(from, message) => dispatch(&mut server, from, message),
        Event::Signal(bits) => {
            server.on_signal(bits);
            Ok(())
        }
    })
}

/// The kernel's interrupt control. The handler of line n is in slot n + 1 of the scratch CNode.
struct Kernel;

impl Controller for Kernel {
    fn attach(&mut self, index: u8, line: &Line, origin: Origin, notified: Slot) -> Result<u64, Refused> {
        let place = u16::from(index) + 1;
        let path = CPtrWithDepth::from_bits_with_depth(place.into(), SCRATCH_BITS);
        let target = cap::CNode::from_bits(scratch_cptr(0)).absolute_cptr(path);
        let control = cap::IrqControl::from_bits(slot::IRQ_CONTROL.cptr());
        let vector = line.vector.into();
        let made = match origin {
            Origin::Input(route) => {
                let trigger = if route.level { Trigger::Level } else { Trigger::Edge };
                let polarity = if route.active_low { Polarity::ActiveLow } else { Polarity::ActiveHigh };
                let (ioapic, pin) = (route.ioapic.into(), route.pin.into());
                control.irq_control_get_ioapic(&target, ioapic, pin, trigger, polarity, vector)
            }
            Origin::Messages(Bdf { bus, device, function }) => {
                let source = MsiSource { bus, device, function, handle: index.into() };
                control.irq_control_get_msi(&target, source, vector)
            }
        };
        match made {
            // If this process was restarted, the slot has the handler that it created before. If the slot has another
            // capability, setting the notification fails.
            Ok(()) | Err(Error::DeleteFirst | Error::RevokeFirst) => {}
            Err(error) => return Err(refused(error)),
        }
        let handler = cap::IrqHandler::from_bits(scratch_cptr(place));
        let signalled = handler
            .irq_handler_set_notification(cap::Notification::from_bits(notified.cptr()))
            .and_then(|()| handler.irq_handler_ack());
        if signalled.is_err() {
            // Empties the slot, so that the next claim can try again.
            let _ = target.delete();
        }
        signalled.map_err(refused)?;
        Ok(handler.bits())
    }

    fn message(&self, line: &Line) -> MsiMessage {
        /// What a write to addresses from here on means, by the chipset: a message to the local APIC whose ID follows.
        const PREFIX: u32 = 0xfee0_0000;
        let address = PREFIX | u32::from(rt::local_apic()) << 12;
        MsiMessage { address, data: u16::from(FIRST_VECTOR) + u16::from(line.vector) }
    }

    fn acknowledge(&mut self, handler: u64) {
        if let Err(error) = cap::IrqHandler::from_bits(handler).irq_handler_ack() {
            log::error!("a line stays masked: {error:?}");
        }
    }

    fn signal(&mut self, slot: Slot) {
        rt::signal(slot);
    }
}

fn refused(error: sel4::Error) -> Refused {
    log::error!("{error:?}");
    Refused
}
