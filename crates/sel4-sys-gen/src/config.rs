//! The kernel's configuration (`gen_config.json`), and the conditions on it in the interface files.
//!
//! Two notations are in use: an attribute with a C preprocessor expression (`condition="defined(CONFIG_VTX)"`), and
//! in later releases an element (`<condition><not><config var="CONFIG_KERNEL_MCS"/></not></condition>`).
//! As in the kernel's own headers, an option that is false is not defined at all, and counts as zero.

use std::collections::BTreeMap;

use roxmltree::Node;
use serde_json::Value;

use crate::Result;

/// Configuration options by name, without the `CONFIG_` in front.
#[derive(Default)]
pub struct Config {
    options: BTreeMap<String, Setting>,
}

/// The value of an option.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Setting {
    /// Switched on or off.
    Switch(bool),
    /// A number.
    Number(u64),
    /// Anything else.
    Text(String),
}

impl Config {
    /// Adds the options of one `gen_config.json`.
    pub fn add_json(&mut self, text: &str) -> Result<()> {
        let json: BTreeMap<String, Value> = serde_json::from_str(text)?;
        for (name, value) in json {
            let setting = match value {
                Value::Bool(on) => Setting::Switch(on),
                Value::Number(number) => Setting::Number(number.as_u64().ok_or("a negative option")?),
                // Kernels write numbers as strings, too.
                Value::String(text) => text.parse().map_or(Setting::Text(text), Setting::Number),
                _ => continue,
            };
            self.options.insert(bare(&name).to_string(), setting);
        }
        Ok(())
    }

    /// Whether no option is known.
    pub fn is_empty(&self) -> bool {
        self.options.is_empty()
    }

    /// All options, by name.
    pub fn options(&self) -> impl Iterator<Item = (&str, &Setting)> {
        self.options.iter().map(|(name, setting)| (name.as_str(), setting))
    }

    /// Whether the headers `#define` the option.
    pub fn is_defined(&self, name: &str) -> bool {
        !matches!(self.options.get(bare(name)), None | Some(Setting::Switch(false)))
    }

    /// The option's value in a preprocessor expression.
    pub fn number(&self, name: &str) -> u64 {
        match self.options.get(bare(name)) {
            Some(Setting::Switch(on)) => u64::from(*on),
            Some(Setting::Number(number)) => *number,
            Some(Setting::Text(_)) | None => 0,
        }
    }

    /// Evaluates a preprocessor condition. The empty one holds.
    pub fn holds(&self, condition: &str) -> Result<bool> {
        let mut parser = Parser { config: self, rest: condition };
        if parser.peek().is_none() {
            return Ok(true);
        }
        let value = parser.either()?;
        match parser.peek() {
            None => Ok(value != 0),
            Some(token) => Err(format!("condition {condition:?}: what is {token:?}?").into()),
        }
    }

    /// Whether what `node` describes exists: its `condition` attribute and its `<condition>` child.
    pub fn enables(&self, node: Node) -> Result<bool> {
        if !self.holds(node.attribute("condition").unwrap_or(""))? {
            return Ok(false);
        }
        match node.children().find(|child| child.has_tag_name("condition")) {
            Some(condition) => self.all(condition),
            None => Ok(true),
        }
    }

    fn all(&self, parent: Node) -> Result<bool> {
        parent.children().filter(Node::is_element).try_fold(true, |so_far, child| Ok(so_far && self.element(child)?))
    }

    fn element(&self, node: Node) -> Result<bool> {
        match node.tag_name().name() {
            "config" => Ok(self.is_defined(node.attribute("var").ok_or("a condition without var")?)),
            "not" => Ok(!self.all(node)?),
            "and" => self.all(node),
            "or" => node
                .children()
                .filter(Node::is_element)
                .try_fold(false, |so_far, child| Ok(so_far || self.element(child)?)),
            other => Err(format!("unknown condition <{other}>").into()),
        }
    }
}

fn bare(name: &str) -> &str {
    name.strip_prefix("CONFIG_").unwrap_or(name)
}

/// Recursive descent over `|| && ! defined == != < <= > >= ( )`, options and numbers.
struct Parser<'a> {
    config: &'a Config,
    rest: &'a str,
}

