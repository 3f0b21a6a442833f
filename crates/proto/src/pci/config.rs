//! What pci-server finds at its start: who has which function and which ports.

use heapless::Vec;
use layout::{
    Bdf,
    config::{Name, Ports},
    limits::{
        MAX_CLIENTS, MAX_FUNCTION_LINES, MAX_FUNCTION_MEMORY, MAX_FUNCTION_PORTS, MAX_PCI_FUNCTIONS, MAX_PCI_PORTS,
    },
};
use serde::{Deserialize, Serialize};

/// What pci-server finds at its start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Config {
    /// Ports 0xcf8 to 0xcff.
    pub config: Ports,
    /// Clients; the endpoint's badge is the position, and `event::client` of it says that the client was stopped.
    pub clients: Vec<PciClient, MAX_CLIENTS>,
    /// Functions with an owner.
    pub functions: Vec<PciFunction, MAX_PCI_FUNCTIONS>,
    /// Ports with an owner that belong to no function.
    pub ports: Vec<PciPorts, MAX_PCI_PORTS>,
    /// Where INTA to INTD arrive.
    pub intx: Intx,
}

/// What one client of pci-server may do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PciClient {
    /// The client's name, for the log.
    pub name: Name,
    /// May list all functions of the machine (identity and resources, no access).
    pub enumerate: bool,
}

/// A function and who has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PciFunction {
    /// The client: its position.
    pub owner: u8,
    /// Its name in the description, or its address.
    pub name: Name,
    /// Where it is.
    pub at: Bdf,
    /// Ports and memory are handed over; else each access is a call.
    pub direct: bool,
    /// May it become bus master?
    pub dma: Dma,
    /// It may be bus master although its group has functions of other owners.
    pub group_trusted: bool,
    /// Its lines at irq-server. Those without a route there get one from pci-server; the first may be that of its messages even if
    /// it has one. None: the function does not interrupt.
    pub lines: Vec<u8, MAX_FUNCTION_LINES>,
    /// The first line has a route there, from the description.
    pub has_route: bool,
    /// The ports that the description lists, first and last; `None` if it lists none, and what is found holds.
    pub ports: Option<Vec<(u16, u16), MAX_FUNCTION_PORTS>>,
    /// The memory that the description lists, physical address and bytes; `None` as above.
    pub memory: Option<Vec<(u64, u64), MAX_FUNCTION_MEMORY>>,
}

/// What a function may do to memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Dma {
    /// Nothing: bus mastering stays off.
    No,
    /// Anything: the description trusts it.
    Trusted,
    /// What its I/O address space holds, which exists before any process runs.
    Domain,
}

/// Ports that one client has without a function.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PciPorts {
    /// The client: its position.
    pub owner: u8,
    /// Its name in the description.
    pub name: Name,
    /// First port.
    pub first: u16,
    /// Last port, inclusive.
    pub last: u16,
    /// The description trusts the owner with ports of the mainboard ([`layout::mainboard::takes_trust`]).
    pub trusted: bool,
}

/// How a board's PCI interrupts arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Intx {
    /// At inputs `base` to `base + 3` of the first I/O APIC: `base + (device + pin + add) % 4`, pin 1 is INTA.
    Swizzle {
        /// First of the four inputs.
        base: u8,
        /// See above.
        add: u8,
    },
    /// As on QEMU's Q35 board.
    Q35,
    /// As the board is wired, which only its firmware's ACPI tables say. Never guessed: the interrupt line register has an input
    /// of the 8259.
    Unknown,
}
