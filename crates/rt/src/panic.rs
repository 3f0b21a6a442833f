//! A panic is a bug of this process. The handler logs one line, then raises a fault, to which root-task applies the
//! `on_fault` policy of the description.

use core::arch::asm;
use core::panic::PanicInfo;

use crate::logger;

/// Timeout, in TSC ticks, for serial-server to take the last line from the ring, so that root-task's report of the
/// fault does not split it: longer than a line takes at 115,200 baud, on any machine up to 3 GHz.
const DRAIN_TIMEOUT: u64 = 1 << 25;

#[panic_handler]
fn panic(info: &PanicInfo) -> ! {
    log::error!("{info}");
    logger::drain(DRAIN_TIMEOUT);
    // SAFETY: an undefined instruction raises a fault and has no other effect; root-task does not resume the thread.
    unsafe { asm!("ud2", options(noreturn)) }
}
