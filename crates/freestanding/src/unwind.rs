//! The prebuilt `core` and `alloc` are compiled to unwind. Images abort on panic, so nobody ever calls these two;
//! they only have to exist for builds that do not optimise across crates.

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
