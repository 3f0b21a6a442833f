//! System call numbers: -1, -2, … in the order of `syscall.xml`, those of disabled options included.

use roxmltree::Document;

use crate::{Config, Prefix, Result, prefix};

/// A system call of this kernel.
#[derive(Debug, PartialEq, Eq)]
pub struct Syscall {
    /// Its name, without `seL4_Sys`.
    pub name: String,
    /// Its number, negative.
    pub number: i64,
}

/// The system calls of a `syscall.xml` under a configuration.
pub fn parse(text: &str, config: &Config) -> Result<Vec<Syscall>> {
    let document = Document::parse(text)?;
    let api = if config.is_defined("KERNEL_MCS") { "api-mcs" } else { "api-master" };
    let sections =
        document.root_element().children().filter(|node| ["api", api, "debug"].contains(&node.tag_name().name()));
    let mut number = 0;
    let mut calls = Vec::new();
    for group in sections.flat_map(|section| section.children()).filter(|node| node.has_tag_name("config")) {
        let enabled = config.enables(group)?;
        for call in group.children().filter(|node| node.has_tag_name("syscall")) {
            // The kernel's generator numbers all calls of the file, including disabled ones.
            number -= 1;
            if enabled {
                let name = call.attribute("name").ok_or("a system call without a name")?.to_string();
                calls.push(Syscall { name, number });
            }
        }
    }
    Ok(calls)
}

/// The system calls that the kernel at `prefix` has.
pub fn read(prefix: &Prefix) -> Result<Vec<Syscall>> {
    parse(&prefix::read(&prefix.syscalls())?, &prefix.config)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LATER: &str = r#"<syscalls>
        <api-master><config><syscall name="Call"/><syscall name="Reply"/></config></api-master>
        <api-mcs><config><syscall name="Call"/><syscall name="Wait"/><syscall name="NBWait"/></config></api-mcs>
        <debug>
            <config><condition><config var="CONFIG_PRINTING"/></condition><syscall name="DebugPutChar"/></config>
            <config><condition><config var="CONFIG_VTX"/></condition><syscall name="VMEnter"/></config>
        </debug></syscalls>"#;

    fn names(config: &str) -> Vec<(String, i64)> {
        let mut options = Config::default();
        options.add_json(config).unwrap();
        parse(LATER, &options).unwrap().into_iter().map(|call| (call.name, call.number)).collect()
    }

    #[test]
    fn a_disabled_call_keeps_its_number() {
        assert_eq!(names(r#"{"VTX": true}"#), [("Call".into(), -1), ("Reply".into(), -2), ("VMEnter".into(), -4)]);
    }

    #[test]
    fn the_configuration_chooses_the_api() {
        let calls = names(r#"{"KERNEL_MCS": true, "PRINTING": true}"#);
        assert_eq!(calls.last(), Some(&("DebugPutChar".into(), -4)));
    }
}
