//! Entry. root-task starts the thread at `_start` with the stack pointer at the end of its stack window.

use core::arch::naked_asm;

use layout::window;

use freestanding as _;

unsafe extern "Rust" {
    /// Defined by `main!`.
    safe fn __rt_main() -> !;
}

#[unsafe(no_mangle)]
#[unsafe(naked)]
#[unsafe(link_section = ".text._start")]
extern "C" fn _start() -> ! {
    // The call aligns the stack as the System V ABI (section 3.2.2) requires at a function's entry. A zero RBP ends
    // chains of frame pointers (section 3.4.1).
    naked_asm!("xor ebp, ebp", "call {entry}", "ud2", entry = sym entry)
}

extern "C" fn entry() -> ! {
    // SAFETY: root-task has set this page as the thread's IPC buffer, and mapped it permanently; nothing else refers to
    // it, and the process has one thread.
    unsafe { sel4::set_ipc_buffer(window::IPC_BUFFER as *mut u8) };
    __rt_main()
}
