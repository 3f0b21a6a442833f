//! INS and OUTS, with and without REP (SDM volume 2; volume 3, "Format of the VM-Exit Instruction-Information Field as
//! Used for INS and OUTS"). A repeated instruction runs in batches, and the guest is entered between them: a guest that
//! chooses a count of four billion delays only itself.

use arch::{Mode, Width};
use vtx::{
    exit::{Direction, Io},
    gpr::Gpr,
    vmcs::{Vmcs, VmcsField},
};

use crate::{
    answer::Next,
    control,
    guest::Guest,
    insn::{AddressSpace, BATCH, flags},
    linear::Linear,
    time::Present,
};

/// Answers one string access.
pub fn answer<V: Vmcs>(guest: &mut Guest<V>, io: Io, now: Present) -> Next {
    let mask = address_mask(guest.cpu.vmcs.read(VmcsField::ExitInstructionInfo));
    let total = if io.rep() { guest.cpu.exit.gprs.rcx & mask } else { 1 };
    if total == 0 {
        return Next::Skip;
    }
    // `Linear` translates by the guest's view of its control registers.
    control::refresh(guest);
    let offset = guest.cpu.gpr(index(io)) & mask;
    let base = guest.cpu.vmcs.read(VmcsField::GuestLinearAddress).wrapping_sub(offset);
    let step = step(io.width(), guest.cpu.exit.rflags);
    if guest.cpu.debug.armed() {
        guest.cpu.watch_port(io.port(), io.width().bytes() as u32);
    }
    let mut memory = Linear::new(guest, now);
    let mut done = 0;
    let mut outcome = None;
    while done < total.min(BATCH.into()) && outcome.is_none() {
        // SI and DI wrap at the end of what their address size reaches.
        let linear = base.wrapping_add(offset.wrapping_add(step.wrapping_mul(done)) & mask);
        match one(&mut memory, io, linear, now) {
            Ok(next) => {
                done += 1;
                outcome = next;
            }
            Err(next) => outcome = Some(next),
        }
    }
    advance(guest, io, mask, step, done);
    outcome.unwrap_or(if done < total { Next::Retry } else { Next::Skip })
}

/// Moves one element; `Ok(Some(_))` if the instruction ends here, for example by a reset.
fn one<V: Vmcs>(memory: &mut Linear<'_, '_, V>, io: Io, linear: u64, now: Present) -> Result<Option<Next>, Next> {
    match io.direction() {
        Direction::In => {
            // The page is checked before the port is read, since a fault afterwards would lose the device's byte.
            memory.probe(linear, io.width()).map_err(|_| Next::PROTECTION)?;
            let value = memory.guest().read_port(io.port(), io.width(), now);
            memory.write(linear, io.width(), value.into()).map_err(|_| Next::PROTECTION)?;
            Ok(None)
        }
        Direction::Out => {
            let value = memory.read(linear, io.width()).map_err(|_| Next::PROTECTION)?;
            let guest = memory.guest();
            guest.write_port(io.port(), io.width(), value as u32, now);
            Ok(Some(guest.next()).filter(|&next| next != Next::Skip))
        }
    }
}

/// Counts CX down and moves SI or DI on, in the bits that the address size has. With 32 bits, those above become zero.
fn advance<V: Vmcs>(guest: &mut Guest<V>, io: Io, mask: u64, step: u64, done: u64) {
    if done == 0 {
        return;
    }
    let index = index(io);
    let kept = if mask == Mode::Bits16.offset().mask() { !mask } else { 0 };
    let old = guest.cpu.gpr(index);
    let moved = old & kept | old.wrapping_add(step.wrapping_mul(done)) & mask;
    guest.cpu.set_gpr(index, moved);
    if io.rep() {
        let count = guest.cpu.exit.gprs.rcx;
        guest.cpu.gprs_mut().rcx = count & kept | count.wrapping_sub(done) & mask;
    }
}

/// The register that has the offset in memory.
const fn index(io: Io) -> Gpr {
    match io.direction() {
        Direction::In => Gpr::Rdi,
        Direction::Out => Gpr::Rsi,
    }
}

/// Bits of SI, DI and CX that count, from the address size in the instruction information.
const fn address_mask(info: u64) -> u64 {
    match info >> 7 & 7 {
        0 => Mode::Bits16.offset().mask(),
        1 => Mode::Bits32.offset().mask(),
        _ => Mode::Bits64.offset().mask(),
    }
}

/// From one element to the next: down, if the direction flag is set.
const fn step(width: Width, rflags: u64) -> u64 {
    let bytes = width.bytes() as u64;
    if rflags & flags::DF != 0 { bytes.wrapping_neg() } else { bytes }
}
