//! The system call instruction and the IPC buffer on x86_64.
//!
//! Convention (libsel4, `sel4_arch/syscalls_syscall.h`): number in rdx, capability in rdi, message tag in rsi, message
//! words 0 to 3 in r10, r8, r9 and r15. Badge and tag are returned in rdi and rsi. `syscall` itself overwrites rcx
//! and r11, and the kernel does not preserve the stack pointer, so it is saved in r14.
//!
//! A process has one thread and one IPC buffer, so the buffer's address is a plain static, set once by the run-time.

use core::arch::asm;
use core::cell::{Cell, UnsafeCell};

use crate::bindings::{
    Error, offsetof_seL4_IPCBuffer_caps_or_badges, offsetof_seL4_IPCBuffer_msg, offsetof_seL4_IPCBuffer_receiveCNode,
    offsetof_seL4_IPCBuffer_receiveDepth, offsetof_seL4_IPCBuffer_receiveIndex, seL4_MessageInfo_get_label,
    seL4_MessageInfo_t, seL4_MsgMaxExtraCaps, seL4_MsgMaxLength, seL4_SysCall, sizeof_seL4_IPCBuffer,
};
use crate::{seL4_CPtr, seL4_Word};

/// The result of a receiving system call.
#[derive(Clone, Copy, Debug)]
pub struct Received {
    /// The sender's badge; for some calls another result.
    pub badge: seL4_Word,
    /// The message's tag; for some calls another result.
    pub info: seL4_Word,
    /// The message words in registers.
    pub mrs: [seL4_Word; 4],
}

/// Makes any system call.
#[inline(always)]
pub fn call(number: seL4_Word, dest: seL4_CPtr, info: seL4_Word, mrs: [seL4_Word; 4]) -> Received {
    let [mut mr0, mut mr1, mut mr2, mut mr3] = mrs;
    let (badge, tag);
    // SAFETY: the kernel changes the registers listed here, and of this process's memory only the IPC buffer, which
    // is accessed through a raw pointer. The stack pointer is restored before anything uses it.
    unsafe {
        asm!(
            "mov r14, rsp",
            "syscall",
            "mov rsp, r14",
            in("rdx") number,
            inlateout("rdi") dest => badge,
            inlateout("rsi") info => tag,
            inlateout("r10") mr0,
            inlateout("r8") mr1,
            inlateout("r9") mr2,
            inlateout("r15") mr3,
            lateout("rcx") _,
            lateout("r11") _,
            lateout("r14") _,
            options(nostack),
        );
    }
    Received { badge, info: tag, mrs: [mr0, mr1, mr2, mr3] }
}

/// Invokes a kernel object. On an error, stores the first message words, which may have details, in the IPC buffer.
#[inline(always)]
pub fn invoke(service: seL4_CPtr, info: seL4_MessageInfo_t, mrs: [seL4_Word; 4]) -> Result<[seL4_Word; 4], Error> {
    let answer = call(seL4_SysCall, service, info.words[0], mrs);
    let label = seL4_MessageInfo_get_label(seL4_MessageInfo_t { words: [answer.info] });
    match Error::check(label) {
        Ok(()) => Ok(answer.mrs),
        Err(error) => {
            for (index, word) in answer.mrs.into_iter().enumerate() {
                set_mr(index, word);
            }
            Err(error)
        }
    }
}

/// A placeholder for the IPC buffer until the run-time has set the real one, so that accesses cannot fault.
#[repr(C, align(8))]
struct Unset(UnsafeCell<[u8; sizeof_seL4_IPCBuffer]>);
// SAFETY: accessed by one thread only, like the IPC buffer.
unsafe impl Sync for Unset {}

/// The address of the IPC buffer. Not an atomic, so that the compiler may read it once for several words.
struct Address(Cell<*mut u8>);
// SAFETY: written once, before any other code runs, by the process's only thread.
unsafe impl Sync for Address {}

static UNSET: Unset = Unset(UnsafeCell::new([0; sizeof_seL4_IPCBuffer]));
static IPC_BUFFER: Address = Address(Cell::new(UNSET.0.get().cast()));

