//! Finds cycles between the files of a crate, from their `use` lines and their paths from `crate` or `super`. A module
//! includes its folder: a file in the folder may use the modules above it, and that does not count as a use. Tests are
//! left out.
//!
//! It relies on this project's style: a `use` begins a line, and unit tests come last in a file.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::Path;

use miette::{IntoDiagnostic, Result};

use crate::project;

/// A module's path in its crate; the crate itself is empty.
type Module = Vec<String>;

/// The files of a crate, and what each uses.
#[derive(Debug, Default)]
pub struct Modules(BTreeMap<Module, BTreeSet<Module>>);

impl Modules {
    /// The modules below a crate's `src`.
    pub fn read(src: &Path) -> Result<Self> {
        let mut files = BTreeMap::new();
        collect(src, &mut Vec::new(), &mut files)?;
        Ok(Self::of(&files))
    }

    fn of(files: &BTreeMap<Module, String>) -> Self {
        let uses = files.iter().map(|(module, text)| (module.clone(), uses(module, text, files)));
        Self(uses.collect())
    }

    /// For each set of files that use each other, a shortest cycle: `a → b → a`.
    pub fn cycles(&self) -> Vec<String> {
        let mut seen = BTreeSet::new();
        let mut cycles = Vec::new();
        for module in self.0.keys() {
            if seen.contains(module) {
                continue;
            }
            if let Some(cycle) = self.shortest(module) {
                let names: Vec<String> = cycle.iter().map(|module| module.join("/")).collect();
                cycles.push(names.join(" → "));
                let reached = self.reached(module);
                seen.extend(reached.into_iter().filter(|other| self.reached(other).contains(module)));
            }
        }
        cycles
    }

    /// A shortest way from a module back to itself.
    fn shortest(&self, module: &Module) -> Option<Vec<Module>> {
        let mut ways = VecDeque::from([vec![module.clone()]]);
        let mut seen = BTreeSet::new();
        while let Some(way) = ways.pop_front() {
            for next in way.last().and_then(|last| self.0.get(last)).into_iter().flatten() {
                let longer = [way.as_slice(), std::slice::from_ref(next)].concat();
                if next == module {
                    return Some(longer);
                }
                if seen.insert(next) {
                    ways.push_back(longer);
                }
            }
        }
        None
    }

    /// All modules that a module uses, directly or indirectly.
    fn reached(&self, module: &Module) -> BTreeSet<Module> {
        let mut reached = BTreeSet::new();
        let mut left = vec![module.clone()];
        while let Some(next) = left.pop() {
            for used in self.0.get(&next).into_iter().flatten() {
                if reached.insert(used.clone()) {
                    left.push(used.clone());
                }
            }
        }
        reached
    }
}

fn collect(folder: &Path, path: &mut Module, files: &mut BTreeMap<Module, String>) -> Result<()> {
    for entry in std::fs::read_dir(folder).into_diagnostic()? {
        let file = entry.into_diagnostic()?.path();
        let Some(stem) = file.file_stem().and_then(|stem| stem.to_str()) else { continue };
        path.push(stem.to_owned());
        if file.is_dir() {
            collect(&file, path, files)?;
        } else if file.extension().is_some_and(|extension| extension == "rs") {
            // The crate's root has no name, and a binary beside a library is its own crate.
            let name = match stem {
                "lib" if path.len() == 1 => Vec::new(),
                "mod" => path[..path.len() - 1].to_vec(),
                _ => path.clone(),
            };
            files.insert(name, String::from_utf8_lossy(&project::read(&file)?).into_owned());
        }
        path.pop();
    }
    Ok(())
}

/// The crate's other files that a file uses.
fn uses(module: &Module, text: &str, files: &BTreeMap<Module, String>) -> BTreeSet<Module> {
    // Without turbofish, only a `use` has a path that ends in colons.
    let code = without_tests(text).replace("::<", "<");
    let mut paths: Vec<Vec<&str>> = Vec::new();
    for statement in code.split(';') {
        if let Some(child) = statement.lines().last().and_then(declared) {
            paths.push(vec!["self", child]);
        }
        if let Some(at) = start_of_use(statement) {
            expand(&[], &statement[at..], &mut paths);
        }
    }
    paths.extend(mentioned(&code));
    let targets = paths.into_iter().filter_map(|path| target(module, &path, files));
    // Modules above it in its own folder do not count.
    targets.filter(|target| !module.starts_with(target)).collect()
}

/// The code of a file: without comments, and without modules for tests.
fn without_tests(text: &str) -> String {
    let mut code = String::new();
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        if line.trim() == "#[cfg(test)]"
            && let Some(next) = lines.next_if(|next| next.trim_start().starts_with("mod "))
        {
            if next.trim_end().ends_with(';') {
                continue;
            }
            break;
        }
        code.push_str(line.split("//").next().unwrap_or_default());
        code.push('\n');
    }
    code
}

/// The module that `pub mod NAME` declares.
fn declared(line: &str) -> Option<&str> {
    let (before, name) = line.rsplit_once("mod ")?;
    let before = before.trim();
    let is_name = name.chars().all(|c| c.is_alphanumeric() || c == '_');
    (is_name && (before.is_empty() || before.starts_with("pub"))).then_some(name)
}

