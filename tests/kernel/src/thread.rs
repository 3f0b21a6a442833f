//! A second thread, one at a time. It shares everything with the first, including the run-time's address of the IPC
//! buffer, so it may only use system calls whose messages are in registers: VMEnter, Yield, and short calls.

use core::sync::atomic::{AtomicU64, Ordering::SeqCst};

use sel4::cap;
use sel4::init_thread::slot;
use sel4::{CPtr, GRANULE_BITS, Result, UserContext, VmEnterResult, Word, yield_now};

use crate::bench::{Bench, delete};
use crate::guest::Guest;

/// The root task's priority, the highest.
pub const EQUAL: u8 = 255;
/// A lower priority: such a thread runs only while the root task waits.
pub const LOWER: u8 = 100;

/// A thread's entry point, with one argument.
pub type Entry = extern "C" fn(Word) -> !;

/// The stack. Of atomics, so that the static needs no unsafe code; only the stack pointer refers to it.
static STACK: [AtomicU64; 1024] = [const { AtomicU64::new(0) }; 1024];

/// The stage that the thread has reached.
pub static STAGE: AtomicU64 = AtomicU64::new(0);
/// Why [`run_guest`]'s guest exited.
pub static REASON: AtomicU64 = AtomicU64::new(0);

/// The thread. Dropping it deletes it.
pub struct Thread {
    /// Its TCB.
    pub tcb: cap::Tcb,
    /// The untyped memory of the TCB: a page.
    pub memory: cap::Untyped,
}

impl Thread {
    /// A thread that waits to be started, at stage 0.
    pub fn new(bench: &mut Bench, entry: Entry, argument: Word, priority: u8) -> Result<Self> {
        let mut registers = UserContext::default();
        *registers.pc_mut() = entry as usize as Word;
        registers.inner_mut().rdi = argument;
        Self::with_registers(bench, registers, priority, CPtr::default())
    }

    /// A thread of lower priority that begins with these registers, and reports its faults.
    pub fn with_fault_handler(bench: &mut Bench, registers: UserContext, handler: cap::Endpoint) -> Result<Self> {
        Self::with_registers(bench, registers, LOWER, handler.cptr())
    }

    fn with_registers(bench: &mut Bench, mut registers: UserContext, priority: u8, handler: CPtr) -> Result<Self> {
        let memory = bench.memory(GRANULE_BITS)?;
        let thread = Self { tcb: bench.make_of(memory)?, memory };
        let (cspace, guard) = bench.cspace();
        // VMEnter requires an IPC buffer. The kernel accesses it by its frame, so it need not be mapped at this
        // address.
        let buffer = bench.make()?;
        thread.tcb.tcb_configure(handler, cspace, guard, slot::VSPACE.cap(), 0x1000, buffer)?;
        thread.tcb.tcb_set_priority(slot::TCB.cap(), priority)?;
        // As after a call, which pushes 8 bytes to an aligned stack.
        *registers.sp_mut() = ((STACK.as_ptr_range().end as usize as Word) & !15) - 8;
        thread.tcb.tcb_write_all_registers(false, &registers)?;
        STAGE.store(0, SeqCst);
        REASON.store(0, SeqCst);
        Ok(thread)
    }

    /// Starts it.
    pub fn start(&self) -> Result<()> {
        self.tcb.tcb_resume()
    }
}

impl Drop for Thread {
    fn drop(&mut self) {
        let _ = delete(self.tcb);
    }
}

/// Lets a thread of the same priority run until it reaches a stage; returns whether it did within 20 time slices.
pub fn reaches(stage: u64) -> bool {
    let mut patience = 0..20;
    patience.any(|_| {
        yield_now();
        STAGE.load(SeqCst) >= stage
    })
}

/// Publishes the stage that this thread has reached.
pub fn stage(number: u64) {
    STAGE.store(number, SeqCst);
}

/// A thread that runs its guest until that exits: stage 1 before, stage 2 after.
pub extern "C" fn run_guest(vcpu: Word) -> ! {
    stage(1);
    if let VmEnterResult::Fault(exit) = cap::VCpu::from_bits(vcpu).vm_enter(&Guest::entry(0)) {
        REASON.store(exit.reason, SeqCst);
    }
    stage(2);
    rest()
}

/// Yields for ever.
pub fn rest() -> ! {
    loop {
        yield_now();
    }
}
