//! Generated bindings; the seL4 manual documents the names.

#![allow(missing_docs, non_camel_case_types, non_snake_case, non_upper_case_globals, reason = "the C headers' names")]
#![allow(clippy::all, unused_parens, reason = "generated")]

use crate::syscall::{get_mr, invoke, set_cap, set_mr};
use crate::{seL4_CPtr, seL4_Word};

include!(concat!(env!("OUT_DIR"), "/bindings.rs"));
