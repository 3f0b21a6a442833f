//! The tests of `cargo xtask test`, a file per subject. Each file lists its own in `all`.

mod bench;
mod boots;
mod bzimage;
mod checks;
mod clocks;
mod components;
mod gate;
mod groups;
mod guest;
mod guests;
mod host;
mod intel_82574;
mod iommu;
mod kernel;
mod loaders;
mod managed;
mod medium;
mod modules;
mod probe;
mod q35;
mod sata;
mod screen;
mod simulated;
mod walkthroughs;

use crate::test::Test;

/// Every test.
pub fn all() -> Vec<Test> {
    [
        checks::all(),
        modules::all(),
        host::all(),
        guest::all(),
        components::all(),
        kernel::all(),
        iommu::all(),
        groups::all(),
        clocks::all(),
        loaders::all(),
        probe::all(),
        sata::all(),
        simulated::all(),
        intel_82574::all(),
        gate::all(),
        guests::all(),
        managed::all(),
        bzimage::all(),
        bench::all(),
        boots::all(),
        walkthroughs::all(),
    ]
    .concat()
}

#[cfg(test)]
mod unit {
    use super::*;

    #[test]
    fn no_two_tests_have_one_name() {
        let mut names: Vec<String> = all().iter().map(Test::full_name).collect();
        names.sort();
        let count = names.len();
        names.dedup();
        assert_eq!(names.len(), count);
    }
}
