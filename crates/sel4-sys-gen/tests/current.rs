//! Generation from interface files of a current release's shape. `tests/current` has a few made-up entries of each kind; no
//! current kernel is needed.

use std::path::{Path, PathBuf};
use std::{env, fs};

use sel4_sys_gen::{Bindings, Prefix, Release, Result, generate};

/// A prefix with the fixture's files and a configuration. Removed when it is dropped.
struct Fixture(PathBuf);

impl Fixture {
    /// `name` makes it unique; `on` are the options that are on.
    fn new(name: &str, on: &[&str]) -> Self {
        let root = env::temp_dir().join(format!("sel4-sys-gen-{name}-{}", std::process::id()));
        let include = root.join("libsel4/include");
        let _ = fs::remove_dir_all(&root);
        copy(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/current"), &include);
        let options: Vec<String> = on.iter().map(|name| format!("\"{name}\": true")).collect();
        // A current release has its numbers in strings.
        let json = format!("{{ \"ROOT_CNODE_SIZE_BITS\": \"18\", \"IOMMU\": false, {} }}", options.join(", "));
        let header: String = on.iter().map(|name| format!("#define CONFIG_{name} 1\n")).collect();
        fs::create_dir_all(include.join("kernel")).unwrap();
        fs::write(include.join("kernel/gen_config.json"), json).unwrap();
        fs::write(include.join("kernel/gen_config.h"), header).unwrap();
        Self(root)
    }

    fn open(&self) -> Result<Prefix> {
        Prefix::open(self.0.clone())
    }

    fn generate(&self) -> Bindings {
        generate(&self.open().unwrap()).unwrap()
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}

fn expect(bindings: &Bindings, lines: &[&str]) {
    for line in lines {
        assert!(bindings.source.contains(line), "no `{line}` in:\n{}", bindings.source);
    }
}

#[test]
fn numbers_follow_the_configuration() {
    let bindings = Fixture::new("release", &["VTX"]).generate();
    expect(
        &bindings,
        &[
            // Disabled system calls count, disabled methods do not.
            "pub const seL4_SysYield: seL4_Word = -2_i64",
            "pub const seL4_SysVMEnter: seL4_Word = -4_i64",
            "pub const TCBSetFlags: seL4_Word = 2;",
            "pub const X86VCPUWriteRegisters: seL4_Word = 5;",
        ],
    );
    assert!(!bindings.source.contains("seL4_SysDebugHalt"));
    assert!(
        bindings.facts.contains(
            &"seL4_X86_IOPortControl_Issue(first_port:seL4_Word,root:seL4_CNode,depth:seL4_Uint8)".to_owned()
        )
    );
    let debug = Fixture::new("debug", &["VTX", "DEBUG_BUILD"]).generate();
    expect(&debug, &["pub const seL4_SysDebugHalt: seL4_Word = -3_i64"]);
}

#[test]
fn registers_of_64_bit_guests_are_there_where_such_guests_are() {
    for (name, options, words, end) in
        [("guests32", &["VTX"][..], 2, 3), ("guests64", &["VTX", "X86_64_VTX_64BIT_GUESTS"][..], 4, 5)]
    {
        let bindings = Fixture::new(name, options).generate();
        let size = format!("pub const sizeof_seL4_VCPUContext: usize = {};", words * 8);
        let last = format!("pub const SEL4_VMENTER_RESULT_FAULT_LEN: seL4_Word = {end}_i64");
        expect(&bindings, &[&size, &last, "pub ebx: seL4_Word"]);
        assert_eq!(bindings.source.contains("pub r9: seL4_Word"), words == 4);
    }
}

#[test]
fn a_kernel_without_vtx_has_bindings_without_guests() {
    let bindings = Fixture::new("novtx", &["PRINTING"]).generate();
    expect(&bindings, &["pub const X86IOPortControlIssue: seL4_Word = 4;", "pub const seL4_PageBits"]);
    for absent in ["seL4_SysVMEnter", "SEL4_VMENTER_RESULT_FAULT_LEN", "X86VCPUWriteRegisters"] {
        assert!(!bindings.source.contains(absent), "{absent} in:\n{}", bindings.source);
    }
}

#[test]
fn the_mcs_scheduler_is_refused_with_the_setting_to_change() {
    let error = Fixture::new("mcs", &["VTX", "KERNEL_MCS"]).open().err().unwrap().to_string();
    assert!(error.contains("has the MCS scheduler") && error.ends_with("KernelIsMCS=OFF"), "{error}");
}

#[test]
fn the_interface_tells_the_release() {
    let fixture = Fixture::new("version", &["VTX"]);
    let release = || Release::of(&fixture.open().unwrap()).unwrap();
    assert_eq!(release(), Release::Since16);
    fs::write(fixture.0.join("libsel4/include/sel4/sel4_arch/constants.h"), "#define seL4_UserTop 1").unwrap();
    assert_eq!(release(), Release::V15);
    fs::write(fixture.0.join("libsel4/include/interfaces/object-api.xml"), "<api/>").unwrap();
    assert_eq!(release(), Release::Before15);
    fs::write(fixture.0.join("PORTCULLIS"), "version = 5.0.0").unwrap();
    assert_eq!(release(), Release::Pinned);
}
