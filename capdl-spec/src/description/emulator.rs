//! The table `[emulator]`: what is plugged into an emulated board. The build tool, which starts the emulator, reads it;
//! the specification contains none of it, since nobody can plug cards into a real board by a description.

use serde::{Deserialize, Deserializer, de::Error};
use toml::Spanned;

use crate::description::guest::Origin;

/// Slots for cards. On the board `bochs` slot n is device n + 1 of bus 0.
pub const SLOTS: core::ops::RangeInclusive<u8> = 1..=5;

/// What is plugged in.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Emulator {
    /// Image of the first IDE disk. Every run of the emulator gets a copy.
    pub disk: Option<Spanned<Origin>>,
    /// PCI cards.
    #[serde(default)]
    pub cards: Vec<Card>,
}

/// A PCI card.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Card {
    /// Where, one of [`SLOTS`].
    pub slot: Spanned<u8>,
    /// What.
    pub model: CardModel,
}

/// Network cards that emulators have. Words of the description: `e1000`, `ne2k`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CardModel {
    /// Intel 82540EM, 8086:100e. It is a bus master.
    E1000,
    /// RTL8029 (NE2000), 10ec:8029: 32 ports, no bus master.
    Ne2k,
}

impl CardModel {
    /// All, with their words.
    const WORDS: [(&'static str, CardModel); 2] = [("e1000", CardModel::E1000), ("ne2k", CardModel::Ne2k)];

    /// As descriptions name it.
    pub fn word(self) -> &'static str {
        Self::WORDS.iter().find(|(_, model)| *model == self).map_or("", |(word, _)| word)
    }
}

impl<'de> Deserialize<'de> for CardModel {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let word = String::deserialize(from)?;
        let known = Self::WORDS.iter().find(|(known, _)| *known == word);
        known.map(|(_, model)| *model).ok_or_else(|| D::Error::unknown_variant(&word, &["e1000", "ne2k"]))
    }
}
