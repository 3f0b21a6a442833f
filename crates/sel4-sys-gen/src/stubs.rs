//! One Rust function per method, which encodes its parameters in a message.
//!
//! Capabilities become, in order, the message's extra capabilities. All other inputs are packed into message words:
//! each at the next multiple of its own size, booleans in one bit, structures word by word. Outputs are packed the same
//! way. This is the kernel's convention (`syscall_stub_gen.py` in its sources). The first four words are passed in
//! registers; the others go through the IPC buffer.

use std::collections::BTreeSet;
use std::fmt::Write;

use crate::bitfields::Bitfields;
use crate::headers::Headers;
use crate::interfaces::{Api, Method, Param, Struct};
use crate::{Error, Result};

const WORD: usize = 64;
/// Message words that the system call passes in registers on x86_64.
const REGISTERS: usize = 4;

/// How a C type is encoded in a message.
#[derive(Clone, Copy)]
enum Kind<'a> {
    Cap,
    Boolean,
    Integer(usize),
    Packed(&'a str),
    Words(&'a Struct),
}

impl Kind<'_> {
    fn bits(self) -> usize {
        match self {
            Kind::Boolean => 1,
            Kind::Integer(bits) => bits,
            Kind::Cap | Kind::Packed(_) => WORD,
            Kind::Words(it) => WORD * it.members.len(),
        }
    }

    fn rust_input(self) -> String {
        match self {
            Kind::Words(it) => format!("&{}", it.name),
            other => other.rust(),
        }
    }

    fn rust(self) -> String {
        match self {
            Kind::Cap => "seL4_CPtr".into(),
            Kind::Boolean => "bool".into(),
            Kind::Integer(bits) => format!("u{bits}"),
            Kind::Packed(name) => name.into(),
            Kind::Words(it) => it.name.clone(),
        }
    }
}

/// A parameter and the bit of the message at which it starts.
struct Placed<'a> {
    param: &'a Param,
    kind: Kind<'a>,
    at: usize,
}

struct Types<'a> {
    api: &'a Api,
    packed: BTreeSet<String>,
    headers: &'a Headers,
}

/// The structures and the functions.
pub fn emit(api: &Api, fields: &Bitfields, headers: &Headers) -> Result<String> {
    let types = Types { api, packed: fields.type_names().into_iter().collect(), headers };
    let mut out = String::new();
    for it in &api.structs {
        emit_struct(&mut out, it)?;
    }
    for method in api.methods.iter().filter(|method| method.enabled) {
        emit_method(&mut out, method, &types).map_err(|why| Error::from(format!("{}: {why}", method.signature())))?;
    }
    Ok(out)
}

fn emit_struct(out: &mut String, it: &Struct) -> Result<()> {
    let name = &it.name;
    writeln!(out, "\n#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]\n#[repr(C)]")?;
    writeln!(out, "pub struct {name} {{")?;
    for member in &it.members {
        writeln!(out, "    pub {}: seL4_Word,", identifier(member))?;
    }
    writeln!(out, "}}\nimpl {name} {{")?;
    writeln!(out, "    /// The words of the message in the IPC buffer from `first` on.\n    #[inline]")?;
    writeln!(out, "    pub fn from_message(first: usize) -> Self {{\n        Self {{")?;
    for (index, member) in it.members.iter().enumerate() {
        writeln!(out, "            {}: get_mr(first + {index}),", identifier(member))?;
    }
    writeln!(out, "        }}\n    }}\n}}")?;
    Ok(())
}

impl Types<'_> {
    fn kind<'a>(&'a self, name: &'a str) -> Result<Kind<'a>> {
        if self.headers.caps.contains(name) {
            return Ok(Kind::Cap);
        }
        if let Some(it) = self.api.structs.iter().find(|it| it.name == name) {
            return match self.headers.sizes.get(name) {
                Some(size) if size * 8 == it.members.len() * WORD => Ok(Kind::Words(it)),
                size => Err(format!("{name} has {} members and {size:?} bytes", it.members.len()).into()),
            };
        }
        let size = *self.headers.sizes.get(name).ok_or_else(|| format!("the headers do not define {name}"))?;
        match (name, size) {
            ("seL4_Bool", _) => Ok(Kind::Boolean),
            (_, 8) if self.packed.contains(name) => Ok(Kind::Packed(name)),
            (_, 1 | 2 | 4 | 8) => Ok(Kind::Integer(size * 8)),
            _ => Err(format!("cannot pass {size} bytes of {name}").into()),
        }
    }

    /// Assigns parameters to the bits of a message; also returns its length in words.
    fn place<'a>(&'a self, params: impl Iterator<Item = &'a Param>) -> Result<(Vec<Placed<'a>>, usize)> {
        let mut end = 0_usize;
        let mut placed = Vec::new();
        for param in params {
            let kind = self.kind(&param.kind)?;
            let at = end.next_multiple_of(kind.bits().min(WORD));
            end = at + kind.bits();
            placed.push(Placed { param, kind, at });
        }
        Ok((placed, end.div_ceil(WORD)))
    }
}

