//! Mistakes in a description's form: text that is not TOML, an unknown key, a missing key, a value of the wrong type.
//! The parser says where; this file puts its message into the terms of descriptions, with an example.

mod amount;
mod meant;
mod syntax;

use core::ops::Range;

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use crate::description::{
    board::BOARDS,
    keys::{KEYS, Key, Table},
    mistake::{Mistake, Mistakes, close, nearest},
    system::System,
    text::Source,
};

/// Parses a description.
pub(crate) fn parse(source: &Source) -> Result<System, Mistakes> {
    let table = DeTable::parse(&source.text).map_err(|error| {
        let span = error.span().unwrap_or(0..0);
        let (message, remedy) = syntax::explain(&source.text, &span, error.message());
        Mistakes(vec![Mistake::new(source, span, message, remedy)])
    })?;
    let wrong = list_for_a_table(source, table.get_ref(), &mut Vec::new());
    if let Some(mistake) = wrong.or_else(|| empty_text(source, table.get_ref(), &mut Vec::new())) {
        return Err(Mistakes(vec![mistake]));
    }
    let mut system: System =
        toml::from_str(&source.text).map_err(|error| Mistakes(vec![of_form(source, &table, &error)]))?;
    *system.board.get_mut() = system.console.on(system.board());
    Ok(system)
}

/// Refuses a list in place of a table: serde would take its elements for the table's values in order.
fn list_for_a_table<'a>(source: &Source, table: &'a DeTable<'a>, path: &mut Vec<&'a str>) -> Option<Mistake> {
    for (key, value) in table.iter() {
        path.push(key.get_ref());
        let one = Table::at(path)
            .is_some_and(|table| matches!(table, Table::Policy | Table::OnFault | Table::Emulator | Table::Console));
        let mut wrong = (one && value.get_ref().is_array()).then_some((value, false));
        let mut inner = None;
        match value.get_ref() {
            DeValue::Table(table) => inner = list_for_a_table(source, table, path),
            DeValue::Array(list) => {
                wrong = wrong.or_else(|| Some((list.iter().find(|element| element.get_ref().is_array())?, true)));
                let tables = list.iter().filter_map(|element| element.get_ref().as_table());
                inner = tables.into_iter().find_map(|table| list_for_a_table(source, table, path));
            }
            _ => {}
        }
        if let Some((value, element)) = wrong {
            let place = StopPoint { path: path.clone(), value: Some(value.get_ref()), element, ..StopPoint::default() };
            let (message, remedy) = place.wrong_value()?;
            return Some(Mistake::new(source, value.span(), message, remedy));
        }
        if inner.is_some() {
            return inner;
        }
        path.pop();
    }
    None
}

/// Refuses an empty text, which only makes sense for keys that are passed on unchanged.
fn empty_text<'a>(source: &Source, table: &'a DeTable<'a>, path: &mut Vec<&'a str>) -> Option<Mistake> {
    for (key, value) in table.iter() {
        path.push(key.get_ref());
        let list = value.get_ref().as_array();
        let inner = match value.get_ref() {
            DeValue::Table(table) => empty_text(source, table, path),
            _ => {
                let tables = list.into_iter().flat_map(|list| list.iter()).filter_map(|one| one.get_ref().as_table());
                tables.into_iter().find_map(|table| empty_text(source, table, path))
            }
        };
        path.pop();
        let values = list.map_or_else(|| vec![value], |list| list.iter().collect());
        let empty = values.into_iter().find(|one| one.get_ref().as_str().is_some_and(|text| text.trim().is_empty()));
        let (known, wanted) =
            (Table::at(path).and_then(|table| table.key(key.get_ref())), empty.filter(|_| inner.is_none()));
        if let (Some(known), Some(empty)) = (known.filter(|known| !matches!(known.name, "cmdline" | "args")), wanted) {
            let message = match list {
                Some(_) => format!("an entry of `{}` is empty", known.name),
                None => format!("`{}` is empty", known.name),
            };
            let or_not = if list.is_some() || known.is_optional() { ", or leave it out" } else { "" };
            return Some(Mistake::new(
                source,
                empty.span(),
                message,
                format!("write for example: {}{or_not}", known.example),
            ));
        }
        if inner.is_some() {
            return inner;
        }
    }
    None
}

