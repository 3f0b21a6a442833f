//! The rate of the TSC: measured by a clock until three measurements agree, since a system management interrupt may fall
//! into one, and made exact by CPUID leaf 0x15 (Intel SDM volume 2) where the processor tells the same.

use core::arch::x86_64::CpuidResult;

/// The clock does not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dead;

/// Most measurements.
const MOST: usize = 9;
/// Three measurements agree if they are within this part of each other.
const AGREEMENT: u64 = 5_000;
/// The processor's own word is taken if the measurement is within this part of it.
const TRUST: u64 = 1_000;

/// Measures until three measurements are within 200 ppm of each other, and returns the one in the middle. If none are, as
/// on an emulator that shares its processor, the one in the middle of all.
pub fn agreed(measure: &mut dyn FnMut() -> Result<u64, Dead>) -> Result<u64, Dead> {
    let mut found = heapless::Vec::<u64, MOST>::new();
    for _ in 0..MOST {
        let hz = measure()?;
        let at = found.iter().position(|&other| other > hz).unwrap_or(found.len());
        // There is room: as many places as turns.
        let _ = found.insert(at, hz);
        if let Some(three) = found.array_windows().find(|[low, _, high]| high - low <= low / AGREEMENT) {
            return Ok(three[1]);
        }
    }
    found.get(found.len() / 2).copied().ok_or(Dead)
}

/// The TSC's rate in Hz by CPUID leaf 0x15: the crystal's, times EBX / EAX. None if the leaf does not say, or says what was
/// not measured: leaves of emulated processors do.
pub fn told(leaf_15: CpuidResult, measured: u64) -> Option<u64> {
    let CpuidResult { eax, ebx, ecx, .. } = leaf_15;
    let hz = u64::from(ecx) * u64::from(ebx) / u64::from((eax != 0).then_some(eax)?);
    (hz != 0 && hz.abs_diff(measured) <= hz / TRUST).then_some(hz)
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;

    fn of(all: &[u64]) -> (Result<u64, Dead>, usize) {
        let mut rest = all.iter().copied();
        let rate = agreed(&mut || rest.next().ok_or(Dead));
        (rate, all.len() - rest.len())
    }

    #[test]
    fn three_that_agree_are_enough() {
        assert_eq!(of(&[1_000_000, 1_000_100, 1_000_050, 7]), (Ok(1_000_050), 3));
    }

    #[test]
    fn an_outlier_is_left_out() {
        assert_eq!(of(&[1_000_000, 1_050_000, 1_000_100, 990_000, 1_000_050]), (Ok(1_000_050), 5));
    }

    #[test]
    fn without_agreement_the_middle_of_all_counts() {
        let spread: [u64; 9] = core::array::from_fn(|n| 1_000_000 + 10_000 * ((n as u64 * 5) % 9));
        assert_eq!(of(&spread), (Ok(1_040_000), 9));
    }

    #[test]
    fn a_clock_that_does_not_count_has_no_rate() {
        assert_eq!(of(&[]), (Err(Dead), 0));
    }

    #[test]
    fn the_processors_word_counts_if_it_was_measured() {
        let leaf = |eax, ebx, ecx| CpuidResult { eax, ebx, ecx, edx: 0 };
        assert_eq!(told(leaf(2, 188, 25_000_000), 2_351_000_000), Some(2_350_000_000));
        assert_eq!(told(leaf(2, 188, 25_000_000), 50_000_000), None, "an emulated TSC");
        assert_eq!(told(leaf(2, 216, 0), 2_592_000_000), None, "no crystal");
        assert_eq!(told(leaf(0, 0, 0), 1), None);
    }
}
