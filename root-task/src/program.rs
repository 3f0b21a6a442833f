//! Phase 4, threads: gives each its CSpace, VSpace, priority, notification and, for a vmm-server, its guest; and starts it
//! at its entry with an empty stack.

use alloc::format;

use capdl_spec::spec::Process;
use layout::slot;
use sel4::{CNodeCapData, CPtr, UserContext, cap::cap_type, init_thread};

use crate::{Context, Failure, objects::Objects};

/// Everything but the registers.
pub fn configure(objects: &Objects, process: &Process) -> Result<(), Failure> {
    let tcb = objects.cap::<cap_type::Tcb>(process.tcb);
    let name = |what| move || format!("{}: {what}", process.name);
    tcb.tcb_configure(
        CPtr::from_bits(slot::FAULT.cptr()),
        objects.cap(process.cspace),
        CNodeCapData::new(0, process.guard_bits),
        objects.cap(process.vspace),
        process.ipc_buffer_at,
        objects.cap(process.ipc_buffer),
    )
    .context(name("spaces"))?;
    let authority = init_thread::slot::TCB.cap();
    tcb.tcb_set_mc_priority(authority, process.priority).context(name("maximum priority"))?;
    tcb.tcb_set_priority(authority, process.priority).context(name("priority"))?;
    if let Some(events) = process.events {
        tcb.tcb_bind_notification(objects.cap(events)).context(name("notification"))?;
    }
    if let Some((vcpu, ept)) = process.guest {
        tcb.tcb_set_ept_root(objects.cap(ept)).context(name("guest memory"))?;
        objects.cap::<cap_type::VCpu>(vcpu).vcpu_set_tcb(tcb).context(name("virtual CPU"))?;
    }
    sel4::debug_name_thread(tcb, &process.name);
    Ok(())
}

/// Sets it off from its first instruction.
pub fn start(objects: &Objects, process: &Process) -> Result<(), Failure> {
    let mut registers = UserContext::default();
    *registers.pc_mut() = process.entry;
    *registers.sp_mut() = process.stack;
    objects
        .cap::<cap_type::Tcb>(process.tcb)
        .tcb_write_all_registers(true, &registers)
        .context(|| format!("{}: start", process.name))
}
