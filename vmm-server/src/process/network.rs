//! The guest's network devices, and its socket device: each has two rings shared with net-server, and a doorbell.

use devices::virtio::{network::Network, vsock};
use layout::{
    config::{Nic, Vmm, Vsock},
    slot,
};
use vmm_server::{board::Board, functions::Doorbell};

/// Puts the devices on the guest's bus. A device for which there is no place is left out.
pub fn plug(config: &Vmm, board: &mut Board) {
    let name = &config.name;
    for (number, &Nic { mac, output, input }) in config.nics.iter().enumerate() {
        let Some(line) = board.lines.free_input() else {
            log::error!("{name}: no network device {number}, since devices have all inputs of the PIC");
            continue;
        };
        let device = Network::new(mac, rt::records(output).producer(), rt::records(input).consumer());
        let doorbell = Doorbell { ring: |number| rt::signal(slot::nic(number)), number };
        if let Err(absent) = board.functions.add_network(device, doorbell, line, &mut board.controllers.pic) {
            log::error!("{name}: no network device {number}: {absent:?}");
        }
    }
    let Some(Vsock { cid, output, input }) = config.vsock else { return };
    let Some(line) = board.lines.free_input() else {
        log::error!("{name}: no socket device, since devices have all inputs of the PIC");
        return;
    };
    let device = vsock::Vsock::new(cid, rt::records(output).producer(), rt::records(input).consumer());
    let doorbell = Doorbell { ring: |_| rt::signal(slot::VSOCK), number: 0 };
    if let Err(absent) = board.functions.add_vsock(device, doorbell, line, &mut board.controllers.pic) {
        log::error!("{name}: no socket device: {absent:?}");
    }
}
