//! Where the guest's entropy device has its bytes from: the processor.

use vmm_server::board::Board;

/// Puts the device on the guest's bus, at an input of the PIC that no passed-through device has. Where that fails, the guest
/// runs without it.
pub fn plug(name: &str, board: &mut Board) {
    let Some(random) = rt::random() else {
        log::warn!("{name}: no entropy device, since this processor has neither RDSEED nor RDRAND");
        return;
    };
    let Some(input) = board.lines.free_input() else {
        log::error!("{name}: no entropy device, since devices have all inputs of the PIC");
        return;
    };
    if let Err(absent) = board.functions.add_entropy(random, input, &mut board.controllers.pic) {
        log::error!("{name}: no entropy device: {absent:?}");
    }
}
