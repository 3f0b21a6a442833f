//! Entry. The kernel starts the root task at `_start` with the boot information in rdi and without a stack.

use core::arch::naked_asm;
use core::cell::UnsafeCell;

use sel4::{BootInfoPtr, GRANULE_SIZE, init_thread};

use crate::bundle::{address_of, image_slot};
use crate::{console, scratch};

use freestanding as _;

const STACK_SIZE: usize = 256 * 1024;

/// The stack, above a page that is unmapped at the start, so that an overflow is a fault.
#[repr(C, align(4096))]
struct Stack {
    guard: UnsafeCell<[u8; GRANULE_SIZE]>,
    bytes: UnsafeCell<[u8; STACK_SIZE]>,
}
// SAFETY: only the stack pointer refers to it.
unsafe impl Sync for Stack {}

static STACK: Stack = Stack { guard: UnsafeCell::new([0; GRANULE_SIZE]), bytes: UnsafeCell::new([0; STACK_SIZE]) };

unsafe extern "Rust" {
    /// Defined by `root_task!`.
    safe fn __root_task_main(bootinfo: BootInfoPtr) -> !;
}

#[unsafe(no_mangle)]
#[unsafe(naked)]
#[unsafe(link_section = ".text._start")]
extern "C" fn _start() -> ! {
    naked_asm!(
        "xor ebp, ebp",
        "lea rsp, [rip + {stack} + {size}]",
        "call {entry}",
        "ud2",
        stack = sym STACK,
        size = const size_of::<Stack>(),
        entry = sym entry,
    )
}

extern "C" fn entry(bootinfo: *const u8) -> ! {
    // SAFETY: the kernel passes its address and maps it permanently.
    let bootinfo = unsafe { BootInfoPtr::new(bootinfo) };
    // SAFETY: the kernel has set the thread's IPC buffer to this address and mapped it permanently, and the root task
    // has one thread.
    unsafe { sel4::set_ipc_buffer(bootinfo.ipc_buffer()) };
    sel4::debug_name_thread(init_thread::slot::TCB.cap(), "root-task");
    console::start_log();
    // The guard page turns a stack overflow into a fault; frames of other processes are mapped at the scratch page.
    for page in [address_of(&STACK.guard), scratch::page()] {
        let frame = image_slot(bootinfo, page).cap();
        if frame.frame_unmap().is_err() {
            log::error!("no frame of the image at {page:#x}");
        }
    }
    __root_task_main(bootinfo)
}