impl<'a> Parser<'a> {
    fn peek(&mut self) -> Option<&'a str> {
        self.rest = self.rest.trim_start();
        let word = self.rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(self.rest.len());
        let len = match word {
            0 if ["||", "&&", "==", "!=", "<=", ">="].iter().any(|token| self.rest.starts_with(token)) => 2,
            0 => self.rest.chars().next()?.len_utf8(),
            word => word,
        };
        Some(&self.rest[..len])
    }

    fn take(&mut self, token: &str) -> bool {
        let matches = self.peek() == Some(token);
        if matches {
            self.rest = &self.rest[token.len()..];
        }
        matches
    }

    fn next(&mut self) -> Result<&'a str> {
        let token = self.peek().ok_or("a condition ends too early")?;
        self.rest = &self.rest[token.len()..];
        Ok(token)
    }

    fn either(&mut self) -> Result<u64> {
        let mut value = self.both()?;
        while self.take("||") {
            value = u64::from((self.both()? != 0) | (value != 0));
        }
        Ok(value)
    }

    fn both(&mut self) -> Result<u64> {
        let mut value = self.comparison()?;
        while self.take("&&") {
            value = u64::from((self.comparison()? != 0) & (value != 0));
        }
        Ok(value)
    }

    fn comparison(&mut self) -> Result<u64> {
        let left = self.operand()?;
        let Some(operator @ ("==" | "!=" | "<" | "<=" | ">" | ">=")) = self.peek() else {
            return Ok(left);
        };
        self.next()?;
        let right = self.operand()?;
        Ok(u64::from(match operator {
            "==" => left == right,
            "!=" => left != right,
            "<" => left < right,
            "<=" => left <= right,
            ">" => left > right,
            _ => left >= right,
        }))
    }

    fn operand(&mut self) -> Result<u64> {
        if self.take("!") {
            return Ok(u64::from(self.operand()? == 0));
        }
        if self.take("(") {
            let value = self.either()?;
            return if self.take(")") { Ok(value) } else { Err("a condition lacks a )".into()) };
        }
        if self.take("defined") {
            let parenthesis = self.take("(");
            let defined = self.config.is_defined(self.next()?);
            if parenthesis && !self.take(")") {
                return Err("defined( lacks its )".into());
            }
            return Ok(u64::from(defined));
        }
        let token = self.next()?;
        if !token.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_') {
            return Err(format!("a condition has {token:?} where a value belongs").into());
        }
        Ok(token.parse().unwrap_or_else(|_| self.config.number(token)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> Config {
        let mut config = Config::default();
        config
            .add_json(r#"{"VTX": true, "CONFIG_IOMMU": false, "MAX_NUM_NODES": "4", "NUM_DOMAINS": 1, "ARCH": "x86"}"#)
            .unwrap();
        config
    }

    #[test]
    fn preprocessor_conditions_are_evaluated() {
        for (condition, expected) in [
            ("", true),
            ("defined(CONFIG_VTX)", true),
            ("defined CONFIG_VTX", true),
            ("defined CONFIG_IOMMU", false),
            ("!defined(CONFIG_IOMMU) && CONFIG_MAX_NUM_NODES > 1", true),
            ("CONFIG_NUM_DOMAINS > 1 || defined(CONFIG_ARCH)", true),
            ("CONFIG_NUM_DOMAINS > 1 || (CONFIG_VTX == 0)", false),
            ("CONFIG_MAX_NUM_NODES <= 3", false),
            ("defined(CONFIG_NEVER_HEARD_OF)", false),
        ] {
            assert_eq!(config().holds(condition).unwrap(), expected, "{condition}");
        }
    }

    #[test]
    fn a_malformed_condition_is_an_error() {
        for condition in ["defined(", "(CONFIG_VTX", "CONFIG_VTX CONFIG_VTX", "&&"] {
            assert!(config().holds(condition).is_err(), "{condition}");
        }
    }

    #[test]
    fn condition_elements_are_evaluated() {
        for (condition, expected) in [
            (r#"<config var="CONFIG_VTX"/>"#, true),
            (r#"<not><config var="CONFIG_VTX"/></not>"#, false),
            (r#"<or><config var="CONFIG_IOMMU"/><config var="CONFIG_VTX"/></or>"#, true),
            (r#"<and><config var="CONFIG_VTX"/><not><config var="CONFIG_IOMMU"/></not></and>"#, true),
            (r#"<and><config var="CONFIG_VTX"/><config var="CONFIG_IOMMU"/></and>"#, false),
        ] {
            let text = format!("<method><condition>{condition}</condition></method>");
            let document = roxmltree::Document::parse(&text).unwrap();
            assert_eq!(config().enables(document.root_element()).unwrap(), expected, "{condition}");
        }
    }
}
