//! The costs of the same exits in two other VMMs for seL4, measured on the same emulator with release builds: the
//! CAmkES VM (camkes-3.12.0, seL4 15.0.0, `minimal`, 32 bits; `minimal_64` is within 3 %) and libvmm 0.2.0 (Microkit
//! 2.3.0, seL4 16.0.0, a 64-bit guest). The least of 2,000 rounds, by the guest's RDTSC. They run on other kernels than
//! ours; docs/performance.md says how much that matters.

/// A row's peers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    /// Our name for the row.
    pub row: &'static str,
    /// The CAmkES VM's ticks.
    pub camkes: Option<u64>,
    /// libvmm's ticks; `None` where it has no such exit.
    pub libvmm: Option<u64>,
}

impl Peer {
    /// The faster of the two.
    pub fn better(&self) -> Option<u64> {
        match (self.camkes, self.libvmm) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }
    }
}

/// All measured rows. MMIO is an access to the HPET.
pub const PEERS: [Peer; 11] = [
    peer("cpuid", 1_771, 1_761),
    peer("in_unhandled", 1_972, 1_914),
    peer("out_unhandled", 1_329, 1_903),
    camkes("uart_lsr", 1_890),
    peer("rtc", 1_887, 1_820),
    camkes("pic_mask", 1_902),
    camkes("pit_read", 3_386),
    camkes("pci_addr", 1_261),
    camkes("pci_data", 1_959),
    peer("mmio_read", 56_013, 3_012),
    peer("mmio_write", 59_722, 12_246),
];

const fn peer(row: &'static str, camkes: u64, libvmm: u64) -> Peer {
    Peer { row, camkes: Some(camkes), libvmm: Some(libvmm) }
}

const fn camkes(row: &'static str, camkes: u64) -> Peer {
    Peer { row, camkes: Some(camkes), libvmm: None }
}

/// The peers of a row.
pub fn of(row: &str) -> Option<&'static Peer> {
    PEERS.iter().find(|peer| peer.row == row)
}
