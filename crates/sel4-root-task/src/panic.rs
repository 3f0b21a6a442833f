//! A panic of the root task: prints one line and powers the machine off.

use core::fmt::Write;
use core::panic::PanicInfo;

use crate::console::Out;
use crate::power::{self, End};

#[panic_handler]
fn panic(info: &PanicInfo) -> ! {
    let _ = write!(Out, "\nroot-task: failed: root-task: {}", info.message());
    let _ = info.location().map(|at| write!(Out, ", at {at}"));
    let _ = writeln!(Out);
    power::end(End::Failed)
}
