//! System calls of the debug kernel; no effect on a release kernel.

use core::fmt;

#[cfg(any(debug_build, printing, dump_scheduler))]
use crate::sys::{self, syscall::call};
use crate::{CPtr, cap};

/// Writes a byte to the kernel's console.
#[inline]
pub fn debug_put_char(byte: u8) {
    #[cfg(printing)]
    call(sys::seL4_SysDebugPutChar, byte.into(), 0, [0; 4]);
    #[cfg(not(printing))]
    let _ = byte;
}

/// The kernel's number for the type of the capability at `cptr`; zero for an empty slot and on a release kernel.
pub fn debug_cap_identify(cptr: CPtr) -> u32 {
    #[cfg(debug_build)]
    return call(sys::seL4_SysDebugCapIdentify, cptr.bits(), 0, [0; 4]).badge as u32;
    #[cfg(not(debug_build))]
    {
        let _ = cptr;
        0
    }
}

/// Prints all threads on the kernel's console; returns whether the kernel can: a debug build of a current one.
pub fn debug_dump_scheduler() -> bool {
    #[cfg(dump_scheduler)]
    call(sys::seL4_SysDebugDumpScheduler, 0, 0, [0; 4]);
    cfg!(dump_scheduler)
}

/// Names a thread, for the kernel's messages.
pub fn debug_name_thread(tcb: cap::Tcb, name: &str) {
    #[cfg(debug_build)]
    {
        let kept = crate::ipc_buffer().write_bytes(0, &name.as_bytes()[..name.len().min(63)]);
        // The kernel reads the name up to a zero byte.
        let last = kept / 8;
        let mut tail = [0; 8];
        tail[..kept % 8].copy_from_slice(&name.as_bytes()[last * 8..kept]);
        crate::ipc_buffer().set_word(last, u64::from_le_bytes(tail));
        let mrs = core::array::from_fn(|index| crate::ipc_buffer().word(index));
        call(sys::seL4_SysDebugNameThread, tcb.bits(), 0, mrs);
    }
    #[cfg(not(debug_build))]
    let _ = (tcb, name);
}

/// The kernel's console, for `write!`.
pub struct DebugConsole;

impl fmt::Write for DebugConsole {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            if byte == b'\n' {
                debug_put_char(b'\r');
            }
            debug_put_char(byte);
        }
        Ok(())
    }
}

/// Writes a line to the kernel's console.
#[macro_export]
macro_rules! debug_println {
    ($($arguments:tt)*) => {{
        use ::core::fmt::Write;
        let _ = ::core::writeln!($crate::debug::DebugConsole, $($arguments)*);
    }};
}
