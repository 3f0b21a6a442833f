//! Rust source for packed words: a type for each block and union, and its functions.

use std::fmt::Write;

use super::{Bitfields, Block, Field, WORD};
use crate::Result;

/// Rust types and functions for all of them.
pub fn emit(all: &Bitfields) -> Result<String> {
    let mut out = String::new();
    for (name, block) in all.plain_blocks() {
        emit_type(&mut out, name, block.bits)?;
        emit_functions(&mut out, name, name, block, None)?;
    }
    for (name, union) in &all.unions {
        let blocks: Vec<(&str, u64, &Block)> = union
            .members
            .iter()
            .map(|(block, tag)| Ok((block.as_str(), *tag, all.blocks.get(block).ok_or(format!("no block {block}"))?)))
            .collect::<Result<_>>()?;
        let Some((_, _, first)) = blocks.first() else {
            continue;
        };
        emit_type(&mut out, name, first.bits)?;
        let tag = first.fields.iter().find(|field| field.name == union.tag).ok_or(format!("{name} has no tag"))?;
        emit_get(&mut out, name, name, tag)?;
        for (block_name, value, block) in &blocks {
            if block.bits != first.bits {
                return Err(format!("{name}: {block_name} has a size of its own").into());
            }
            emit_functions(&mut out, name, &format!("{name}_{block_name}"), block, Some((&union.tag, *value)))?;
        }
    }
    Ok(out)
}

fn emit_type(out: &mut String, name: &str, bits: u32) -> Result<()> {
    let words = bits.div_ceil(WORD);
    writeln!(out, "\n#[derive(Clone, Copy, Debug, PartialEq, Eq)]\n#[repr(C)]")?;
    writeln!(out, "pub struct {name}_t {{\n    pub words: [seL4_Word; {words}],\n}}")?;
    Ok(())
}

fn emit_functions(out: &mut String, name: &str, stem: &str, block: &Block, tag: Option<(&str, u64)>) -> Result<()> {
    let is_tag = |field: &&Field| tag.is_some_and(|(name, _)| field.name == name);
    let arguments: Vec<String> = block
        .fields
        .iter()
        .filter(|field| !is_tag(field))
        .map(|field| format!("{}: seL4_Word", argument(field)))
        .collect();
    writeln!(out, "#[inline]\npub const fn {stem}_new({}) -> {name}_t {{", arguments.join(", "))?;
    writeln!(out, "    let mut it = {name}_t {{ words: [0; {}] }};", block.bits.div_ceil(WORD))?;
    for field in &block.fields {
        let value = tag.filter(|_| is_tag(&field)).map_or_else(|| argument(field), |(_, value)| value.to_string());
        writeln!(out, "    it.words[{}] |= {};", field.low / WORD, placed(field, &value))?;
    }
    writeln!(out, "    it\n}}")?;
    for field in block.fields.iter().filter(|field| !is_tag(field)) {
        emit_get(out, name, stem, field)?;
        let (word, at) = (field.low / WORD, field.low % WORD);
        writeln!(
            out,
            "#[inline]\npub const fn {stem}_set_{}(mut it: {name}_t, value: seL4_Word) -> {name}_t {{",
            field.name
        )?;
        writeln!(out, "    it.words[{word}] &= !({:#x} << {at});", mask(field.bits))?;
        writeln!(out, "    it.words[{word}] |= {};\n    it\n}}", placed(field, "value"))?;
    }
    Ok(())
}

fn emit_get(out: &mut String, name: &str, stem: &str, field: &Field) -> Result<()> {
    let word = shifted(&format!("it.words[{}]", field.low / WORD), ">>", field.low % WORD);
    let value = shifted(&format!("({word} & {:#x})", mask(field.bits)), "<<", field.shift);
    writeln!(out, "#[inline]\npub const fn {stem}_get_{}(it: {name}_t) -> seL4_Word {{", field.name)?;
    match field.extension {
        0 => writeln!(out, "    {value}\n}}")?,
        bits => {
            // The field does not store the upper bits of a canonical address, which equal its sign bit.
            let sign = bits.trailing_zeros() - 1;
            writeln!(out, "    let value = {value};")?;
            writeln!(out, "    if value >> {sign} & 1 == 1 {{ value | {bits:#x} }} else {{ value }}\n}}")?;
        }
    }
    Ok(())
}

fn placed(field: &Field, value: &str) -> String {
    let kept = format!("({} & {:#x})", shifted(value, ">>", field.shift), mask(field.bits));
    shifted(&kept, "<<", field.low % WORD)
}

fn shifted(value: &str, direction: &str, bits: u32) -> String {
    if bits == 0 { value.to_string() } else { format!("({value} {direction} {bits})") }
}

fn argument(field: &Field) -> String {
    format!("arg_{}", field.name)
}

fn mask(bits: u32) -> u64 {
    u64::MAX >> (WORD - bits)
}
