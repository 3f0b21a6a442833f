//! Where a PCI function is: segment, bus, device, function, written as lspci and Linux do.

use std::fmt;
use std::str::FromStr;

use layout::Bdf;

/// A function of PCI segment 0 or of another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct PciAddress {
    /// Segment ("domain").
    pub segment: u32,
    /// Bus, device and function.
    pub bdf: Bdf,
}

impl PciAddress {
    /// The first line of a function in lspci's output: the address, a space, more text.
    pub fn heading(text: &str) -> Option<(Self, &str)> {
        let (address, title) = text.split_once(' ')?;
        Some((address.parse().ok()?, title.trim()))
    }
}

impl FromStr for PciAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        parse(text).ok_or_else(|| format!("`{text}` is no PCI address; expected, for example, 00:1f.2 or 0000:00:1f.2"))
    }
}

fn parse(text: &str) -> Option<PciAddress> {
    let (front, function) = text.split_once('.')?;
    let (front, device) = front.rsplit_once(':')?;
    let (segment, bus) = front.rsplit_once(':').unwrap_or(("0000", front));
    let number = |text: &str, digits: std::ops::RangeInclusive<usize>| {
        let plain = digits.contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        u32::from_str_radix(text, 16).ok().filter(|_| plain)
    };
    let bdf = Bdf {
        bus: number(bus, 2..=2)?.try_into().ok()?,
        device: number(device, 2..=2)?.try_into().ok().filter(|device| *device < 32)?,
        function: number(function, 1..=1)?.try_into().ok().filter(|function| *function < 8)?,
    };
    Some(PciAddress { segment: number(segment, 4..=8)?, bdf })
}

impl fmt::Display for PciAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.segment != 0 {
            write!(f, "{:04x}:", self.segment)?;
        }
        self.bdf.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_with_and_without_a_segment() {
        let address = PciAddress { segment: 0, bdf: Bdf { bus: 5, device: 0x1f, function: 2 } };
        assert_eq!("05:1f.2".parse(), Ok(address));
        assert_eq!("0000:05:1f.2".parse(), Ok(address));
        assert_eq!(address.to_string(), "05:1f.2");
        assert_eq!(
            "10000:e0:06.0".parse::<PciAddress>().map(|address| address.to_string()),
            Ok("10000:e0:06.0".into())
        );
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for text in
            ["", "1f.2", "00:1f", "00:20.0", "00:1f.8", "+0:1f.2", "00:+f.2", "000:00:1f.2", "é0:1f.2", "00:1f.2 "]
        {
            assert!(text.parse::<PciAddress>().is_err(), "{text}");
        }
    }
}
