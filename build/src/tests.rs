//! The tests of `cargo xtask test`, a file per subject. Each file lists its own in `all`.

mod bench;
mod boots;
mod bzimage;
mod checks;
mod components;
mod gate;
mod guest;
mod guests;
mod host;
mod iommu;
mod kernel;
mod walkthroughs;

use crate::test::Test;

/// Every test.
pub fn all() -> Vec<Test> {
    [
        checks::all(),
        host::all(),
        guest::all(),
        components::all(),
        kernel::all(),
        iommu::all(),
        gate::all(),
        guests::all(),
        bzimage::all(),
        bench::all(),
        boots::all(),
        walkthroughs::all(),
    ]
    .concat()
}
