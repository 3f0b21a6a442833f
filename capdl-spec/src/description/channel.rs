//! Channels in descriptions: memory that two VMs or components share, and events between them.

use core::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{Error, MapAccess, Visitor, value::MapAccessDeserializer},
};
use toml::Spanned;

use super::bytes::Bytes;

/// A channel.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Channel {
    /// Unique among channels; a guest finds its end by it.
    pub name: Spanned<String>,
    /// The names of the two ends, VMs or components.
    pub members: Vec<Spanned<String>>,
    /// Memory that both map; one of 4 KiB that both may write when left out.
    pub dataports: Option<Vec<Spanned<Dataport>>>,
}

/// A dataport.
#[derive(Clone, Debug)]
pub struct Dataport {
    /// A power of two, 4 KiB to 1 MiB.
    pub size: Bytes,
    /// The only member that may write, if not both may.
    pub writer: Option<Spanned<String>>,
}

/// A dataport as a table.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DataportTable {
    size: Bytes,
    writer: Option<Spanned<String>>,
}

impl<'de> Deserialize<'de> for Dataport {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct SizeOrTable;
        impl<'de> Visitor<'de> for SizeOrTable {
            type Value = Dataport;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a size, or a table")
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<Dataport, E> {
                let size = Bytes::deserialize(serde::de::value::StrDeserializer::new(text))?;
                Ok(Dataport { size, writer: None })
            }
            fn visit_map<M: MapAccess<'de>>(self, map: M) -> Result<Dataport, M::Error> {
                let DataportTable { size, writer } = DataportTable::deserialize(MapAccessDeserializer::new(map))?;
                Ok(Dataport { size, writer })
            }
        }
        from.deserialize_any(SizeOrTable)
    }
}