/// Turns the parser's message into ours. Messages of this crate carry their remedy on a second line.
fn of_form(source: &Source, table: &Spanned<DeTable>, error: &toml::de::Error) -> Mistake {
    let span = error.span().unwrap_or(0..0);
    let text = error.message();
    let say = |message: String, remedy: String| Mistake::new(source, span.clone(), message, remedy);
    let place = StopPoint::of(table, &span);
    if let Some((message, remedy)) = text.split_once('\n') {
        let (message, remedy) = place.wrong_size().unwrap_or_else(|| (message.into(), remedy.into()));
        return say(message, remedy);
    }
    // The first word in backquotes is what the user wrote, and may itself contain backquotes; known words contain none.
    let words: Vec<&str> = text.split('`').skip(1).step_by(2).collect();
    let (message, remedy) = match words.split_first() {
        Some((wrong, known)) if text.starts_with("unknown field") => {
            let name = place.key.unwrap_or(wrong);
            unknown_key(source, name, place.parent(), known)
        }
        Some((wrong, known)) if text.starts_with("unknown variant") => {
            let name = place.path.last().copied().unwrap_or_default();
            let said = match Table::at(place.parent()) {
                Some(Table::OnFault) => format!("what happens to `{name}` is stop, restart or halt, not `{wrong}`"),
                _ if place.element => format!("`{wrong}` has no place in `{name}`"),
                _ => format!("`{wrong}` is no value of `{name}`"),
            };
            (said, if name == "board" { board(wrong, known) } else { nearest(wrong, known) })
        }
        Some((key, _)) if text.starts_with("missing field") => {
            let table = Table::at(&place.path).unwrap_or(Table::Top);
            let known = table.key(key).or_else(|| Table::Top.key(key));
            let remedy = known.map_or("add it".into(), |key| format!("add a line such as: {}", key.example));
            (format!("`{key}` is missing"), remedy)
        }
        _ => place.wrong_value().unwrap_or_else(|| (text.to_string(), syntax::fallback(text).to_string())),
    };
    say(message, remedy)
}

/// The remedy for an unknown board.
fn board(wrong: &str, known: &[&str]) -> String {
    let boards: Vec<String> = BOARDS.iter().map(|board| format!("{} ({})", board.name, board.about)).collect();
    close(wrong, known).map_or(format!("known here: {}", boards.join(", ")), |board| format!("did you mean `{board}`?"))
}

/// A key that does not belong in its table.
fn unknown_key(source: &Source, name: &str, path: &[&str], known: &[&str]) -> (String, String) {
    let table = Table::at(path);
    if let Some((table, remedy)) = table.and_then(|table| Some((table, meant::remedy(name, table)?))) {
        return (format!("`{name}` is no key of {}", table.written()), remedy);
    }
    let same: Vec<&Key> = KEYS.iter().filter(|key| key.name == name).collect();
    if let (Some(table), Some(first)) = (table, same.first()) {
        let tables: Vec<Table> = same.iter().flat_map(|key| key.tables).copied().collect();
        let remedy = match first.tables {
            [Table::Top] if first.is_table() => format!("write {}, a table of its own", first.example),
            [Table::Top] => "it belongs at the top, above the first table".into(),
            // The key that is meant has another form in that table.
            _ if name == "trusted" => {
                "for a PCI function, write dma = \"trusted\"; `trusted` is for entries of `ioports`".into()
            }
            _ => match above(source, path).filter(|_| tables.contains(&Table::Vm)) {
                Some(heading) => {
                    format!("it belongs in [[vm]]: write it above {heading}, which goes on to the next heading")
                }
                None => {
                    format!("it belongs in {}", tables.iter().map(|t| t.written()).collect::<Vec<_>>().join(", or "))
                }
            },
        };
        return (format!("`{name}` is no key of {}", table.written()), remedy);
    }
    let remedy = match close(name, known) {
        Some(word) => format!("did you mean `{word}`?"),
        None => {
            let names: Vec<&str> = KEYS.iter().map(|key| key.name).collect();
            let elsewhere = close(name, &names).and_then(|word| KEYS.iter().find(|key| key.name == word));
            match elsewhere.and_then(|key| Some((key.name, key.tables.first()?.written()))) {
                Some((word, table)) => format!("did you mean `{word}`? It belongs in {table}"),
                None => nearest(name, known),
            }
        }
    };
    (format!("unknown key `{name}`"), remedy)
}

