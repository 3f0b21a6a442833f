//! The bases of FS and GS: a thread keeps its own, whatever others do to theirs. A kernel with `FSGSBASE_INST` lets user
//! level use RDFSBASE and its relatives; on any kernel, loading a selector sets a base (Intel SDM volume 3, section
//! "Segment Loading Instructions in IA-32e Mode").

use core::arch::asm;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use sel4::{MessageInfo, Word};

use crate::bench::Bench;
use crate::check::{Check, Outcome, expect};
use crate::thread::{EQUAL, Entry, Thread, reaches, rest, stage};

/// The checks of this file that every kernel can be asked.
pub const CHECKS: &[Check] =
    &[Check { defect: "bases", name: "threads keep their bases when others load selectors", run: selectors_loaded }];

/// Those that need `FSGSBASE_INST`.
pub const BY_INSTRUCTION: &[Check] =
    &[Check { defect: "bases", name: "threads keep their bases when others write theirs", run: bases_written }];

/// What tells whether the bases of FS and GS are as they were: the bases, or, where user level cannot read them, what it
/// finds through them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bases {
    /// By RDFSBASE and RDGSBASE.
    Read([u64; 2]),
    /// Words of ours, at the distances from our bases where they should be. Through other bases it most likely is a page
    /// fault, which ends the root task with this check's name.
    Found([u64; 2]),
}

/// The word of the message in which the second of [`MARKS`] is: the last, which no system call of these checks uses.
const LAST_WORD: usize = MessageInfo::MAX_LENGTH - 1;
/// What is to be found through FS, and through GS.
static MARKS: [AtomicU64; 2] = [AtomicU64::new(0x5f46_6d61_726b_5f46), AtomicU64::new(0x5f47_6d61_726b_5f47)];

impl Bases {
    /// Those of the root task, which the kernel starts with 0 for FS and its IPC buffer for GS.
    pub fn ours() -> Self {
        if sel4_config::FSGSBASE_INST { Self::Read(read()) } else { Self::Found(found()) }
    }
}

#[allow(unsafe_code, reason = "there is no other way to a base")]
fn read() -> [u64; 2] {
    let (fs, gs);
    // SAFETY: reads two registers. The kernel has enabled the instructions.
    unsafe { asm!("rdfsbase {}", "rdgsbase {}", out(reg) fs, out(reg) gs) };
    [fs, gs]
}

#[allow(unsafe_code, reason = "there is no other way to what a base leads to")]
fn found() -> [u64; 2] {
    let buffer = sel4::ipc_buffer();
    buffer.set_word(LAST_WORD, MARKS[1].load(Relaxed));
    // The message begins behind its tag.
    let offset = (LAST_WORD + 1) * size_of::<Word>();
    let (fs, gs);
    // SAFETY: reads what a static and the IPC buffer hold, if the bases are the root task's; else it most likely faults.
    unsafe {
        asm!("mov {0}, fs:[{2}]", "mov {1}, gs:[{3}]", out(reg) fs, out(reg) gs,
             in(reg) MARKS[0].as_ptr(), in(reg) offset, options(nostack, readonly, preserves_flags));
    }
    [fs, gs]
}

/// Lets a thread that has our bases do something to its own.
fn beside(bench: &mut Bench, entry: Entry, argument: Word) -> Outcome {
    let ours = Bases::ours();
    let thread = Thread::new(bench, entry, argument, EQUAL)?;
    let buffer = bench.make()?;
    thread.tcb.tcb_set_ipc_buffer(bench.ipc_buffer, buffer)?;
    thread.start()?;
    expect("the thread runs", reaches(1), true)?;
    expect("our bases of FS and GS", Bases::ours(), ours)?;
    // Only a thread that begins with our bases shows anything: it has the same IPC buffer, and FS begins with 0.
    match ours {
        // Since 11.0.0 the kernel leaves GS alone.
        Bases::Read(bases @ [0, 0]) => expect("bases that a thread begins with", bases, read()),
        Bases::Read(bases) => expect("bases that a thread begins with", bases, [0, bench.ipc_buffer]),
        Bases::Found(marks) => expect("what is found", marks, [MARKS[0].load(Relaxed), MARKS[1].load(Relaxed)]),
    }
}

#[allow(unsafe_code, reason = "there is no other way to a selector")]
extern "C" fn load_selectors(selector: Word) -> ! {
    // The null selectors are those that every thread begins with. Whether they leave the bases as they are depends on
    // the processor.
    // SAFETY: neither this function nor what it calls uses FS or GS.
    unsafe { asm!("mov fs, {0:x}", "mov gs, {0:x}", "mov fs, {1:x}", "mov gs, {1:x}", in(reg) selector, in(reg) 0) };
    stage(1);
    rest()
}

/// 0038: both bases are 0 then, and the kernel does not see it.
fn selectors_loaded(bench: &mut Bench) -> Outcome {
    const DATA: Word = 6 << 3 | 3;
    beside(bench, load_selectors, DATA)
}

#[allow(unsafe_code, reason = "there is no other way to a base")]
extern "C" fn write_bases(base: Word) -> ! {
    // SAFETY: neither this function nor what it calls uses FS or GS. The kernel has enabled the instructions.
    unsafe { asm!("wrfsbase {0}", "wrgsbase {0}", in(reg) base) };
    stage(1);
    rest()
}

/// 0038: the kernel does not see these either.
fn bases_written(bench: &mut Bench) -> Outcome {
    beside(bench, write_bases, 0x1234_5000)
}
