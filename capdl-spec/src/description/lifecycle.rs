//! Who may manage a VM: stop, start, reset, pause and resume it, and press its buttons.

use core::fmt;

use proto::lifecycle::Verb;
use serde::{
    Deserialize, Deserializer,
    de::{Error, MapAccess, Visitor, value::MapAccessDeserializer},
};

/// In `managers`: whoever types commands at the console.
pub const CONSOLE: &str = "console";

/// A manager of a VM.
#[derive(Clone, Debug)]
pub struct Manager {
    /// The name of a component, or [`CONSOLE`].
    pub name: String,
    /// What it may do; everything when left out.
    may: Option<Vec<Verb>>,
}

impl Manager {
    /// What it may do.
    pub fn may(&self) -> &[Verb] {
        self.may.as_deref().unwrap_or(&Verb::ALL)
    }
}

/// A manager as a table.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ManagerTable {
    name: String,
    may: Option<Vec<Verb>>,
}

impl<'de> Deserialize<'de> for Manager {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct TextOrTable;
        impl<'de> Visitor<'de> for TextOrTable {
            type Value = Manager;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the name of a component, or a table")
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<Manager, E> {
                Ok(Manager { name: text.into(), may: None })
            }
            fn visit_map<M: MapAccess<'de>>(self, map: M) -> Result<Manager, M::Error> {
                let ManagerTable { name, may } = ManagerTable::deserialize(MapAccessDeserializer::new(map))?;
                Ok(Manager { name, may })
            }
        }
        from.deserialize_any(TextOrTable)
    }
}
