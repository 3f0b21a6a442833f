//! I/O ports that a guest may use without an exit.

use alloc::vec::Vec;

use sel4::{Error, cap};

use crate::bench::{Bench, SELF, VCPU_BITS, delete, remake, revoke};
use crate::check::{Check, Outcome, PINNED, Seen, expect};
use crate::guest::{Guest, HALT, reason};

/// The checks of this file.
pub const CHECKS: &[Check] = &[
    Check { defect: "port-range", name: "a range of ports may end at 0xffff", run: a_range_may_end_at_ffff },
    Check { defect: "ports", name: "a port enabled before the first entry is open", run: an_enabled_port_is_open },
    Check {
        defect: "ports",
        name: "a port deleted before the first entry is closed",
        run: deleted_before_the_first_entry,
    },
    Check { defect: "ports", name: "a port deleted later is closed", run: deleted_later },
    Check { defect: "former-vcpus", name: "deleting a port leaves a former VCPU's memory alone", run: former_vcpu },
    Check { defect: "former-vcpus", name: "deleting ports of former VCPUs leaves another's open", run: former_vcpus },
    Check { defect: "lent-ports", name: "ports that were lent can be taken back", run: lent_ports },
    Check { defect: "lent-ports", name: "ports that were lent are closed for a guest, too", run: lent_to_a_guest },
    Check { defect: "lent-ports", name: "the same ports given out twice are apart", run: given_out_twice },
];

/// `out 0x80, al; hlt`. No device uses this port.
const OUT: [u8; 3] = [0xe6, 0x80, 0xf4];
const PORT: u16 = 0x80;

/// A guest that has exited at the port once: whether ports enabled before the first entry are closed again (0011) is not
/// what the check asks for.
fn entered_once(bench: &mut Bench) -> Result<Guest, Seen> {
    let guest = Guest::new(bench, &OUT)?;
    expect("reason of the first exit", guest.enter(0).reason, reason::PORT)?;
    Ok(guest)
}

/// 0010: the kernel would loop for ever.
fn a_range_may_end_at_ffff(bench: &mut Bench) -> Outcome {
    let guest = Guest::new(bench, &HALT)?;
    expect("the end of all ports", guest.vcpu.vcpu_disable_io_port(0xfff0, 0xffff), Ok(()))?;
    expect("all ports", guest.vcpu.vcpu_disable_io_port(0, 0xffff), Ok(()))?;
    expect("reason of the exit", guest.enter(0).reason, reason::HLT)
}

/// 0011: the reference for the other checks.
fn an_enabled_port_is_open(bench: &mut Bench) -> Outcome {
    let guest = Guest::new(bench, &OUT)?;
    let port = bench.ports(PORT, PORT)?;
    guest.vcpu.vcpu_enable_io_port(port, PORT, PORT)?;
    expect("reason of the exit", guest.enter(0).reason, reason::HLT)
}

/// 0011: the kernel closes ports by the VPID, which a VCPU used to get only at its first entry.
fn deleted_before_the_first_entry(bench: &mut Bench) -> Outcome {
    let guest = Guest::new(bench, &OUT)?;
    let port = bench.ports(PORT, PORT)?;
    guest.vcpu.vcpu_enable_io_port(port, PORT, PORT)?;
    delete(port)?;
    expect("reason of the exit", guest.enter(0).reason, reason::PORT)
}

/// 0011: of a guest that has run.
fn deleted_later(bench: &mut Bench) -> Outcome {
    let guest = Guest::new(bench, &OUT)?;
    let port = bench.ports(PORT, PORT)?;
    guest.vcpu.vcpu_enable_io_port(port, PORT, PORT)?;
    expect("reason of the exit with the capability", guest.enter(0).reason, reason::HLT)?;
    delete(port)?;
    expect("reason of the exit without", guest.enter(0).reason, reason::PORT)
}

/// 0009: a port's capability refers to the VCPU by its VPID, which must not lead to the VCPU's retyped memory.
fn former_vcpu(bench: &mut Bench) -> Outcome {
    let memory = bench.memory(VCPU_BITS)?;
    let vcpu = bench.make_of(memory)?;
    let guest = Guest::with(bench, vcpu, SELF, &HALT)?;
    expect("reason of the exit", guest.enter(0).reason, reason::HLT)?;
    let ports = bench.ports(0x80, 0x8f)?;
    guest.vcpu.vcpu_enable_io_port(ports, 0x80, 0x8f)?;
    drop(guest);
    let frames = bench.frames_of(memory)?;
    delete(ports)?;
    expect("bytes written to frames that were a VCPU", bench.used_bytes(&frames)?, 0)
}

/// 0044: of so many former VCPUs that one of them had the number that the last one has.
fn former_vcpus(bench: &mut Bench) -> Outcome {
    let memory = bench.memory(VCPU_BITS)?;
    let vcpu = cap::VCpu::from_cptr(bench.empty_slot());
    let mut former = Vec::new();
    let ports = bench.ports(PORT, PORT)?;
    for _ in 0..sel4_config::MAX_VPIDS {
        remake(vcpu, memory)?;
        let port = bench.copy(ports)?;
        vcpu.vcpu_enable_io_port(port, PORT, PORT)?;
        delete(vcpu)?;
        former.push(port);
    }
    let guest = entered_once(bench)?;
    let port = bench.copy(ports)?;
    guest.vcpu.vcpu_enable_io_port(port, PORT, PORT)?;
    former.into_iter().try_for_each(delete)?;
    expect("reason of the exit", guest.enter(0).reason, reason::HLT)?;
    delete(port)?;
    expect("reason of the exit without the capability", guest.enter(0).reason, reason::PORT)
}

/// 0028: revoking a capability deletes its copies, but not itself.
fn lent_ports(bench: &mut Bench) -> Outcome {
    let ports = bench.ports(PORT, PORT + 7)?;
    let copy = bench.copy(ports)?;
    expect("the copy", copy.ioport_out8(PORT, 0), Ok(()))?;
    revoke(ports)?;
    expect("the revoked copy", copy.ioport_out8(PORT, 0), Err(Error::InvalidCapability))?;
    expect("the original", ports.ioport_out8(PORT, 0), Ok(()))
}

/// 0028 and 0011.
fn lent_to_a_guest(bench: &mut Bench) -> Outcome {
    let guest = entered_once(bench)?;
    let port = bench.ports(PORT, PORT)?;
    guest.vcpu.vcpu_enable_io_port(bench.copy(port)?, PORT, PORT)?;
    expect("reason of the exit with the capability", guest.enter(0).reason, reason::HLT)?;
    revoke(port)?;
    expect("reason of the exit without", guest.enter(0).reason, reason::PORT)
}

/// 0028: in the kernel's derivation list the later one precedes the earlier one, as a child would.
fn given_out_twice(bench: &mut Bench) -> Outcome {
    let earlier = bench.ports(PORT, PORT)?;
    let later = match bench.ports(PORT, PORT) {
        Ok(later) => later,
        // Since 10.0.0 the kernel issues a port once.
        Err(_) if !PINNED => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    revoke(later)?;
    expect("the earlier one", earlier.ioport_out8(PORT, 0), Ok(()))
}
