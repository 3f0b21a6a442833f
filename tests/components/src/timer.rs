//! timer-server: its rate is the emulated processor's, deadlines are met, and the date advances with the TSC.

use layout::{event, slot};
use proto::timer::Client;
use rt::{Endpoint, tsc};
use sel4::cap;

use crate::verdict::{Verdict, flush};

/// Rate of the emulated TSC, in Hz (build/src/bochs/config.rs).
const HZ: u64 = 50_000_000;
/// A signal may come 200 us after its deadline.
const LATEST: u64 = HZ / 5_000;
/// Deadlines in a row.
const ROW: u32 = 1_000;

fn server() -> Client<Endpoint> {
    Client(Endpoint::at(proto::timer::SERVICE.slot))
}

fn poll() -> u64 {
    cap::Notification::from_bits(slot::EVENTS.cptr()).poll()
}

/// Waits for the signal of a deadline `ticks` from now. Returns how late it came; `None` if early or something else.
fn wait(ticks: u64) -> Option<u64> {
    let at = tsc() + ticks;
    server().arm(at).ok()?;
    let bits = rt::wait();
    let now = tsc();
    if bits == event::TIMER { now.checked_sub(at) } else { None }
}

/// Runs all checks.
pub fn all(verdict: &mut Verdict) {
    // The console's interrupts would delay what is measured here.
    flush();
    rate(verdict);
    deadlines(verdict);
    passed_cancelled_replaced(verdict);
    date(verdict);
}

/// Deadlines come, and not early, whatever the rate of the TSC. Where the emulator shares its processor, how late they come
/// says nothing.
pub fn at_any_rate(verdict: &mut Verdict) {
    let hz = server().frequency().unwrap_or(0);
    log::info!("rate {hz}");
    verdict.holds("a rate", hz > 0);
    let before = server().wall_clock();
    for ticks in [1, hz / 10_000, hz / 1_000, hz / 100, hz / 10, hz / 2, hz, 2 * hz] {
        verdict.holds("a deadline", wait(ticks).is_some());
    }
    let dates = before.and_then(|before| Ok((before, server().wall_clock()?)));
    // The deadlines take 3.6 seconds, and a date is whole seconds.
    verdict.holds("the date", dates.is_ok_and(|(before, after)| (3..=60).contains(&(after.unix - before.unix))));
}

fn rate(verdict: &mut Verdict) {
    let hz = server().frequency().unwrap_or(0);
    verdict.holds("the rate of the TSC within 1 %", hz.abs_diff(HZ) <= HZ / 100);
}

fn deadlines(verdict: &mut Verdict) {
    let mut latest = 0;
    // The last ones take several shots of the timer, which end after 50 ms.
    for ticks in [1, 100, 5_000, 50_000, HZ / 100, HZ / 20 - 1, HZ / 20, HZ / 8, HZ / 2] {
        let late = wait(ticks);
        if late.is_none_or(|late| late > LATEST) {
            log::error!("{ticks} ticks ahead: {late:?}");
        }
        verdict.holds("a deadline", late.is_some_and(|late| late <= LATEST));
        latest = latest.max(late.unwrap_or(0));
    }
    let mut random = 1u32;
    let mut missed = 0;
    for _ in 0..ROW {
        random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let late = wait(u64::from(random >> 16));
        missed += u32::from(late.is_none_or(|late| late > LATEST));
        latest = latest.max(late.unwrap_or(0));
    }
    verdict.equal("deadlines in a row that were missed", missed, 0);
    log::info!("the latest signal came {} us after its deadline", latest * 1_000_000 / HZ);
    flush();
}

fn passed_cancelled_replaced(verdict: &mut Verdict) {
    for at in [0, 1, tsc() - 1] {
        verdict.equal("a deadline in the past is taken", server().arm(at), Ok(()));
        verdict.equal("a deadline in the past is signalled at once", poll(), event::TIMER);
    }
    let (soon, far) = (HZ / 100, HZ / 10);
    verdict.equal("arm", server().arm(tsc() + soon), Ok(()));
    verdict.equal("cancel", server().cancel(), Ok(()));
    let late = wait(far);
    verdict.holds("a cancelled deadline is not signalled", late.is_some_and(|late| late <= LATEST));
    verdict.equal("arm", server().arm(tsc() + soon), Ok(()));
    let late = wait(far);
    verdict.holds("a deadline replaces the last", late.is_some_and(|late| late <= LATEST));
    verdict.equal("arm for ever", server().arm(u64::MAX), Ok(()));
    let late = wait(far);
    verdict.holds("a deadline replaces one that never comes", late.is_some_and(|late| late <= LATEST));
    verdict.equal("cancel twice", (server().cancel(), server().cancel()), (Ok(()), Ok(())));
    verdict.equal("nothing is left over", poll(), 0);
}

fn date(verdict: &mut Verdict) {
    let before = server().wall_clock();
    verdict.holds("three seconds pass", wait(3 * HZ).is_some());
    let (Ok(before), Ok(after)) = (before, server().wall_clock()) else { return verdict.holds("a date", false) };
    let seconds = (after.at - before.at) / HZ;
    verdict.holds("the date goes on with the TSC", (after.unix - before.unix).abs_diff(seconds) <= 1);
    log::info!("date {} at {}", after.unix, after.at);
    flush();
}