/// Where the path of a `use` begins.
fn start_of_use(statement: &str) -> Option<usize> {
    let mut at = 0;
    for line in statement.split_inclusive('\n') {
        let start = line.trim_start();
        let rest = match start.strip_prefix("pub") {
            Some(rest) => rest.trim_start_matches("(crate)").trim_start_matches("(super)").trim_start(),
            None => start,
        };
        if let Some(path) = rest.strip_prefix("use ") {
            return Some(at + line.len() - path.len());
        }
        at += line.len();
    }
    None
}

/// The paths of a `use`, braces written out.
fn expand<'a>(before: &[&'a str], tree: &'a str, paths: &mut Vec<Vec<&'a str>>) {
    let (head, inner) = match tree.split_once('{') {
        Some((head, rest)) => (head, Some(rest.rsplit_once('}').map_or(rest, |(inner, _)| inner))),
        None => (tree.split(" as ").next().unwrap_or(tree), None),
    };
    let path = before.iter().copied().chain(head.split("::").map(str::trim).filter(|name| !name.is_empty()));
    let path: Vec<&str> = path.collect();
    let Some(inner) = inner else { return paths.push(path) };
    let (mut depth, mut start) = (0, 0);
    for (at, c) in inner.char_indices().chain([(inner.len(), ',')]) {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                if !inner[start..at].trim().is_empty() {
                    expand(&path, &inner[start..at], paths);
                }
                start = (at + 1).min(inner.len());
            }
            _ => {}
        }
    }
}

/// Paths from `crate` or `super` anywhere in the code.
fn mentioned(code: &str) -> Vec<Vec<&str>> {
    let is_of_path = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
    let words = code.split(|c: char| !is_of_path(c) && c != '$');
    words
        .filter(|word| word.starts_with("crate::") || word.starts_with("super::"))
        // The rest is in braces: a `use`, which `expand` follows to the children. Their parent is not used.
        .filter(|word| !word.ends_with("::"))
        .map(|w| w.split("::").collect())
        .collect()
}

/// The file that a path leads to: the innermost module on the path that has a file.
fn target(from: &Module, path: &[&str], files: &BTreeMap<Module, String>) -> Option<Module> {
    let (first, rest) = path.split_first()?;
    let mut target: Module = match *first {
        "crate" => Vec::new(),
        "self" => from.clone(),
        "super" => from[..from.len().saturating_sub(1)].to_vec(),
        // A child module, or another crate.
        name => [from.as_slice(), &[name.to_owned()]].concat(),
    };
    if !matches!(*first, "crate" | "self" | "super") && !files.contains_key(&target) {
        return None;
    }
    for name in rest {
        match *name {
            "super" => drop(target.pop()),
            name => target.push(name.to_owned()),
        }
    }
    while !files.contains_key(&target) {
        target.pop()?;
    }
    Some(target)
}

#[cfg(test)]
mod unit {
    use super::*;

    fn cycles(files: &[(&str, &str)]) -> Vec<String> {
        let module = |name: &str| name.split('/').filter(|part| !part.is_empty()).map(str::to_owned).collect();
        let files = files.iter().map(|(name, text)| (module(name), (*text).to_owned())).collect();
        Modules::of(&files).cycles()
    }

    #[test]
    fn two_files_that_use_each_other_are_a_cycle_however_they_say_it() {
        for there in
            ["use crate::b::B;", "use super::b;", "pub(crate) use crate::{\n    c,\n    b::{self, B as X},\n};"]
        {
            for back in ["use crate::a;", "fn f() -> crate::a::A {}", "use crate::{a::A};", "fn f() { super::a::f(); }"]
            {
                assert_eq!(cycles(&[("a", there), ("b", back)]), ["a → b → a"], "{there} {back}");
            }
        }
    }

    #[test]
    fn a_use_of_children_is_no_use_of_their_folder() {
        let files = [
            ("a", "use crate::b::{c::X, d::Y};\n"),
            ("b", "mod c;\nmod d;\nuse crate::a::Z;\n"),
            ("b/c", ""),
            ("b/d", ""),
        ];
        assert_eq!(cycles(&files), <[String; 0]>::default());
    }

    #[test]
    fn a_cycle_is_reported_once_and_at_its_shortest() {
        let files = [("a", "use crate::b;"), ("b", "use crate::c;\nuse crate::a;"), ("c", "use crate::a;")];
        assert_eq!(cycles(&files), ["a → b → a"]);
    }

    #[test]
    fn files_in_a_row_are_no_cycle() {
        let files = [
            ("", "mod a;\nmod b;\npub use a::A;"),
            ("a", "use crate::b::B;\nuse crate::Error;"),
            ("b", "use std::fmt;"),
        ];
        assert_eq!(cycles(&files), <[String; 0]>::default());
    }

    #[test]
    fn a_module_and_its_folder_are_one_and_what_is_above_in_it_is_free() {
        let own = [("a", "mod b;\nuse b::f;"), ("a/b", "use super::A;\nuse crate::a::C;")];
        assert_eq!(cycles(&own), <[String; 0]>::default());
        let through = [("a", "mod b;"), ("a/b", "use crate::c;"), ("c", "use crate::a::A;")];
        assert_eq!(cycles(&through), ["a → a/b → c → a"]);
    }

    #[test]
    fn tests_and_comments_count_for_nothing() {
        let files = [
            ("a", "use crate::b;\n#[cfg(test)]\nmod tests;"),
            ("a/tests", "use super::*;"),
            ("b", "// use crate::a;\n#[cfg(test)]\nmod tests {\n    use crate::a;\n}\n"),
        ];
        assert_eq!(cycles(&files), <[String; 0]>::default());
    }
}
