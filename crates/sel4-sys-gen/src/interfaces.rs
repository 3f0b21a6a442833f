//! The invocations: every method of every kernel object, from the three `object-api*.xml` files.
//!
//! Labels count from 1 through the generic file, then the sel4-arch file, then the arch file; a method whose
//! condition does not hold takes no number.

use std::collections::BTreeSet;

use roxmltree::{Document, Node};

use crate::{Config, Prefix, Result, prefix};

/// All methods and the structures that they pass.
#[derive(Default)]
pub struct Api {
    /// In the order of their labels.
    pub methods: Vec<Method>,
    /// Structures of words.
    pub structs: Vec<Struct>,
}

/// A method of a kernel object.
pub struct Method {
    /// The type of the object's capability, such as `seL4_TCB`.
    pub interface: String,
    /// Its name within the interface.
    pub name: String,
    /// The name of its label.
    pub id: String,
    /// Whether the kernel was built with it.
    pub enabled: bool,
    /// Parameters passed in, capabilities among them.
    pub inputs: Vec<Param>,
    /// Parameters passed back.
    pub outputs: Vec<Param>,
}

/// A parameter.
pub struct Param {
    /// Its name.
    pub name: String,
    /// Its C type.
    pub kind: String,
}

/// A C structure whose members are all words.
pub struct Struct {
    /// Its C name.
    pub name: String,
    /// The members, in the order of the message.
    pub members: Vec<String>,
}

/// The number of a method.
pub struct Label<'a> {
    /// As the C headers call it.
    pub name: &'a str,
    /// The message's label.
    pub number: usize,
}

impl Method {
    /// `Interface_Method(parameter:type,…)`.
    pub fn signature(&self) -> String {
        let inputs: Vec<String> = self.inputs.iter().map(|param| format!("{}:{}", param.name, param.kind)).collect();
        format!("{}_{}({})", self.interface, self.name, inputs.join(","))
    }
}

impl Api {
    /// Adds the contents of one file.
    pub fn add(&mut self, text: &str, config: &Config) -> Result<()> {
        let document = Document::parse(text)?;
        let named = |tag: &'static str| document.descendants().filter(move |node| node.has_tag_name(tag));
        for node in named("struct") {
            let members = elements(node, "member").map(|member| text_of(member, "name")).collect::<Result<_>>()?;
            self.structs.push(Struct { name: text_of(node, "name")?, members });
        }
        for interface in named("interface") {
            for node in elements(interface, "method") {
                self.methods.push(method(interface, node, config)?);
            }
        }
        Ok(())
    }

    /// The labels of the methods that exist.
    pub fn labels(&self) -> impl Iterator<Item = Label<'_>> {
        let enabled = self.methods.iter().filter(|method| method.enabled);
        enabled.zip(1..).map(|(method, number)| Label { name: &method.id, number })
    }

    /// Drops the members that a structure does not have in this configuration: the description lists the registers of
    /// 64-bit guests last, and the C structure ends before them where such guests are not supported.
    pub fn trim_structs(&mut self, size_in_bytes: impl Fn(&str) -> Option<usize>) {
        for it in &mut self.structs {
            it.members.truncate(size_in_bytes(&it.name).unwrap_or(0) / 8);
        }
    }

    /// Every C type that a method of this kernel mentions.
    pub fn type_names(&self) -> BTreeSet<String> {
        let enabled = self.methods.iter().filter(|method| method.enabled);
        enabled.flat_map(|method| method.inputs.iter().chain(&method.outputs)).map(|param| param.kind.clone()).collect()
    }
}

/// The invocations of the kernel at `prefix`.
pub fn read(prefix: &Prefix) -> Result<Api> {
    let mut api = Api::default();
    for path in prefix.interfaces() {
        api.add(&prefix::read(&path)?, &prefix.config).map_err(|why| format!("{}: {why}", path.display()))?;
    }
    Ok(api)
}

fn method(interface: Node, node: Node, config: &Config) -> Result<Method> {
    let mut method = Method {
        interface: text_of(interface, "name")?,
        name: text_of(node, "name")?,
        id: text_of(node, "id")?,
        enabled: config.enables(interface)? && config.enables(node)?,
        inputs: Vec::new(),
        outputs: Vec::new(),
    };
    for param in elements(node, "param") {
        let list = match param.attribute("dir") {
            Some("in") => &mut method.inputs,
            Some("out") => &mut method.outputs,
            other => {
                return Err(format!("{}: a parameter of direction {other:?}", method.id).into());
            }
        };
        list.push(Param { name: text_of(param, "name")?, kind: text_of(param, "type")? });
    }
    Ok(method)
}

fn elements<'a, 'b>(parent: Node<'a, 'b>, tag: &'static str) -> impl Iterator<Item = Node<'a, 'b>> {
    parent.children().filter(move |child| child.has_tag_name(tag))
}

fn text_of(node: Node, attribute: &str) -> Result<String> {
    let missing = || format!("<{}> without {attribute}", node.tag_name().name());
    Ok(node.attribute(attribute).ok_or_else(missing)?.to_string())
}
