//! Networks of sockets in descriptions: which VMs and components reach each other by AF_VSOCK, and under which addresses.

use core::fmt;

use proto::vsock::FIRST_CID;
use serde::{
    Deserialize, Deserializer,
    de::{Error, MapAccess, Visitor, value::MapAccessDeserializer},
};
use toml::Spanned;

/// A network of sockets.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Vsock {
    /// Unique among networks of sockets.
    pub name: Spanned<String>,
    /// Who is connected to it.
    pub members: Vec<Spanned<VsockMember>>,
}

impl Vsock {
    /// The members with their addresses: those of the description, or else the member's position behind the addresses
    /// that have meanings of their own.
    pub fn addressed(&self) -> impl Iterator<Item = (&Spanned<VsockMember>, u32)> {
        (FIRST_CID..).zip(&self.members).map(|(place, member)| (member, member.get_ref().cid.unwrap_or(place)))
    }
}

/// A member of a network of sockets.
#[derive(Debug)]
pub struct VsockMember {
    /// The name of a VM or of a component.
    pub name: String,
    /// Its address there (context identifier); see [`Vsock::addressed`].
    pub cid: Option<u32>,
}

/// A member as a table.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MemberTable {
    name: String,
    cid: Option<u32>,
}

impl<'de> Deserialize<'de> for VsockMember {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct TextOrTable;
        impl<'de> Visitor<'de> for TextOrTable {
            type Value = VsockMember;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the name of a VM or of a component, or a table")
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<VsockMember, E> {
                Ok(VsockMember { name: text.into(), cid: None })
            }
            fn visit_map<M: MapAccess<'de>>(self, map: M) -> Result<VsockMember, M::Error> {
                let MemberTable { name, cid } = MemberTable::deserialize(MapAccessDeserializer::new(map))?;
                Ok(VsockMember { name, cid })
            }
        }
        from.deserialize_any(TextOrTable)
    }
}
