//! A panic of the root task: one line, and the thread stops.

use core::fmt::Write;
use core::panic::PanicInfo;

use sel4::init_thread;

use crate::console::Out;

#[panic_handler]
fn panic(info: &PanicInfo) -> ! {
    let _ = writeln!(Out, "root-task: {info}");
    loop {
        let _ = init_thread::slot::TCB.cap().tcb_suspend();
    }
}