/// The heading of a table below that of a VM, under which a key of the VM was written.
fn above(source: &Source, path: &[&str]) -> Option<String> {
    let heading = match path {
        [] | ["vm"] | ["component"] => return None,
        ["policy"] | ["policy", "on_fault"] | ["emulator"] => format!("[{}]", path.join(".")),
        _ => format!("[[{}]]", path.join(".")),
    };
    source.text.lines().any(|line| line.trim_start().starts_with(&heading)).then_some(heading)
}

/// The key or value where the parser stopped.
#[derive(Default)]
struct StopPoint<'a> {
    /// The keys that lead there, positions in lists left out.
    path: Vec<&'a str>,
    /// The last of them, if the key itself is wrong.
    key: Option<&'a str>,
    value: Option<&'a DeValue<'a>>,
    /// Whether it is an element of a list.
    element: bool,
    width: usize,
}

impl<'a> StopPoint<'a> {
    fn of(table: &'a Spanned<DeTable<'a>>, span: &Range<usize>) -> Self {
        let mut found = StopPoint { width: usize::MAX, ..StopPoint::default() };
        found.search_table(table.get_ref(), span, &mut Vec::new());
        found
    }

    /// The innermost key or value that contains the span. A table's own span may be that of its heading alone.
    fn search_table(&mut self, table: &'a DeTable<'a>, span: &Range<usize>, path: &mut Vec<&'a str>) {
        for (key, value) in table.iter() {
            path.push(key.get_ref());
            if key.span() == *span {
                let path = path.clone();
                *self = StopPoint {
                    path,
                    key: Some(key.get_ref()),
                    value: Some(value.get_ref()),
                    element: false,
                    width: 0,
                };
            }
            self.search(value, span, path, false);
            path.pop();
        }
    }

    fn search(&mut self, value: &'a Spanned<DeValue<'a>>, span: &Range<usize>, path: &mut Vec<&'a str>, element: bool) {
        let place = value.span();
        let contains = place.start <= span.start && span.end <= place.end;
        if contains && place.len() < self.width {
            let value = Some(value.get_ref());
            *self = StopPoint { path: path.clone(), key: None, value, element, width: place.len() };
        }
        match value.get_ref() {
            DeValue::Table(table) => self.search_table(table, span, path),
            DeValue::Array(list) => list.iter().for_each(|value| self.search(value, span, path, true)),
            _ => {}
        }
    }

    /// The keys that lead to the table that it is in.
    fn parent(&self) -> &[&'a str] {
        self.path.split_last().map_or(&[], |(_, parent)| parent)
    }

    /// A text where the key takes a size, and that is not one.
    fn wrong_size(&self) -> Option<(String, String)> {
        let (name, parent) = self.path.split_last()?;
        amount::wrong_size(Table::at(parent)?.key(name)?, self.value?.as_str()?)
    }

    /// A value that its key does not take.
    fn wrong_value(&self) -> Option<(String, String)> {
        let (name, parent) = self.path.split_last()?;
        let value = self.value.map(described)?;
        let table = Table::at(parent)?;
        if table == Table::OnFault {
            let message = format!("what happens to `{name}` is stop, restart or halt, not {value}");
            return Some((message, format!("write for example: {name} = \"restart\"")));
        }
        let key = table.key(name)?;
        let Key { what, example, .. } = key;
        if let Some(said) = amount::wrong_number(key, self.value?, self.element) {
            return Some(said);
        }
        let message = match self.element {
            true => format!("{value} has no place in `{name}`, which is {what}"),
            false => format!("`{name}` is {what}, not {value}"),
        };
        let remedy = match key.is_table() {
            true => format!("write it as {example}, with its keys on the lines below"),
            false => format!("write for example: {example}"),
        };
        Some((message, remedy))
    }
}

