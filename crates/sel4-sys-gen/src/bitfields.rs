//! Packed words, from the preprocessed bitfield descriptions (`*.pbf`).
//!
//! A `block` lists its fields from the most significant bit down; the last field of a block is at bit 0 of word 0.
//! A `tagged_union` lists blocks of equal size that share a tag field. The generated functions have the names of the C
//! headers: `T_new`, `T_get_F`, `T_set_F`, and `U_B_new`, `U_B_get_F`, `U_B_set_F`, `U_get_TAG`.
//! Not supported, as no user-level file needs them: tag masks and fields across a word's edge.

mod emit;

use std::collections::BTreeMap;

pub use emit::emit;

use crate::{Prefix, Result, prefix};

const WORD: u32 = 64;

/// The descriptions of all files.
#[derive(Default)]
pub struct Bitfields {
    /// By name.
    pub blocks: BTreeMap<String, Block>,
    /// By name.
    pub unions: BTreeMap<String, Union>,
}

/// A sequence of fields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// In the order in which the constructor takes them.
    pub fields: Vec<Field>,
    /// Its size.
    pub bits: u32,
}

/// A field of a block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// Its name.
    pub name: String,
    /// Its lowest bit, counted from bit 0 of word 0.
    pub low: u32,
    /// Its width.
    pub bits: u32,
    /// How far a value is shifted right before it is stored (`field_high` keeps only an address's upper bits).
    pub shift: u32,
    /// Bits to set again in an address whose top bit is set: it is sign-extended.
    pub extension: u64,
}

/// Blocks distinguished by a tag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Union {
    /// The tag's field.
    pub tag: String,
    /// Block names with their tags.
    pub members: Vec<(String, u64)>,
}

/// What the files of `prefix` describe.
pub fn read(prefix: &Prefix) -> Result<Bitfields> {
    let mut all = Bitfields::default();
    for path in prefix.bitfields()? {
        all.add(&prefix::read(&path)?).map_err(|why| format!("{}: {why}", path.display()))?;
    }
    Ok(all)
}

impl Bitfields {
    /// Adds the descriptions in `text`.
    pub fn add(&mut self, text: &str) -> Result<()> {
        let mut tokens = Tokens::of(text);
        let mut base = (WORD, false);
        while let Some(word) = tokens.next() {
            match word.as_str() {
                "base" => base = tokens.base()?,
                "block" => {
                    let name = tokens.word()?;
                    let block = tokens.block(base)?;
                    self.blocks.entry(name).or_insert(block);
                }
                "tagged_union" => {
                    let name = tokens.word()?;
                    let union = tokens.union()?;
                    self.unions.entry(name).or_insert(union);
                }
                other => return Err(format!("unexpected {other:?}").into()),
            }
        }
        Ok(())
    }

    /// The C types: blocks outside unions, and unions.
    pub fn type_names(&self) -> Vec<String> {
        self.plain_blocks().map(|(name, _)| name).chain(self.unions.keys()).map(|name| format!("{name}_t")).collect()
    }

    /// `Type_new(field,…)` for blocks outside unions, `Type(member,…)` for unions.
    pub fn signatures(&self) -> Vec<String> {
        let blocks = self.plain_blocks().map(|(name, block)| {
            let names: Vec<&str> = block.fields.iter().map(|field| field.name.as_str()).collect();
            format!("{name}_new({})", names.join(","))
        });
        let unions = self.unions.iter().map(|(name, union)| {
            let names: Vec<&str> = union.members.iter().map(|(member, _)| member.as_str()).collect();
            format!("{name}({})", names.join(","))
        });
        blocks.chain(unions).collect()
    }

    fn plain_blocks(&self) -> impl Iterator<Item = (&String, &Block)> {
        let in_union =
            |name: &str| self.unions.values().any(|union| union.members.iter().any(|(block, _)| block == name));
        self.blocks.iter().filter(move |(name, _)| !in_union(name))
    }
}

struct Tokens(std::iter::Peekable<std::vec::IntoIter<String>>);

impl Tokens {
    fn of(text: &str) -> Self {
        let mut tokens = Vec::new();
        for line in text.lines() {
            // `--` and `#` begin comments.
            let code = line.split("--").next().unwrap_or("").split('#').next().unwrap_or("");
            let spaced = ["{", "}", "(", ")", ","]
                .iter()
                .fold(code.to_string(), |code, mark| code.replace(mark, &format!(" {mark} ")));
            tokens.extend(spaced.split_whitespace().map(str::to_string));
        }
        Self(tokens.into_iter().peekable())
    }

    fn next(&mut self) -> Option<String> {
        self.0.next()
    }

    fn word(&mut self) -> Result<String> {
        self.next().ok_or_else(|| "the description ends too early".into())
    }