/// Sets the address of the thread's IPC buffer.
///
/// # Safety
/// `buffer` is the address of this thread's IPC buffer as the kernel has it; it stays mapped and writable; nothing else
/// in the program refers to it; the process has no other thread.
pub unsafe fn set_ipc_buffer(buffer: *mut u8) {
    IPC_BUFFER.0.set(buffer);
}

/// The address of the IPC buffer.
#[inline(always)]
pub fn ipc_buffer() -> *mut u8 {
    IPC_BUFFER.0.get()
}

/// The word at `offset` bytes, inside the buffer and aligned.
#[inline(always)]
fn word(offset: usize) -> *mut seL4_Word {
    ipc_buffer().wrapping_add(offset).cast()
}

// Volatile accesses prevent the compiler from merging words into vector registers, which the kernel switches lazily, by
// a trap.

/// Message word `index`; zero if `index` is out of range.
#[inline(always)]
pub fn get_mr(index: usize) -> seL4_Word {
    if index >= seL4_MsgMaxLength as usize {
        return 0;
    }
    // SAFETY: inside the buffer that `set_ipc_buffer` was given, or its stand-in; no reference to it exists.
    unsafe { word(offsetof_seL4_IPCBuffer_msg + 8 * index).read_volatile() }
}

/// Sets message word `index`; no effect if `index` is out of range.
#[inline(always)]
pub fn set_mr(index: usize, value: seL4_Word) {
    if index < seL4_MsgMaxLength as usize {
        // SAFETY: as for `get_mr`.
        unsafe { word(offsetof_seL4_IPCBuffer_msg + 8 * index).write_volatile(value) }
    }
}

/// Extra capability `index`, or the badge of a received one; zero if `index` is out of range.
#[inline(always)]
pub fn get_cap(index: usize) -> seL4_CPtr {
    if index >= seL4_MsgMaxExtraCaps as usize {
        return 0;
    }
    // SAFETY: as for `get_mr`.
    unsafe { word(offsetof_seL4_IPCBuffer_caps_or_badges + 8 * index).read() }
}

/// Sets extra capability `index`; no effect if `index` is out of range.
#[inline(always)]
pub fn set_cap(index: usize, cap: seL4_CPtr) {
    if index < seL4_MsgMaxExtraCaps as usize {
        // SAFETY: as for `get_mr`.
        unsafe { word(offsetof_seL4_IPCBuffer_caps_or_badges + 8 * index).write(cap) }
    }
}

/// Sets the slot for a received capability: `depth` bits of `index`, looked up in the CNode `root`.
#[inline]
pub fn set_receive_path(root: seL4_CPtr, index: seL4_CPtr, depth: seL4_Word) {
    // SAFETY: as for `get_mr`.
    unsafe {
        word(offsetof_seL4_IPCBuffer_receiveCNode).write(root);
        word(offsetof_seL4_IPCBuffer_receiveIndex).write(index);
        word(offsetof_seL4_IPCBuffer_receiveDepth).write(depth);
    }
}

/// Copies as many of `bytes` as fit into the message from word `first` on; returns how many.
#[inline]
pub fn write_message(first: usize, bytes: &[u8]) -> usize {
    let len = bytes.len().min(room(first));
    // SAFETY: inside the buffer, by `room`, and no reference to it exists, so `bytes` is elsewhere.
    unsafe { word(offsetof_seL4_IPCBuffer_msg + 8 * first).cast::<u8>().copy_from_nonoverlapping(bytes.as_ptr(), len) };
    len
}

/// Copies the message from word `first` on into `bytes`, up to the end of either; returns how many bytes.
#[inline]
pub fn read_message(first: usize, bytes: &mut [u8]) -> usize {
    let len = bytes.len().min(room(first));
    // SAFETY: as for `write_message`.
    unsafe {
        word(offsetof_seL4_IPCBuffer_msg + 8 * first).cast::<u8>().copy_to_nonoverlapping(bytes.as_mut_ptr(), len)
    };
    len
}

/// Bytes of the longest message from word `first` on.
fn room(first: usize) -> usize {
    8 * (seL4_MsgMaxLength as usize).saturating_sub(first)
}