fn described(value: &DeValue) -> String {
    match value {
        DeValue::String(text) => format!("the text `{text}`"),
        DeValue::Integer(number) => format!("the number {number}"),
        DeValue::Float(number) => format!("the number {number}"),
        DeValue::Boolean(value) => value.to_string(),
        DeValue::Datetime(date) => format!("the date {date}"),
        DeValue::Array(_) => "a list".into(),
        DeValue::Table(_) => "one table".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mistake(text: &str) -> Option<Mistake> {
        parse(&Source { path: "x.toml".into(), text: text.into() }).err()?.0.pop()
    }

    const HEADS: [(Table, &str, &str); 21] = [
        (Table::Top, "", ""),
        (Table::Vm, "[[vm]]\n", ""),
        (Table::Component, "[[component]]\n", ""),
        (Table::Network, "[[network]]\n", ""),
        (Table::Member, "[[network]]\nmembers = [{ ", " }]"),
        (Table::Vsock, "[[vsock]]\n", ""),
        (Table::VsockMember, "[[vsock]]\nmembers = [{ ", " }]"),
        (Table::Pipe, "[[pipe]]\n", ""),
        (Table::Console, "console = { ", " }"),
        (Table::Channel, "[[channel]]\n", ""),
        (Table::Dataport, "[[channel]]\ndataports = [{ ", " }]"),
        (Table::Policy, "[policy]\n", ""),
        (Table::OnFault, "[policy.on_fault]\n", ""),
        (Table::Never, "[[policy.never]]\n", ""),
        (Table::Emulator, "[emulator]\n", ""),
        (Table::Card, "[[emulator.cards]]\n", ""),
        (Table::IoPorts, "[[vm]]\nioports = [{ ", " }]"),
        (Table::Function, "[[vm]]\npci_devices = [{ ", " }]"),
        (Table::Memory, "[[vm]]\npci_devices = [{ memory = [{ ", " }] }]"),
        (Table::Irq, "[[vm]]\nirqs = [{ ", " }]"),
        (Table::Manager, "[[vm]]\nmanagers = [{ ", " }]"),
    ];

    /// The keys that the types have are those of the table: the parser lists them where it meets one that it does not know.
    #[test]
    fn the_table_of_keys_is_that_of_the_types() {
        for (table, head, tail) in HEADS.into_iter().filter(|(table, ..)| *table != Table::OnFault) {
            let text = format!("{head}xyzzy = 1{tail}");
            let error = toml::from_str::<System>(&text).expect_err("the key is unknown");
            let mut known: Vec<&str> = error.message().split('`').skip(3).step_by(2).collect();
            let mut names = table.names();
            known.sort_unstable();
            names.sort_unstable();
            assert_eq!(names, known, "{table:?}: {}", error.message());
        }
    }

    /// Every example is valid in its place: the parser does not stop there.
    #[test]
    fn examples_parse() {
        for (table, head, tail) in HEADS {
            for key in KEYS.iter().filter(|key| key.tables.contains(&table) && !key.example.starts_with('[')) {
                let text = format!("{head}{}{tail}", key.example);
                let Some(mistake) = mistake(&text) else { continue };
                assert!(
                    mistake.message.ends_with(" is missing") || mistake.message.contains("needs an address"),
                    "{text}: {mistake}"
                );
            }
        }
    }

    /// Every key with every type: an error in words of descriptions, never the parser's own.
    #[test]
    fn every_key_with_every_type_is_answered_in_words_of_descriptions() {
        let values = [
            "1",
            "-1",
            "99999999999999",
            "1.5",
            "true",
            "\"x\"",
            "\"\"",
            "[]",
            "[1]",
            "[\"x\"]",
            "[[]]",
            "{}",
            "{ a = 1 }",
            "1979-05-27",
            "nan",
        ];
        for (table, head, tail) in HEADS {
            for key in KEYS.iter().filter(|key| key.tables.contains(&table)) {
                for value in values {
                    let text = format!("{head}{} = {value}{tail}", key.name);
                    let Some(mistake) = mistake(&text) else { continue };
                    let said = format!("{} / {}", mistake.message, mistake.remedy);
                    for word in ["invalid", "expected", "sequence", "u8", "u16", "minimal.toml"] {
                        assert!(!said.contains(word), "{text}\n{said}");
                    }
                }
            }
        }
    }
}
