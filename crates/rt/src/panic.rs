//! A panic is a bug of this process: one line in the log, then a fault, so that root-task sees it and does what the
//! system description says.

use core::arch::asm;
use core::panic::PanicInfo;

use crate::logger;

/// TSC ticks that a panicking process waits for its last line to be printed, so that what root-task prints does not
/// land in the middle of it: longer than a line takes at 115,200 baud, on any machine up to 3 GHz.
const PATIENCE: u64 = 1 << 25;

#[panic_handler]
fn panic(info: &PanicInfo) -> ! {
    log::error!("{info}");
    logger::drain(PATIENCE);
    // SAFETY: an undefined instruction raises a fault and does nothing else; root-task does not let it go on.
    unsafe { asm!("ud2", options(noreturn)) }
}
