//! Networks in descriptions: which VMs and components are connected to a switch, and with which addresses.

use core::fmt;

use proto::net::Mac;
use serde::{
    Deserialize, Deserializer,
    de::{Error, MapAccess, Visitor, value::MapAccessDeserializer},
};
use toml::Spanned;

/// A network.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Network {
    /// Unique among networks.
    pub name: Spanned<String>,
    /// Who is connected to it.
    pub members: Vec<Spanned<Member>>,
}

/// A member of a network.
#[derive(Debug)]
pub struct Member {
    /// The name of a VM or component.
    pub name: String,
    /// Its address there; see [`Member::mac`].
    mac: Option<Mac>,
    /// Whether it forwards frames of others.
    pub bridge: bool,
}

impl Member {
    /// Its address in the network of this name: that of the description, or one that depends on both names alone, so that
    /// a guest keeps it when other members come and go.
    pub fn mac(&self, network: &str) -> Mac {
        self.mac.unwrap_or_else(|| derived(network, &self.name))
    }
}

/// An address for who is called `member` in that network.
///
/// Locally administered, and no group's (IEEE 802, section 8.2): 0x02, then five bytes of a hash (FNV-1a).
pub fn derived(network: &str, member: &str) -> Mac {
    let bytes = network.bytes().chain([0]).chain(member.bytes());
    let hash =
        bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3));
    // The last bytes of a name reach few of the sum's bits; the product's upper bits depend on all of it.
    let [.., a, b, c, d, e] = (hash ^ hash >> 32).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes();
    Mac([2, a, b, c, d, e])
}

/// An address as a description writes it: six bytes in hexadecimal, with colons between them.
struct Written(Mac);

impl<'de> Deserialize<'de> for Written {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        let example = "like \"02:00:00:00:00:01\"";
        let Some(mac) = parse(&text) else {
            return Err(D::Error::custom(format!(
                "`{text}` is not an Ethernet address\nwrite six bytes in hexadecimal, {example}"
            )));
        };
        match mac {
            _ if mac.is_group() => Err(D::Error::custom(format!(
                "`{text}` is the address of a group: the first byte is odd\nwrite an address of one device, {example}"
            ))),
            Mac([0, 0, 0, 0, 0, 0]) => {
                Err(D::Error::custom(format!("`{text}` is nobody's address\nwrite another one, {example}")))
            }
            _ => Ok(Written(mac)),
        }
    }
}

fn parse(text: &str) -> Option<Mac> {
    let mut parts = text.split(':');
    let mut byte = || {
        let digits =
            parts.next().filter(|digits| digits.len() == 2 && digits.bytes().all(|b| b.is_ascii_hexdigit()))?;
        u8::from_str_radix(digits, 16).ok()
    };
    let mac = Mac([byte()?, byte()?, byte()?, byte()?, byte()?, byte()?]);
    parts.next().is_none().then_some(mac)
}

/// A member as a table.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MemberTable {
    name: String,
    mac: Option<Written>,
    #[serde(default)]
    bridge: bool,
}

impl<'de> Deserialize<'de> for Member {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct TextOrTable;
        impl<'de> Visitor<'de> for TextOrTable {
            type Value = Member;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the name of a VM or component, or a table")
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<Member, E> {
                Ok(Member { name: text.into(), mac: None, bridge: false })
            }
            fn visit_map<M: MapAccess<'de>>(self, map: M) -> Result<Member, M::Error> {
                let MemberTable { name, mac, bridge } = MemberTable::deserialize(MapAccessDeserializer::new(map))?;
                Ok(Member { name, mac: mac.map(|Written(mac)| mac), bridge })
            }
        }
        from.deserialize_any(TextOrTable)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_six_bytes() {
        assert_eq!(parse("02:0a:00:ff:10:01"), Some(Mac([2, 10, 0, 255, 16, 1])));
        for wrong in
            ["", "02:00:00:00:00", "02:00:00:00:00:01:02", "2:0:0:0:0:1", "02-00-00-00-00-01", "02:00:00:00:00:+1"]
        {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn derived_addresses_depend_on_both_names_and_are_of_one_device() {
        let all: Vec<Mac> = [("lan", "a"), ("lan", "b"), ("dmz", "a"), ("la", "na")].map(|(n, m)| derived(n, m)).into();
        for (n, mac) in all.iter().enumerate() {
            assert!(mac.0[0] == 2 && !all[..n].contains(mac), "{mac}");
        }
        assert_eq!(derived("lan", "a"), all[0]);
    }
}
