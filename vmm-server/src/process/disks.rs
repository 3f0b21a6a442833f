//! The guest's disks, behind block-server.

use layout::{config::Vmm, event, slot};
use proto::timer;
use rt::Endpoint;
use vmm_server::{board::Board, disk::Disk, functions::Doorbell};

/// Seconds within which a disk must be there: its driver may have to wait for it to spin up.
const PATIENCE: u64 = 30;

/// Puts the disks on the guest's bus, in the order of the description. The guest runs without one that is not there.
pub fn plug(config: &Vmm, time: &timer::Client<Endpoint>, hertz: u64, board: &mut Board) {
    let deadline = rt::tsc() + PATIENCE * hertz;
    for (n, rings) in config.disks.iter().enumerate() {
        let disk = match Disk::new(rt::shared(rings.requests), rt::shared(rings.completions)) {
            Ok(disk) => disk,
            Err(error) => panic!("disk {n}: {error:?}"),
        };
        let Some(mut disk) = greet(disk, time, deadline) else {
            log::error!("{}: no disk {n}, since block-server has none", config.name);
            continue;
        };
        let mut name: heapless::String<16> = heapless::String::new();
        let _ = core::fmt::write(&mut name, format_args!("disk{n}"));
        disk.set_id(&name);
        let Some(input) = board.lines.free_input() else {
            log::error!("{}: no disk {n}, since devices have all inputs of the PIC", config.name);
            continue;
        };
        let doorbell = Doorbell { ring: |_| rt::signal(slot::BLOCK), number: n };
        if let Err(absent) = board.functions.add_disk(disk, doorbell, input, &mut board.controllers.pic) {
            log::error!("{}: no disk {n}: {absent:?}", config.name);
        }
    }
}

/// Waits until block-server knows what the disk is.
fn greet(mut disk: Disk, time: &timer::Client<Endpoint>, deadline: u64) -> Option<Disk> {
    let token = rt::tsc() >> 1;
    let mut greeted = false;
    loop {
        greeted = greeted || disk.greet(token);
        match greeted.then(|| disk.is_greeted(token)).flatten() {
            Some(there) => return there.then_some(disk),
            None if rt::tsc() >= deadline || time.arm(deadline).is_err() => return None,
            None => {}
        }
        if disk.must_signal() {
            rt::signal(slot::BLOCK);
        }
        // Other signals come too. The console is looked at in any case, and lines are acknowledged when they are claimed.
        while rt::wait() & (event::BLOCK | event::TIMER) == 0 {}
    }
}
