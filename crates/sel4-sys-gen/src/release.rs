//! Which release of seL4 is installed, and a sentence about it. An installed seL4 does not name its release, so what its
//! interface has tells it.

use std::fmt;

use crate::{Config, Prefix, Result, prefix};

/// Releases, as far as their interfaces differ where this project depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Release {
    /// 5.0.0 with this project's patches, as kernel-config/ builds it.
    Pinned,
    /// Any other before 15.0.0.
    Before15,
    /// 15.0.0.
    V15,
    /// 16.0.0 or later.
    Since16,
}

impl Release {
    /// The release that is installed there.
    pub fn of(prefix: &Prefix) -> Result<Self> {
        // kernel-config/cmake writes this file.
        if prefix.root().join("PORTCULLIS").is_file() {
            return Ok(Self::Pinned);
        }
        let constants = prefix.include().join("sel4/sel4_arch/constants.h");
        if constants.is_file() && prefix::read(&constants)?.contains("seL4_UserVSpaceTop") {
            return Ok(Self::Since16);
        }
        let [objects, ..] = prefix.interfaces();
        Ok(if prefix::read(&objects)?.contains("DomainScheduleConfigure") { Self::V15 } else { Self::Before15 })
    }
}

impl fmt::Display for Release {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pinned => "seL4 5.0.0 with the project's patches",
            Self::Before15 => "seL4 before 15.0.0",
            Self::V15 => "seL4 15.0.0",
            Self::Since16 => "seL4 16.0.0 or later",
        })
    }
}

/// What the kernel requires of the processor beyond what the first ones with VT-x, EPT and VPID have.
pub fn needs(config: &Config) -> Vec<&'static str> {
    let needs =
        [("SUPPORT_PCID", "PCID"), ("FSGSBASE_INST", "FSGSBASE"), ("HUGE_PAGE", "1 GiB pages"), ("XSAVE", "XSAVE")];
    needs.into_iter().filter(|(option, _)| config.is_defined(option)).map(|(_, name)| name).collect()
}

/// The release, the kind of build, what it requires of a processor, and what it offers.
pub fn describe(release: Release, config: &Config) -> String {
    let on = |name| config.is_defined(name);
    let build = match (on("DEBUG_BUILD"), on("PRINTING")) {
        (true, _) => "debug build",
        (false, true) => "release build that prints",
        (false, false) => "release build",
    };
    let needs = needs(config);
    let needs = if needs.is_empty() { "any processor".into() } else { format!("processors with {}", needs.join(", ")) };
    let guests = match (on("VTX"), on("X86_64_VTX_64BIT_GUESTS")) {
        (false, _) => "no guests",
        (true, false) => "guests of 32 bits",
        (true, true) => "guests of 32 and 64 bits",
    };
    let iommu = if on("IOMMU") { "IOMMU" } else { "no IOMMU" };
    let bits = config.number("ROOT_CNODE_SIZE_BITS");
    format!("{release}, {build} for {needs}: {guests}, {iommu}, 2^{bits} slots")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_description_says_what_the_configuration_means() {
        let said = |json: &str| {
            let mut config = Config::default();
            config.add_json(json).unwrap();
            describe(Release::Since16, &config)
        };
        assert_eq!(
            said(
                r#"{"VTX": true, "IOMMU": true, "HUGE_PAGE": true, "SUPPORT_PCID": true, "ROOT_CNODE_SIZE_BITS": "18"}"#
            ),
            "seL4 16.0.0 or later, release build for processors with PCID, 1 GiB pages: guests of 32 bits, IOMMU, 2^18 slots"
        );
        assert_eq!(
            said(r#"{"VTX": true, "X86_64_VTX_64BIT_GUESTS": true, "DEBUG_BUILD": true, "ROOT_CNODE_SIZE_BITS": 12}"#),
            "seL4 16.0.0 or later, debug build for any processor: guests of 32 and 64 bits, no IOMMU, 2^12 slots"
        );
        assert!(
            said(r#"{"VTX": false, "PRINTING": true}"#)
                .contains("release build that prints for any processor: no guests")
        );
    }
}
