//! The known defects (`capdl_spec::defects`) of a kernel.

pub mod boots;
