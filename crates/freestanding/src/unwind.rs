//! The prebuilt `core` and `alloc` are compiled with unwinding. Images abort on panic, so these two functions are never
//! called; they only have to exist for builds without optimisation across crates.

use core::arch::naked_asm;

#[unsafe(no_mangle)]
#[unsafe(naked)]
extern "C" fn rust_eh_personality() -> ! {
    naked_asm!("ud2")
}

#[unsafe(no_mangle)]
#[unsafe(naked)]
extern "C" fn _Unwind_Resume() -> ! {
    naked_asm!("ud2")
}
