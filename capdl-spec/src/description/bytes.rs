//! Sizes in descriptions.

use serde::{
    Deserialize, Deserializer,
    de::{Error, Visitor},
};

/// A size, written as `"128 MiB"`: a whole number and `KiB`, `MiB` or `GiB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bytes(pub u64);

const UNITS: [(&str, u32); 3] = [("KiB", 10), ("MiB", 20), ("GiB", 30)];

impl Bytes {
    fn parse(text: &str) -> Option<Bytes> {
        let digits = text.find(|c: char| !c.is_ascii_digit())?;
        let (_, shift) = UNITS.into_iter().find(|(unit, _)| *unit == text[digits..].trim_start())?;
        let number: u64 = text[..digits].parse().ok()?;
        number.checked_mul(1 << shift).map(Bytes)
    }
}

impl core::fmt::Display for Bytes {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match UNITS.into_iter().rev().find(|(_, shift)| self.0 != 0 && self.0.trailing_zeros() >= *shift) {
            Some((unit, shift)) => write!(f, "{} {unit}", self.0 >> shift),
            None => write!(f, "{} B", self.0),
        }
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Size;
        impl Visitor<'_> for Size {
            type Value = Bytes;
            fn expecting(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                f.write_str("a size like \"128 MiB\"")
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<Bytes, E> {
                let remedy = match text.trim().parse() {
                    Ok(number) => format!("write \"{}\"", meant(number)),
                    Err(_) => "write a whole number and KiB, MiB or GiB, like \"128 MiB\"".into(),
                };
                Bytes::parse(text).ok_or_else(|| E::custom(format!("`{text}` is not a size\n{remedy}")))
            }
            fn visit_i64<E: Error>(self, number: i64) -> Result<Bytes, E> {
                let meant = meant(number.unsigned_abs().max(1));
                Err(E::custom(format!("{number} is not a size, which has a unit\nwrite \"{meant}\"")))
            }
        }
        from.deserialize_any(Size)
    }
}

/// The likely meaning of a number without a unit: bytes if it is large, otherwise MiB.
fn meant(number: u64) -> Bytes {
    const MIB: u64 = 1 << 20;
    if number >= MIB { Bytes(number.div_ceil(MIB).saturating_mul(MIB)) } else { Bytes(number * MIB) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_a_number_and_a_binary_unit() {
        assert_eq!(Bytes::parse("128 MiB"), Some(Bytes(128 << 20)));
        assert_eq!(Bytes::parse("1GiB"), Some(Bytes(1 << 30)));
        for wrong in ["", "128", "MiB", "-1 MiB", "1.5 GiB", "128 MB", "99999999999999 GiB"] {
            assert_eq!(Bytes::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn sizes_print_in_the_largest_unit_that_divides_them() {
        assert_eq!(Bytes(128 << 20).to_string(), "128 MiB");
        assert_eq!(Bytes(4096).to_string(), "4 KiB");
        assert_eq!(Bytes(0).to_string(), "0 B");
    }
}