fn emit_method(out: &mut String, method: &Method, types: &Types) -> Result<()> {
    let is_cap = |param: &&Param| types.headers.caps.contains(&param.kind);
    let caps: Vec<&Param> = method.inputs.iter().filter(is_cap).collect();
    let (inputs, length) = types.place(method.inputs.iter().filter(|param| !is_cap(param)))?;
    let (outputs, _) = types.place(method.outputs.iter())?;
    let stem = format!("{}_{}", method.interface, method.name);

    let result = match outputs.as_slice() {
        [] => "()".to_string(),
        [one] => one.kind.rust(),
        many => {
            writeln!(out, "\n#[derive(Clone, Copy, Debug, PartialEq, Eq)]\npub struct {stem}_t {{")?;
            for output in many {
                writeln!(out, "    pub {}: {},", identifier(&output.param.name), output.kind.rust())?;
            }
            writeln!(out, "}}")?;
            format!("{stem}_t")
        }
    };
    let mut parameters = vec!["service: seL4_CPtr".to_string()];
    for param in &method.inputs {
        parameters.push(format!("{}: {}", identifier(&param.name), types.kind(&param.kind)?.rust_input()));
    }
    writeln!(out, "\n#[inline]\npub fn {stem}({}) -> Result<{result}, Error> {{", parameters.join(", "))?;
    for (index, cap) in caps.iter().enumerate() {
        writeln!(out, "    set_cap({index}, {});", identifier(&cap.name))?;
    }
    let mut words = vec![Vec::new(); length.max(REGISTERS)];
    for input in &inputs {
        for (offset, expression) in input_words(input).into_iter().enumerate() {
            words[input.at / WORD + offset].push(expression);
        }
    }
    let words: Vec<String> =
        words.iter().map(|parts| if parts.is_empty() { "0".into() } else { parts.join(" | ") }).collect();
    // The first words are arguments of `invoke`, which passes them in registers.
    for (index, word) in words.iter().enumerate().skip(REGISTERS) {
        writeln!(out, "    set_mr({index}, {word});")?;
    }
    writeln!(out, "    let info = seL4_MessageInfo_new({}, 0, {}, {length});", method.id, caps.len())?;
    let answer = if outputs.is_empty() { "_answer" } else { "answer" };
    writeln!(out, "    let {answer} = invoke(service, info, [{}])?;", words[..REGISTERS].join(", "))?;
    let values: Vec<String> = outputs.iter().map(output_value).collect();
    match outputs.as_slice() {
        [] => writeln!(out, "    Ok(())\n}}")?,
        [_] => writeln!(out, "    Ok({})\n}}", values.concat())?,
        many => {
            let members: Vec<String> = many
                .iter()
                .zip(&values)
                .map(|(output, value)| format!("{}: {value}", identifier(&output.param.name)))
                .collect();
            writeln!(out, "    Ok({stem}_t {{ {} }})\n}}", members.join(", "))?;
        }
    }
    Ok(())
}

/// The message words to which an input contributes.
fn input_words(input: &Placed) -> Vec<String> {
    let name = identifier(&input.param.name);
    let shifted = |word: String| match input.at % WORD {
        0 => word,
        bits => format!("({word} << {bits})"),
    };
    match input.kind {
        Kind::Words(it) => it.members.iter().map(|member| format!("{name}.{}", identifier(member))).collect(),
        Kind::Packed(_) => vec![format!("{name}.words[0]")],
        Kind::Integer(WORD) | Kind::Cap => vec![name],
        Kind::Integer(_) | Kind::Boolean => vec![shifted(format!("({name} as seL4_Word)"))],
    }
}

/// The Rust value of an output.
fn output_value(output: &Placed) -> String {
    let word = |index: usize| match index {
        0..REGISTERS => format!("answer[{index}]"),
        _ => format!("get_mr({index})"),
    };
    let (first, shift) = (output.at / WORD, output.at % WORD);
    match output.kind {
        Kind::Words(it) => {
            let members: Vec<String> = it
                .members
                .iter()
                .zip(first..)
                .map(|(member, index)| format!("{}: {}", identifier(member), word(index)))
                .collect();
            format!("{} {{ {} }}", it.name, members.join(", "))
        }
        Kind::Packed(name) => format!("{name} {{ words: [{}] }}", word(first)),
        Kind::Boolean => format!("({} >> {shift}) & 1 == 1", word(first)),
        Kind::Cap | Kind::Integer(WORD) => word(first),
        Kind::Integer(bits) => format!("({} >> {shift}) as u{bits}", word(first)),
    }
}

/// A C name as a Rust identifier.
fn identifier(name: &str) -> String {
    const KEYWORDS: [&str; 12] =
        ["as", "box", "fn", "in", "loop", "match", "mod", "move", "ref", "type", "use", "where"];
    if KEYWORDS.contains(&name) { format!("r#{name}") } else { name.to_string() }
}
