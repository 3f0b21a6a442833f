//! The rows of two VMs at a switch: TCP from one to the other beside TCP inside one, a byte there and back, and in bulk.

use miette::{Result, ensure};

use super::row::{BULK_EXITS, Row, Rows, Unit};
use super::script::{self, DEBIAN, Hardware, Job, Platform};
use crate::test::Context;

/// TCP inside a VM, then this many transfers from one VM to another (net.c).
///
/// The emulated processor is slow, so a round trip takes two milliseconds by its clock, and Linux makes small segments for
/// such a path. `tcp_min_tso_segs` has it make those of 64 KiB, as it does by itself on a processor of today.
macro_rules! network {
    ($transfers:literal) => {
        concat!(
            "echo 44 > /proc/sys/net/ipv4/tcp_min_tso_segs\n\
             case $(cat /proc/cmdline) in\n\
             *ip=10.0.0.2/*) /net serve ;;\n\
             *) /net serve & /net 7f000001 loopback 5; /net 7f000001 quit\n\
             /net 0a000002 vm ",
            $transfers,
            "; /net 0a000002 quit ;;\nesac"
        )
    };
}

/// The two boots differ by this many transfers, each of [`TRANSFER`].
const FURTHER: u64 = 4;
/// Bytes of a transfer.
const TRANSFER: u64 = 4 << 20;

/// Two VMs at a switch, twice: what exits are a transfer's, the difference tells.
const NETWORKS: [Job; 2] = [
    Job { name: "bench-network", debian: DEBIAN, script: network!(5), needs: Hardware::Peer, place: Platform::Vm },
    Job {
        name: "bench-network-further",
        debian: DEBIAN,
        script: network!(9),
        needs: Hardware::Peer,
        place: Platform::Vm,
    },
];

/// Measures them.
pub fn measure(context: &Context) -> Result<Rows> {
    let [network, further] = script::run(context, NETWORKS)?;
    let mut rows = Rows::printed(&network.console);
    ensure!(rows.0.len() == 4, "the script did not measure everything:\n{}", network.console);
    let exits = script::exits(&further.console)?.saturating_sub(script::exits(&network.console)?);
    rows.0.push(Row::single(BULK_EXITS, exits * (1 << 20) / (FURTHER * TRANSFER), Unit::Exits));
    Ok(rows)
}
