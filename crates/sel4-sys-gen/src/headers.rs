//! Constants, sizes and offsets, as the C compiler that builds the kernel sees them.
//!
//! A generated C file has one `asm` statement per expression; the generator reads the values from the assembly that `cc
//! -S` writes, without running a program. An expression that is not an integer constant in this kernel (a macro that
//! builds a structure, a member that only another release has) fails to compile: its line is dropped, and the rest
//! compiled again.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::{env, iter};

use crate::{Prefix, Result};

/// In later releases, `bootinfo_types.h` needs `stdint.h` but does not include it.
const INCLUDES: &str = "#include <stdint.h>
#include <sel4/sel4.h>
#include <sel4/arch/vmenter.h>
#include <sel4/arch/bootinfo_types.h>
";

/// Structures of the API that the object files do not describe, and the members that the `sel4` crate reads.
const MEMBERS: [(&str, &[&str]); 5] = [
    ("seL4_IPCBuffer", &["tag", "msg", "userData", "caps_or_badges", "receiveCNode", "receiveIndex", "receiveDepth"]),
    (
        "seL4_BootInfo",
        &[
            "extraLen",
            "nodeID",
            "numNodes",
            "numIOPTLevels",
            "ipcBuffer",
            "empty",
            "sharedFrames",
            "userImageFrames",
            "userImagePaging",
            "ioSpaceCaps",
            "extraBIPages",
            "initThreadCNodeSizeBits",
            "initThreadDomain",
            "untyped",
            "untypedList",
        ],
    ),
    ("seL4_SlotRegion", &["start", "end"]),
    ("seL4_UntypedDesc", &["paddr", "sizeBits", "isDevice"]),
    ("seL4_BootInfoHeader", &["id", "len"]),
];

/// Values from the headers.
pub struct Headers {
    /// Integer constants: enumerators and macros.
    pub constants: BTreeMap<String, i64>,
    /// Sizes of types, in bytes.
    pub sizes: BTreeMap<String, usize>,
    /// Offsets of members, in bytes, by `structure_member`.
    pub offsets: BTreeMap<String, usize>,
    /// Typedefs of `seL4_CPtr`.
    pub caps: BTreeSet<String>,
    /// The enumerators of `seL4_Error`, in order.
    errors: Vec<String>,
}

impl Headers {
    /// Has the compiler evaluate all constants, the sizes of `types`, and the offsets of [`MEMBERS`].
    pub fn probe(prefix: &Prefix, types: &BTreeSet<String>) -> Result<Self> {
        let text = String::from_utf8(cc(prefix, &["-E", "-P"], INCLUDES)?.output)?;
        let macros = String::from_utf8(cc(prefix, &["-E", "-dM"], INCLUDES)?.output)?;
        let enums = enumerations(&text);
        let mut names: BTreeSet<&str> = enums.iter().flat_map(|(_, names)| names.iter().copied()).collect();
        // Enumerators such as `_enum_pad_…` only force the size of their type.
        names.retain(|name| !name.starts_with('_'));
        names.extend(macro_names(&macros));

        let mut queries: Vec<(String, String)> = Vec::new();
        queries.extend(names.iter().map(|name| (format!("constant {name}"), name.to_string())));
        let structures = MEMBERS.iter().map(|(name, _)| *name);
        queries.extend(
            types
                .iter()
                .map(String::as_str)
                .chain(structures)
                .map(|name| (format!("size {name}"), format!("sizeof({name})"))),
        );
        for (structure, members) in MEMBERS {
            queries.extend(members.iter().map(|member| {
                (format!("offset {structure}_{member}"), format!("__builtin_offsetof({structure}, {member})"))
            }));
        }
        let errors = enums.iter().find(|(name, _)| *name == "seL4_Error").ok_or("no enum seL4_Error in the headers")?;
        let mut headers = Self {
            constants: BTreeMap::new(),
            sizes: BTreeMap::new(),
            offsets: BTreeMap::new(),
            caps: capabilities(&text),
            errors: errors.1.iter().map(|name| name.to_string()).collect(),
        };
        for (query, value) in evaluate(prefix, &queries)? {
            let (kind, name) = query.split_once(' ').ok_or("a query without a name")?;
            match kind {
                "constant" => {
                    headers.constants.insert(name.to_string(), value);
                }
                "size" => {
                    headers.sizes.insert(name.to_string(), value.try_into()?);
                }
                _ => {
                    headers.offsets.insert(name.to_string(), value.try_into()?);
                }
            }
        }
        Ok(headers)
    }

