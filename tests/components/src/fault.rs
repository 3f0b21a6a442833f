//! Deliberate faults, one per process. Before each the registers are as follows, so that the
//! report can be compared: r14 is 0x1122334455667788, r15 is 0x99aabbccddeeff00.
#![allow(unsafe_code, reason = "mistakes")]

use core::arch::asm;
use core::hint::black_box;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use layout::config::Component;
use layout::{Slot, slot};
use mmio::SharedBuffer;
use proto::serial;
use rt::Endpoint;
use sel4::{MessageInfo, cap};

use crate::verdict::flush;

/// A slot that is always empty.
const EMPTY: Slot = Slot(200);
/// Times that `phoenix` faults.
const LIVES: u64 = 3;

macro_rules! with_registers {
    ($($mistake:literal),*) => {
        // SAFETY: faults or has no effect; root-task does not resume the process, so nothing is left that could
        // be unsound. The registers are clobbers.
        unsafe {
            asm!("mov r14, 0x1122334455667788", "mov r15, 0x99aabbccddeeff00", $($mistake),*,
                out("rax") _, out("rcx") _, out("rdx") _, out("r11") _, out("r14") _, out("r15") _)
        }
    };
}

/// Faults.
pub fn fault(kind: &str) {
    match kind {
        "null-write" => with_registers!("xor eax, eax", "mov byte ptr [rax], 1"),
        "code-write" => with_registers!("lea rax, [rip]", "mov byte ptr [rax], 1"),
        "jump" => with_registers!("mov eax, 0x7fff0000", "jmp rax"),
        "ud2" => with_registers!("ud2"),
        "divide" => with_registers!("xor edx, edx", "xor ecx, ecx", "div ecx"),
        "port" => with_registers!("mov dx, 0x3f8", "in al, dx"),
        "configuration" => with_registers!("mov dx, 0xcf8", "mov eax, 0x80001010", "out dx, eax"),
        "hlt" => with_registers!("hlt"),
        "system-call" => with_registers!("mov rdx, 77", "syscall"),
        "stack" => {
            black_box(deeper(0));
        }
        "capability" => drop(cap::Endpoint::from_bits(EMPTY.cptr()).recv()),
        "panic" => panic!("on purpose"),
        // No fault, but messages like those that the kernel sends for one; root-task must report the process once only.
        "forged" => {
            for _ in 0..1000 {
                cap::Endpoint::from_bits(slot::FAULT.cptr()).send(MessageInfo::new(0, 0, 0, 0));
            }
        }
        _ => log::error!("no such mistake: {kind}"),
    }
    log::error!("still there after {kind}");
}

/// Overflows the stack.
#[allow(unconditional_recursion, reason = "that is the mistake")]
fn deeper(depth: u64) -> u64 {
    let here = black_box([depth; 64]);
    deeper(here[0] + 1) + here[1]
}

/// In this process's private memory: a restart resets it to zero.
static STARTS: AtomicU64 = AtomicU64::new(0);

/// Faults a fixed number of times. It counts them in the buffer that it shares with fileserver, which a restart does
/// not change.
pub fn phoenix(config: &Component) {
    let Some(buffer) = config.files.map(|window| SharedBuffer::new(rt::shared(window))) else { return };
    let span = mmio::Span { start: 0, len: 8 };
    let mut local = [0; 8];
    let before = buffer.copy_in(span, &mut local).map_or(0, |bytes| bytes.first().copied().unwrap_or(0));
    let lives = u64::from(before) + 1;
    let _ = buffer.copy_out(span, &lives.to_le_bytes());
    log::info!("life {lives}, start {} of this memory", STARTS.fetch_add(1, Relaxed) + 1);
    flush();
    if lives <= LIVES {
        fault("ud2");
    }
    let stats = serial::Client(Endpoint::at(serial::SERVICE.slot)).stats();
    log::info!("lives on: {}", if stats.is_ok() { "served" } else { "not served" });
    flush();
}
