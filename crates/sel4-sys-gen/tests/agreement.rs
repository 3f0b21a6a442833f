//! The generated Rust and the kernel's own generated C headers, compared.
//!
//! Numbers are compared one by one. For functions, a C program and a Rust program are written that make the same
//! calls, with the same made-up arguments and the same made-up answers, and print what they sent and got: for every
//! bitfield function, and for every method. Their outputs must be the same.
//!
//! The seL4 is the one that `SEL4_PREFIX` names, or else the workspace's own.

use std::fmt::Write;
use std::path::Path;
use std::process::Command;
use std::{env, fs};

use sel4_sys_gen::bitfields::{self, Bitfields, Block};
use sel4_sys_gen::headers::Headers;
use sel4_sys_gen::interfaces::{self, Api, Method, Param};
use sel4_sys_gen::{Prefix, syscalls};

struct Kernel {
    prefix: Prefix,
    api: Api,
    fields: Bitfields,
    headers: Headers,
}

fn kernel() -> Kernel {
    let prefix = Prefix::from_env().expect("an installed seL4");
    let mut api = interfaces::read(&prefix).expect("the object API");
    let fields = bitfields::read(&prefix).expect("the bitfields");
    let headers = Headers::probe(&prefix, &api.type_names()).expect("the headers");
    api.trim_structs(|name| headers.sizes.get(name).copied());
    Kernel { prefix, api, fields, headers }
}

#[test]
fn system_call_numbers_are_those_of_the_c_headers() {
    let kernel = kernel();
    let calls = syscalls::read(&kernel.prefix).unwrap();
    for call in &calls {
        assert_eq!(
            kernel.headers.constants.get(&format!("seL4_Sys{}", call.name)),
            Some(&call.number),
            "{}",
            call.name
        );
    }
    let in_header = kernel.headers.constants.keys().filter(|name| name.starts_with("seL4_Sys")).count();
    assert_eq!(in_header, calls.len());
}

#[test]
fn invocation_labels_are_those_of_the_c_headers() {
    let kernel = kernel();
    for label in kernel.api.labels() {
        assert_eq!(kernel.headers.constants.get(label.name), Some(&(label.number as i64)), "{}", label.name);
    }
    let end = kernel.headers.constants["nArchInvocationLabels"];
    assert_eq!(kernel.api.labels().count() as i64 + 1, end);
}

#[test]
fn errors_objects_and_layouts_are_found() {
    let headers = kernel().headers;
    assert_eq!(headers.constants["seL4_InvalidArgument"], 1);
    assert!(headers.constants.contains_key("seL4_X86_4K"));
    assert!(headers.constants.contains_key("SEL4_VMENTER_FAULT_REASON_MR"));
    assert_eq!(headers.offsets["seL4_IPCBuffer_msg"], 8);
    assert!(headers.offsets.contains_key("seL4_BootInfo_untypedList"));
    assert!(headers.caps.contains("seL4_X86_EPTPML4"));
}

/// By it the memory types of EPTs are chosen; the method's own signature says nothing of them in the pinned kernel.
#[test]
fn constants_are_facts() {
    let bindings = sel4_sys_gen::generate(&kernel().prefix).expect("bindings");
    let memory_type = "seL4_X86_EPT_WriteBack".to_owned();
    assert_eq!(bindings.facts.contains(&memory_type), kernel().headers.constants.contains_key(&memory_type));
    assert!(bindings.facts.contains(&"seL4_InvalidArgument".to_owned()));
}

#[test]
fn bitfield_functions_do_what_the_c_ones_do() {
    let kernel = kernel();
    let mut both = Programs::new(&kernel);
    let in_union =
        |name: &str| kernel.fields.unions.values().any(|union| union.members.iter().any(|(member, _)| member == name));
    for (name, block) in kernel.fields.blocks.iter().filter(|(name, _)| !in_union(name)) {
        both.exercise_block(name, name, block, "");
    }
    for (name, union) in &kernel.fields.unions {
        for (member, _) in &union.members {
            both.exercise_block(name, &format!("{name}_{member}"), &kernel.fields.blocks[member], &union.tag);
        }
    }
    both.compare("bitfields");
}

