//! A second thread, one at a time. It shares everything with the first, also the run-time's idea of where the IPC buffer
//! is, so it may only use system calls whose messages are in registers: VMEnter, Yield, and short calls.

use core::sync::atomic::{AtomicU64, Ordering::SeqCst};

use sel4::cap;
use sel4::init_thread::slot;
use sel4::{CPtr, GRANULE_BITS, Result, UserContext, VmEnterResult, Word, yield_now};

use crate::bench::{Bench, delete};
use crate::guest::Guest;

/// Our own priority, the highest there is.
pub const EQUAL: u8 = 255;
/// A priority below it: such a thread runs only while we wait.
pub const LOWER: u8 = 100;

/// What a thread begins with, and gets one word for.
pub type Entry = extern "C" fn(Word) -> !;

/// The stack. Atomics, since a static of these takes no unsafe code; only the stack pointer refers to them.
static STACK: [AtomicU64; 1024] = [const { AtomicU64::new(0) }; 1024];

/// How far the thread has come.
pub static STAGE: AtomicU64 = AtomicU64::new(0);
/// Why [`run_guest`]'s guest exited.
pub static REASON: AtomicU64 = AtomicU64::new(0);

/// The thread. Dropped, it is deleted.
pub struct Thread {
    /// Its TCB.
    pub tcb: cap::Tcb,
    /// What that is made of: a page of memory.
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
        // VMEnter insists on an IPC buffer. The kernel finds it by its frame, so it need not be mapped at this address.
        let buffer = bench.make()?;
        thread.tcb.tcb_configure(handler, cspace, guard, slot::VSPACE.cap(), 0x1000, buffer)?;
        thread.tcb.tcb_set_priority(slot::TCB.cap(), priority)?;
        // As after a call: 8 bytes off the alignment.
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

/// Lets a thread of our priority run until it has come to a stage. The answer is whether it did, within 20 time slices.
pub fn reaches(stage: u64) -> bool {
    let mut patience = 0..20;
    patience.any(|_| {
        yield_now();
        STAGE.load(SeqCst) >= stage
    })
}

/// Tells the others how far this thread has come.
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

/// Nothing more to do.
pub fn rest() -> ! {
    loop {
        yield_now();
    }
}