    fn number(&mut self) -> Result<u64> {
        let word = self.word()?;
        let digits = word.trim_end_matches(['l', 'L']);
        let number = match digits.strip_prefix("0x").or(digits.strip_prefix("0X")) {
            Some(digits) => u64::from_str_radix(digits, 16),
            None => digits.parse(),
        };
        number.map_err(|why| format!("{word:?}: {why}").into())
    }

    fn bits(&mut self) -> Result<u32> {
        Ok(self.number()?.try_into()?)
    }

    fn expect(&mut self, token: &str) -> Result<()> {
        let word = self.word()?;
        if word == token { Ok(()) } else { Err(format!("{word:?} where {token:?} belongs").into()) }
    }

    fn take(&mut self, token: &str) -> bool {
        self.0.next_if(|word| word == token).is_some()
    }

    /// `base 64` or `base 64(48,1)`: how many bits an address has, and whether it is sign-extended.
    fn base(&mut self) -> Result<(u32, bool)> {
        if self.bits()? != WORD {
            return Err("only 64-bit words are supported".into());
        }
        if !self.take("(") {
            return Ok((WORD, false));
        }
        let bits = self.bits()?;
        self.expect(",")?;
        let signed = self.number()? != 0;
        self.expect(")")?;
        Ok((bits, signed))
    }

    fn block(&mut self, (base_bits, signed): (u32, bool)) -> Result<Block> {
        let mut order = Vec::new();
        let explicit = self.take("(");
        while explicit && !self.take(")") {
            order.push(self.word()?);
            self.take(",");
        }
        self.expect("{")?;
        let mut fields = Vec::new();
        let mut below_top = 0;
        loop {
            let kind = self.word()?;
            let name = match kind.as_str() {
                "}" => break,
                "padding" => None,
                "field" | "field_high" => Some(self.word()?),
                other => return Err(format!("{other:?} in a block").into()),
            };
            let bits = self.bits()?;
            below_top += bits;
            if let Some(name) = name {
                let high = kind == "field_high";
                let shift = if high { base_bits.checked_sub(bits).ok_or("a field wider than an address")? } else { 0 };
                let extension = if high && signed && base_bits < WORD { !0 << base_bits } else { 0 };
                fields.push(Field { name, low: below_top, bits, shift, extension });
            }
        }
        // Fields are listed from the most significant bit, so their positions follow from the block's size.
        for field in &mut fields {
            field.low = below_top - field.low;
            if field.bits == 0 || field.low % WORD + field.bits > WORD {
                return Err(format!("field {} does not lie within a word", field.name).into());
            }
        }
        if explicit {
            fields.sort_by_key(|field| order.iter().position(|name| *name == field.name));
        }
        Ok(Block { fields, bits: below_top })
    }

    fn union(&mut self) -> Result<Union> {
        let tag = self.word()?;
        self.expect("{")?;
        let mut members = Vec::new();
        while !self.take("}") {
            self.expect("tag")?;
            members.push((self.word()?, self.number()?));
        }
        Ok(Union { tag, members })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Bitfields {
        let mut all = Bitfields::default();
        all.add(text).unwrap();
        all
    }

    #[test]
    fn fields_count_down_from_the_most_significant_bit() {
        let all =
            parse("base 64 -- comment\nblock Tag {\n padding 32\n field label 20 field caps 5\n field length 7 }");
        let places: Vec<_> =
            all.blocks["Tag"].fields.iter().map(|field| (field.name.as_str(), field.low, field.bits)).collect();
        assert_eq!(places, [("label", 12, 20), ("caps", 7, 5), ("length", 0, 7)]);
    }

    #[test]
    fn an_explicit_order_is_the_constructors() {
        let all = parse("base 64 block B (low, high) { field high 32 field low 32 }");
        let names: Vec<_> = all.blocks["B"].fields.iter().map(|field| field.name.as_str()).collect();
        assert_eq!(names, ["low", "high"]);
    }

    #[test]
    fn a_high_field_drops_the_low_bits_of_an_address() {
        let all = parse("base 64(48,1) block B { padding 16 field_high ptr 44 padding 4 }");
        let field = &all.blocks["B"].fields[0];
        assert_eq!((field.low, field.bits, field.shift, field.extension), (4, 44, 4, 0xffff_0000_0000_0000));
    }

    #[test]
    fn the_last_field_is_in_the_first_word() {
        let all = parse(
            "base 64 block F { field IP 64 field Addr 64 padding 61 field Type 3 } tagged_union U Type { tag F 5 }",
        );
        let fields = &all.blocks["F"].fields;
        assert_eq!((fields[0].low, fields[1].low, fields[2].low), (128, 64, 0));
        assert_eq!(all.unions["U"].members, [("F".to_string(), 5)]);
    }

    #[test]
    fn a_field_across_a_words_edge_is_refused() {
        assert!(Bitfields::default().add("base 64 block B { field wide 40 field too 40 padding 48 }").is_err());
    }
}