#[test]
fn methods_send_and_receive_what_the_c_ones_do() {
    let kernel = kernel();
    let mut both = Programs::new(&kernel);
    for method in kernel.api.methods.iter().filter(|method| method.enabled) {
        both.exercise_method(method);
    }
    both.compare("methods");
}

/// The two programs' main functions, statement by statement.
struct Programs<'a> {
    kernel: &'a Kernel,
    c: String,
    rust: String,
    seed: u64,
}

/// What both sides need: answers made up from a counter, and a record of what is sent.
const C_START: &str = r#"
#include <stdio.h>
#include <sel4/types.h>
#include <sel4/invocation.h>
typedef unsigned long W;
static W mr[128], cap[3], turn;
static inline void seL4_SetMR(int i, W v) { mr[i] = v; }
static inline W seL4_GetMR(int i) { return mr[i]; }
static inline void seL4_SetCap(int i, W c) { cap[i] = c; }
static seL4_MessageInfo_t seL4_Call(W service, seL4_MessageInfo_t tag) {
    W length = seL4_MessageInfo_get_length(tag), caps = seL4_MessageInfo_get_extraCaps(tag);
    printf("call %lx %lx", service, tag.words[0]);
    for (W i = 0; i < length; i++) printf(" %lx", mr[i]);
    for (W i = 0; i < caps; i++) printf(" cap %lx", cap[i]);
    printf("\n");
    for (int i = 0; i < 64; i++) mr[i] = ++turn * 0x9e3779b97f4a7c15ul;
    return seL4_MessageInfo_new(0, 0, 0, 0);
}
static seL4_MessageInfo_t seL4_CallWithMRs(W service, seL4_MessageInfo_t tag, W *a, W *b, W *c, W *d) {
    mr[0] = *a; mr[1] = *b; mr[2] = *c; mr[3] = *d;
    tag = seL4_Call(service, tag);
    *a = mr[0]; *b = mr[1]; *c = mr[2]; *d = mr[3];
    return tag;
}
#include <interfaces/sel4_client.h>
int main(void) {
"#;

const RUST_START: &str = r#"
#![allow(warnings)]
type seL4_Word = u64;
type seL4_CPtr = u64;
static mut MR: [u64; 128] = [0; 128];
static mut CAP: [u64; 3] = [0; 3];
static mut TURN: u64 = 0;
fn set_mr(i: usize, v: u64) { unsafe { MR[i] = v } }
fn get_mr(i: usize) -> u64 { unsafe { MR[i] } }
fn set_cap(i: usize, v: u64) { unsafe { CAP[i] = v } }
fn invoke(service: u64, tag: seL4_MessageInfo_t, mrs: [u64; 4]) -> Result<[u64; 4], Error> {
    for i in 0..4 { set_mr(i, mrs[i]) }
    print!("call {service:x} {:x}", tag.words[0]);
    for i in 0..seL4_MessageInfo_get_length(tag) as usize { print!(" {:x}", get_mr(i)) }
    for i in 0..seL4_MessageInfo_get_extraCaps(tag) as usize { print!(" cap {:x}", unsafe { CAP[i] }) }
    println!();
    for i in 0..64 { unsafe { TURN += 1; MR[i] = TURN.wrapping_mul(0x9e3779b97f4a7c15) } }
    Ok(core::array::from_fn(|i| get_mr(i)))
}
include!("bindings.rs");
fn main() {
"#;

impl<'a> Programs<'a> {
    fn new(kernel: &'a Kernel) -> Self {
        Self { kernel, c: C_START.into(), rust: RUST_START.into(), seed: 0x7465_7374 }
    }

    /// A number below 2^`bits`.
    fn random(&mut self, bits: u32) -> u64 {
        self.seed ^= self.seed << 13;
        self.seed ^= self.seed >> 7;
        self.seed ^= self.seed << 17;
        self.seed >> (64 - bits)
    }

    /// Makes a value, then reads and changes each of its fields.
    fn exercise_block(&mut self, name: &str, stem: &str, block: &Block, tag: &str) {
        let fields: Vec<_> = block.fields.iter().filter(|field| field.name != tag).cloned().collect();
        for _ in 0..8 {
            let values: Vec<String> =
                fields.iter().map(|field| format!("{:#x}", self.random(field.bits) << field.shift)).collect();
            let arguments = values.join(", ");
            let words = block.bits.div_ceil(64);
            let c_words =
                |it: &str| (0..words).map(|word| format!("printf(\"%lx \", {it}.words[{word}]);")).collect::<String>();
            let rust_words = |it: &str| format!("for word in {it}.words {{ print!(\"{{word:x}} \") }}");
            writeln!(self.c, "{{ {name}_t it = {stem}_new({arguments}); {}", c_words("it")).unwrap();
            writeln!(self.rust, "{{ let it = {stem}_new({arguments}); {}", rust_words("it")).unwrap();
            if !tag.is_empty() {
                writeln!(self.c, "printf(\"tag %lx \", {name}_get_{tag}(it));").unwrap();
                writeln!(self.rust, "print!(\"tag {{:x}} \", {name}_get_{tag}(it));").unwrap();
            }
            for field in &fields {
                let value = self.random(field.bits) << field.shift;
                writeln!(self.c, "printf(\"{0} %lx \", {stem}_get_{0}(it)); {{ {name}_t to = {stem}_set_{0}(it, {value:#x}ul); {1} }}", field.name, c_words("to")).unwrap();
                writeln!(
                    self.rust,
                    "print!(\"{0} {{:x}} \", {stem}_get_{0}(it)); {{ let to = {stem}_set_{0}(it, {value:#x}); {1} }}",
                    field.name,
                    rust_words("to")
                )
                .unwrap();
            }
            writeln!(self.c, "printf(\"{stem}\\n\"); }}").unwrap();
            writeln!(self.rust, "println!(\"{stem}\"); }}").unwrap();
        }
    }

    /// Calls the method and prints its outputs.
    fn exercise_method(&mut self, method: &Method) {
        for _ in 0..4 {
            let service = format!("{:#x}", self.random(64));
            let (mut c_arguments, mut rust_arguments) = (vec![service.clone()], vec![service]);
            let registers = method.inputs.iter().chain(&method.outputs).find_map(|param| self.members(&param.kind));
            for param in &method.inputs {
                let (c, rust) = match registers {
                    // Later C functions pass only so many registers; the Rust ones always pass all.
                    Some(all) if param.name == "count" => (all.len().to_string(), all.len().to_string()),
                    _ => self.argument(param),
                };
                c_arguments.push(c);
                rust_arguments.push(rust);
            }
            self.call(method, c_arguments, rust_arguments);
        }
    }

    fn members(&self, kind: &str) -> Option<&'a [String]> {
        self.kernel.api.structs.iter().find(|it| it.name == kind).map(|it| it.members.as_slice())
    }

    fn is_packed(&self, kind: &str) -> bool {
        self.kernel.fields.type_names().iter().any(|name| name == kind)
    }

    fn argument(&mut self, param: &Param) -> (String, String) {
        let kind = &param.kind;
        if let Some(members) = self.members(kind) {
            let values: Vec<(String, u64)> = members.iter().map(|member| (member.clone(), self.random(64))).collect();
            let list = |colon: &str, dot: &str| {
                values
                    .iter()
                    .map(|(member, value)| format!("{dot}{member}{colon} {value:#x}"))
                    .collect::<Vec<_>>()
                    .join(", ")
            };
            return (format!("&({kind}){{ {} }}", list(" =", ".")), format!("&{kind} {{ {} }}", list(":", "")));
        }
        if self.is_packed(kind) {
            let value = self.random(64);
            return (format!("({kind}){{ {{ {value:#x} }} }}"), format!("{kind} {{ words: [{value:#x}] }}"));
        }
        if kind == "seL4_Bool" {
            let value = self.random(1);
            return (value.to_string(), (value == 1).to_string());
        }
        let value = self.random(8 * self.kernel.headers.sizes[kind] as u32);
        (format!("{value:#x}"), format!("{value:#x}"))
    }

    fn call(&mut self, method: &Method, mut c_arguments: Vec<String>, rust_arguments: Vec<String>) {
        let stem = format!("{}_{}", method.interface, method.name);
        let (by_reference, by_value): (Vec<&Param>, Vec<&Param>) =
            method.outputs.iter().partition(|param| self.members(&param.kind).is_some());
        let mut c_prints = String::new();
        let mut rust_prints = String::new();
        let rust_output = |param: &Param| {
            if method.outputs.len() == 1 { "out".to_string() } else { format!("out.{}", param.name) }
        };
        for param in &by_reference {
            write!(self.c, "{{ {} {}; ", param.kind, param.name).unwrap();
            c_arguments.push(format!("&{}", param.name));
            for member in self.members(&param.kind).unwrap_or_default() {
                write!(c_prints, "printf(\" %lx\", (W){}.{member});", param.name).unwrap();
                write!(rust_prints, "print!(\" {{:x}}\", {}.{member});", rust_output(param)).unwrap();
            }
        }
        for param in &by_value {
            write!(c_prints, "printf(\" %lx\", (W)result.{});", param.name).unwrap();
            write!(rust_prints, "print!(\" {{:x}}\", {} as u64);", rust_output(param)).unwrap();
        }
        let result = if by_value.is_empty() { "long".to_string() } else { format!("{stem}_t") };
        writeln!(
            self.c,
            "{{ {result} result = {stem}({});{c_prints} printf(\" {stem}\\n\"); }}",
            c_arguments.join(", ")
        )
        .unwrap();
        self.c.push_str(&"}\n".repeat(by_reference.len()));
        writeln!(
            self.rust,
            "{{ let out = {stem}({}).ok().unwrap();{rust_prints} println!(\" {stem}\"); }}",
            rust_arguments.join(", ")
        )
        .unwrap();
    }

    /// Compiles and runs both, and compares line by line.
    fn compare(mut self, name: &str) {
        self.c.push_str("return 0; }\n");
        self.rust.push_str("}\n");
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("it.c"), &self.c).unwrap();
        fs::write(folder.join("it.rs"), &self.rust).unwrap();
        fs::write(folder.join("bindings.rs"), sel4_sys_gen::generate(&self.kernel.prefix).unwrap().source).unwrap();
        let cc = env::var("CC").unwrap_or_else(|_| "cc".into());
        let include = self.kernel.prefix.include();
        run(Command::new(cc).args(["-w", "-O1", "-o", "c", "it.c", "-I"]).arg(include).current_dir(&folder));
        let rustc = env::var("RUSTC").unwrap_or_else(|_| "rustc".into());
        run(Command::new(rustc).args(["--edition=2024", "-o", "rust", "it.rs"]).current_dir(&folder));
        let c = run(&mut Command::new(folder.join("c")));
        let rust = run(&mut Command::new(folder.join("rust")));
        assert!(!c.is_empty());
        for (c, rust) in c.lines().zip(rust.lines()) {
            assert_eq!(c, rust, "C on the left");
        }
        assert_eq!(c.lines().count(), rust.lines().count());
    }
}

fn run(command: &mut Command) -> String {
    let done = command.output().unwrap_or_else(|why| panic!("{command:?}: {why}"));
    assert!(done.status.success(), "{command:?}\n{}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8(done.stdout).unwrap()
}
