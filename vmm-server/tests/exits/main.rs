//! Made-up exits through the whole of the VMM but the kernel: the VMCS is a map, the guest's memory a vector. Exit reasons
//! and qualifications are written here as numbers from the SDM (volume 3, Appendix C and "Exit Qualification").

mod acpi;
mod anything;
mod apic;
mod control;
mod cpu;
mod debug;
mod entry;
mod events;
mod fake;
mod hypercalls;
mod instructions;
mod long;
mod memory;
mod message;
mod moves;
mod msi;
mod native;
mod operand;
mod passthrough;
mod ports;
mod reference;
mod steps;
mod strings;
mod task;
