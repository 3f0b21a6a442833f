//! The guest's ends of channels: a PCI function each.

use channel::{Dataport, Events};
use devices::channel::Channel;
use layout::{
    config::{self, Vmm},
    slot,
};
use vmm_server::{board::Board, functions::Doorbell};

/// Puts the functions on the guest's bus. A channel for which there is no place is left out.
pub fn plug(config: &Vmm, board: &mut Board) {
    for (number, channel) in config.channels.iter().enumerate() {
        let (vm, name) = (&config.name, &channel.name);
        let Some(line) = board.lines.free_input() else {
            log::error!("{vm}: no channel `{name}`, since devices have all inputs of the PIC");
            continue;
        };
        let function = match function(channel, line) {
            Ok(function) => function,
            Err(error) => {
                log::error!("{vm}: no channel `{name}`: {error:?}");
                continue;
            }
        };
        let doorbell = Doorbell { ring: |number| rt::signal(slot::channel(number)), number };
        if let Err(absent) = board.functions.add_channel(function, doorbell, line, &mut board.controllers.pic) {
            log::error!("{vm}: no channel `{name}`: {absent:?}");
        }
    }
}

fn function(channel: &config::Channel, line: u8) -> Result<Channel, devices::pci::ConfigError> {
    let events = Events::new(rt::shared(channel.events), channel.first);
    let dataports = channel.dataports.iter().map(|one| {
        // A guest's dataports have a home.
        (Dataport::new(rt::shared(one.window), one.writable), one.gpa.unwrap_or_default())
    });
    Channel::new(&channel.name, events, dataports.collect(), line)
}
