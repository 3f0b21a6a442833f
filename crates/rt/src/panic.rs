//! A panic is a bug of this process: one line in the log, then a fault, so that root-task sees it and does what the
//! system description says.

use core::arch::asm;
use core::panic::PanicInfo;

#[panic_handler]
fn panic(info: &PanicInfo) -> ! {
    log::error!("{info}");
    // SAFETY: an undefined instruction raises a fault and does nothing else; root-task does not let it go on.
    unsafe { asm!("ud2", options(noreturn)) }
}