    /// Rust constants for all values except those for which `elsewhere` is true, and the error type.
    pub fn emit(&self, elsewhere: impl Fn(&str) -> bool) -> Result<String> {
        let mut out = String::new();
        for (name, value) in self.constants.iter().filter(|(name, _)| !elsewhere(name)) {
            writeln!(out, "pub const {name}: seL4_Word = {value}_i64 as seL4_Word;")?;
        }
        for (name, size) in &self.sizes {
            writeln!(out, "pub const sizeof_{name}: usize = {size};")?;
        }
        for (name, offset) in &self.offsets {
            writeln!(out, "pub const offsetof_{name}: usize = {offset};")?;
        }
        self.emit_error(&mut out)?;
        Ok(out)
    }

    fn emit_error(&self, out: &mut String) -> Result<()> {
        let variants: Vec<(&str, i64)> = self
            .errors
            .iter()
            .filter(|name| !matches!(name.as_str(), "seL4_NoError" | "seL4_NumErrors"))
            .filter_map(|name| Some((name.strip_prefix("seL4_")?, *self.constants.get(name)?)))
            .collect();
        writeln!(out, "\n/// Why the kernel refused an invocation (`seL4_Error`).")?;
        writeln!(out, "#[derive(Clone, Copy, Debug, PartialEq, Eq)]\npub enum Error {{")?;
        for (name, _) in &variants {
            writeln!(out, "    {name},")?;
        }
        writeln!(out, "    /// A number that the kernel's headers do not list.\n    Unlisted,\n}}")?;
        writeln!(out, "impl Error {{\n    /// The meaning of a reply's label.\n    #[inline]")?;
        writeln!(out, "    pub const fn check(label: seL4_Word) -> Result<(), Self> {{\n        Err(match label {{")?;
        writeln!(out, "            seL4_NoError => return Ok(()),")?;
        for (name, value) in &variants {
            writeln!(out, "            {value} => Self::{name},")?;
        }
        writeln!(out, "            _ => Self::Unlisted,\n        }})\n    }}\n}}")?;
        Ok(())
    }
}

/// The values of C expressions; those that are not constants are left out.
fn evaluate(prefix: &Prefix, queries: &[(String, String)]) -> Result<Vec<(String, i64)>> {
    // Of the first expression, after the function's head; compilers count lines from 1.
    let first_line = INCLUDES.lines().count() + 2;
    let mut dropped = BTreeSet::new();
    loop {
        let mut source = format!("{INCLUDES}void queries(void) {{\n");
        for (index, (query, expression)) in queries.iter().enumerate() {
            // A dropped expression leaves an empty line, so that line numbers in diagnostics stay those of `queries`.
            if dropped.contains(&index) {
                source.push('\n');
            } else {
                writeln!(source, "asm volatile(\"\\n->{query} %c0\" :: \"i\"((long)({expression})));")?;
            }
        }
        source.push_str("}\n");
        // No limit of errors, so that one run finds all expressions to drop.
        let run = cc(prefix, &["-S", "-O1", "-fmax-errors=0"], &source)?;
        if run.failed_lines.is_empty() {
            return values(&String::from_utf8(run.output)?);
        }
        // An error outside the expressions would repeat for ever.
        let before = dropped.len();
        dropped.extend(run.failed_lines.iter().filter_map(|line| line.checked_sub(first_line)));
        if dropped.len() == before {
            return Err(format!("the C headers of {} do not compile", prefix.root().display()).into());
        }
    }
}

fn values(assembly: &str) -> Result<Vec<(String, i64)>> {
    assembly
        .lines()
        .filter_map(|line| line.strip_prefix("->")?.rsplit_once(' '))
        .map(|(query, value)| Ok((query.to_string(), value.parse()?)))
        .collect()
}

struct Run {
    output: Vec<u8>,
    failed_lines: Vec<usize>,
}

