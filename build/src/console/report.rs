//! Finds root-task's reports of failures: lines `root-task: failed: WHO: WHY`.
//!
//! A guest cannot forge such a line about others: with more than one console, serial-server puts a name before each
//! line. A guest alone on the console can only make its own run fail. It cannot turn a failure into a success, since
//! root-task's write to the power-off port decides that (see `Ending`).

/// The beginning of root-task's lines.
const MARK: &str = "root-task: failed: ";

/// The failures in the output so far, a sentence each. An incomplete line does not count.
pub fn failures(printed: &[u8]) -> Vec<String> {
    let lines = printed.split_inclusive(|byte| *byte == b'\n').filter_map(|line| line.strip_suffix(b"\n"));
    let said = lines.filter_map(|line| line.strip_prefix(MARK.as_bytes()));
    said.map(|line| sentence(String::from_utf8_lossy(line).trim_end())).collect()
}

/// A VM is named as in the description; its process is `vmm-NAME`.
fn sentence(said: &str) -> String {
    match said.split_once(": ") {
        Some((who, why)) if !who.contains(' ') => match who.strip_prefix("vmm-") {
            Some(vm) => format!("the VM `{vm}` failed: {why}"),
            None => format!("`{who}` failed: {why}"),
        },
        _ => said.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vm_is_named_as_in_its_description() {
        let printed =
            b"vmm-x: error: x: no\r\n\r\nroot-task: failed: vmm-x: kernel: a 64-bit kernel\r\nroot-task: started\r\n";
        assert_eq!(failures(printed), ["the VM `x` failed: kernel: a 64-bit kernel"]);
    }

    #[test]
    fn other_processes_and_the_whole_system_may_fail_too() {
        let printed =
            b"root-task: failed: pci-server: it faulted\r\nroot-task: failed: the system was not started: x: no\r\n";
        assert_eq!(failures(printed), ["`pci-server` failed: it faulted", "the system was not started: x: no"]);
    }

    #[test]
    fn half_a_line_and_a_guests_line_are_none() {
        assert!(failures(b"root-task: failed: vmm-x: ker").is_empty());
        assert!(failures(b"first: root-task: failed: vmm-second: x\r\n\rroot-task: failed: a: b\r\n").is_empty());
    }
}
