//! The system call instruction and the IPC buffer on x86_64.
//!
//! Convention (libsel4, `sel4_arch/syscalls_syscall.h`): number in rdx, capability in rdi, message tag in rsi, message
//! words 0 to 3 in r10, r8, r9 and r15. Badge and tag come back in rdi and rsi. `syscall` itself overwrites rcx
//! and r11, and the kernel does not keep the stack pointer: it waits in r14.
//!
//! A process has one thread and one IPC buffer, so its address is a plain static, set once by the run-time.

use core::arch::asm;
use core::cell::{Cell, UnsafeCell};

use crate::bindings::{
    Error, offsetof_seL4_IPCBuffer_caps_or_badges, offsetof_seL4_IPCBuffer_msg, offsetof_seL4_IPCBuffer_receiveCNode,
    offsetof_seL4_IPCBuffer_receiveDepth, offsetof_seL4_IPCBuffer_receiveIndex, seL4_MessageInfo_get_label,
    seL4_MessageInfo_t, seL4_MsgMaxExtraCaps, seL4_MsgMaxLength, seL4_SysCall, sizeof_seL4_IPCBuffer,
};
use crate::{seL4_CPtr, seL4_Word};

/// What a receiving system call brings back.
#[derive(Clone, Copy, Debug)]
pub struct Received {
    /// The sender's badge; for some calls another result.
    pub badge: seL4_Word,
    /// The message's tag; for some calls another result.
    pub info: seL4_Word,
    /// The message words that travel in registers.
    pub mrs: [seL4_Word; 4],
}

/// Any system call: sends what is given and takes what comes back.
#[inline(always)]
pub fn call(number: seL4_Word, dest: seL4_CPtr, info: seL4_Word, mrs: [seL4_Word; 4]) -> Received {
    let [mut mr0, mut mr1, mut mr2, mut mr3] = mrs;
    let (badge, tag);
    // SAFETY: the kernel changes the registers named here, and of this process's memory only the IPC buffer, which
    // is reached through a raw pointer. The stack pointer is put back before anything uses it.
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

/// Calls a kernel object. On an error, the first message words, which may hold details, go to the IPC buffer.
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

/// Stands in for the IPC buffer until the run-time has set the real one, so that nothing here can fault.
#[repr(C, align(8))]
struct Unset(UnsafeCell<[u8; sizeof_seL4_IPCBuffer]>);
// SAFETY: reached by one thread only, like the IPC buffer that it stands in for.
unsafe impl Sync for Unset {}

/// Where the IPC buffer is. Not an atomic: the compiler may read it once for several words.
struct Address(Cell<*mut u8>);
// SAFETY: written once, before there is anything else to run, by the process's only thread.
unsafe impl Sync for Address {}

static UNSET: Unset = Unset(UnsafeCell::new([0; sizeof_seL4_IPCBuffer]));
static IPC_BUFFER: Address = Address(Cell::new(UNSET.0.get().cast()));

/// Names the thread's IPC buffer.
///
/// # Safety
/// `buffer` is the address at which the kernel was told to find this thread's IPC buffer; it stays mapped and
/// writable; nothing else in the program refers to it; the process has no other thread.
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

// Volatile accesses keep words apart: joined, they would go through vector registers, which the kernel switches lazily, by a
// trap.

/// Message word `index`; zero for an index that no message has.
#[inline(always)]
pub fn get_mr(index: usize) -> seL4_Word {
    if index >= seL4_MsgMaxLength as usize {
        return 0;
    }
    // SAFETY: inside the buffer that `set_ipc_buffer` was given, or its stand-in; no reference to it exists.
    unsafe { word(offsetof_seL4_IPCBuffer_msg + 8 * index).read_volatile() }
}

/// Sets message word `index`; without effect for an index that no message has.
#[inline(always)]
pub fn set_mr(index: usize, value: seL4_Word) {
    if index < seL4_MsgMaxLength as usize {
        // SAFETY: as for `get_mr`.
        unsafe { word(offsetof_seL4_IPCBuffer_msg + 8 * index).write_volatile(value) }
    }
}

/// Extra capability (or its badge, once received) `index`; zero for an index that no message has.
#[inline(always)]
pub fn get_cap(index: usize) -> seL4_CPtr {
    if index >= seL4_MsgMaxExtraCaps as usize {
        return 0;
    }
    // SAFETY: as for `get_mr`.
    unsafe { word(offsetof_seL4_IPCBuffer_caps_or_badges + 8 * index).read() }
}

/// Sets extra capability `index`; without effect for an index that no message has.
#[inline(always)]
pub fn set_cap(index: usize, cap: seL4_CPtr) {
    if index < seL4_MsgMaxExtraCaps as usize {
        // SAFETY: as for `get_mr`.
        unsafe { word(offsetof_seL4_IPCBuffer_caps_or_badges + 8 * index).write(cap) }
    }
}

/// Names the slot that takes a capability which arrives with a message: `depth` bits of `index`, looked up in the
/// CNode `root`.
#[inline]
pub fn set_receive_path(root: seL4_CPtr, index: seL4_CPtr, depth: seL4_Word) {
    // SAFETY: as for `get_mr`.
    unsafe {
        word(offsetof_seL4_IPCBuffer_receiveCNode).write(root);
        word(offsetof_seL4_IPCBuffer_receiveIndex).write(index);
        word(offsetof_seL4_IPCBuffer_receiveDepth).write(depth);
    }
}

/// Copies `bytes` into the message from word `first` on, as far as they fit; returns how many did.
#[inline]
pub fn write_message(first: usize, bytes: &[u8]) -> usize {
    let len = bytes.len().min(room(first));
    // SAFETY: inside the buffer, by `room`, and no reference to it exists, so `bytes` is elsewhere.
    unsafe { word(offsetof_seL4_IPCBuffer_msg + 8 * first).cast::<u8>().copy_from_nonoverlapping(bytes.as_ptr(), len) };
    len
}

/// Copies the message from word `first` on into `bytes`, as far as it goes; returns how many bytes it gave.
#[inline]
pub fn read_message(first: usize, bytes: &mut [u8]) -> usize {
    let len = bytes.len().min(room(first));
    // SAFETY: as for `write_message`.
    unsafe {
        word(offsetof_seL4_IPCBuffer_msg + 8 * first).cast::<u8>().copy_to_nonoverlapping(bytes.as_mut_ptr(), len)
    };
    len
}

/// Bytes of the longest message behind its first words.
fn room(first: usize) -> usize {
    8 * (seL4_MsgMaxLength as usize).saturating_sub(first)
}