/// Compiles `source` against the prefix's headers, with the compiler in `CC`. Returns the lines of `source` that
/// failed; if compilation failed for another reason, the error has the compiler's output.
fn cc(prefix: &Prefix, arguments: &[&str], source: &str) -> Result<Run> {
    let compiler = env::var("CC").unwrap_or_else(|_| "cc".into());
    let mut child = Command::new(&compiler)
        .args(["-w", "-ffreestanding", "-fno-pic", "-fno-stack-protector", "-x", "c"])
        .args(arguments)
        .arg("-I")
        .arg(prefix.include())
        .args(["-o", "-", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|why| format!("cannot run the C compiler {compiler}: {why}"))?;
    child.stdin.take().ok_or("no pipe to the compiler")?.write_all(source.as_bytes())?;
    let done = child.wait_with_output()?;
    let diagnostics = String::from_utf8_lossy(&done.stderr);
    let failed_lines: Vec<usize> = diagnostics.lines().filter_map(failed_line).collect();
    if !done.status.success() && failed_lines.is_empty() {
        return Err(format!("{compiler} refused the headers of {}:\n{diagnostics}", prefix.root().display()).into());
    }
    Ok(Run { output: done.stdout, failed_lines })
}

/// The line of `<stdin>:12:5: error: …`; or, if a macro of the headers is wrong, of the expression that uses it:
/// `<stdin>:12:5: note: in expansion of macro …`.
fn failed_line(diagnostics: &str) -> Option<usize> {
    if !["error:", "in expansion of macro"].iter().any(|sign| diagnostics.contains(sign)) {
        return None;
    }
    diagnostics.strip_prefix("<stdin>:")?.split(':').next()?.parse().ok()
}

/// Every enumeration of preprocessed C: the name of its typedef or tag, and its enumerators.
fn enumerations(text: &str) -> Vec<(&str, Vec<&str>)> {
    let mut found = Vec::new();
    for (at, word) in text.match_indices("enum") {
        let after = &text[at + word.len()..];
        if text[..at].ends_with(is_identifier) || !after.starts_with([' ', '\n', '{']) {
            continue;
        }
        let Some((head, rest)) = after.split_once('{') else {
            continue;
        };
        let Some((body, tail)) = rest.split_once('}') else {
            continue;
        };
        // Not the definition of an enumeration, but a use of its type before another block.
        if head.contains([';', '(', ')', ',', '=']) {
            continue;
        }
        let typedef = tail.split(';').next().unwrap_or("").trim();
        let name = if typedef.is_empty() || !typedef.chars().all(is_identifier) { head.trim() } else { typedef };
        let enumerators = body.split(',').filter_map(|item| item.split_whitespace().next()).collect();
        found.push((name, enumerators));
    }
    found
}

/// Object-like macros that belong to the API.
fn macro_names(definitions: &str) -> impl Iterator<Item = &str> {
    definitions
        .lines()
        .filter_map(|line| line.strip_prefix("#define ")?.split_once(' '))
        .filter(|(name, value)| name.chars().all(is_identifier) && !value.trim().is_empty())
        .map(|(name, _)| name)
        .filter(|name| ["seL4_", "SEL4_", "VECTOR_", "IRQ_"].iter().any(|start| name.starts_with(start)))
}

/// The types that are `seL4_CPtr` through one or more typedefs.
fn capabilities(text: &str) -> BTreeSet<String> {
    let words: Vec<Vec<&str>> = text
        .split(';')
        .map(|statement| statement.split_whitespace().collect::<Vec<_>>())
        .filter_map(|words| match words.as_slice() {
            [.., "typedef", old, new] => Some(vec![*old, *new]),
            _ => None,
        })
        .collect();
    let mut caps: BTreeSet<String> = iter::once("seL4_CPtr".to_string()).collect();
    // Typedefs of typedefs may be in any order, so this repeats until it finds no more.
    loop {
        let before = caps.len();
        caps.extend(
            words.iter().filter(|pair| caps.contains(pair[0])).map(|pair| pair[1].to_string()).collect::<Vec<_>>(),
        );
        if caps.len() == before {
            return caps;
        }
    }
}

fn is_identifier(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn enumerators_are_found_by_tag_or_typedef() {
        let text =
            "typedef enum { A = 0, B, my_enum_C } first; enum second { D = -1 }; enum second f(void) { return D; }";
        assert_eq!(enumerations(text), [("first", vec!["A", "B", "my_enum_C"]), ("second", vec!["D"])]);
    }

    #[test]
    fn a_capability_type_is_followed_through_its_typedefs() {
        let text = "typedef unsigned long seL4_Word; typedef seL4_CNode Late; typedef seL4_CPtr seL4_CNode; typedef seL4_Word seL4_CPtr;";
        let caps: Vec<String> = capabilities(text).into_iter().collect();
        assert_eq!(caps, ["Late", "seL4_CNode", "seL4_CPtr"]);
    }

    #[test]
    fn function_like_and_foreign_macros_are_left_alone() {
        let text = "#define seL4_PageBits 12\n#define seL4_Bit(n) (1<<(n))\n#define __x86_64__ 1\n#define SEL4_GUARD\n";
        assert_eq!(macro_names(text).collect::<Vec<_>>(), ["seL4_PageBits"]);
    }
}
