//! Phase 4, threads: gives each its CSpace, VSpace, priority, notification and, for a vmm-server, a virtual CPU of its
//! guest. Then starts it at its process's entry with an empty stack.

use alloc::format;

use capdl_spec::spec::{Process, Thread};
use layout::slot;
use sel4::{CNodeCapData, CPtr, UserContext, cap::cap_type, init_thread};

use crate::{Context, Failure, objects::Objects};

/// Configures everything but the registers.
pub fn configure(objects: &Objects, process: &Process) -> Result<(), Failure> {
    process.threads.iter().enumerate().try_for_each(|(number, thread)| configure_one(objects, process, number, thread))
}

fn configure_one(objects: &Objects, process: &Process, number: usize, thread: &Thread) -> Result<(), Failure> {
    let tcb = objects.cap::<cap_type::Tcb>(thread.tcb);
    let name = |what| move || format!("{}: {what}", process.name);
    tcb.tcb_configure(
        CPtr::from_bits(slot::FAULT.cptr()),
        objects.cap(process.cspace),
        CNodeCapData::new(0, process.guard_bits),
        objects.cap(process.vspace),
        thread.ipc_buffer_at,
        objects.cap(thread.ipc_buffer),
    )
    .context(name("spaces"))?;
    // The kernel sets priorities up to the maximum of the thread that is named as authority: root-task has the highest.
    let authority = init_thread::slot::TCB.cap();
    tcb.tcb_set_mc_priority(authority, process.priority).context(name("maximum priority"))?;
    tcb.tcb_set_priority(authority, process.priority).context(name("priority"))?;
    if let Some(events) = thread.events {
        tcb.tcb_bind_notification(objects.cap(events)).context(name("notification"))?;
    }
    if let (Some(vcpu), Some(ept)) = (thread.vcpu, process.ept) {
        tcb.tcb_set_ept_root(objects.cap(ept)).context(name("guest memory"))?;
        objects.cap::<cap_type::VCpu>(vcpu).vcpu_set_tcb(tcb).context(name("virtual CPU"))?;
    }
    match number {
        0 => sel4::debug_name_thread(tcb, &process.name),
        _ => sel4::debug_name_thread(tcb, &format!("{}.{number}", process.name)),
    }
    Ok(())
}

/// Starts its threads at the process's entry.
pub fn start(objects: &Objects, process: &Process) -> Result<(), Failure> {
    process.threads.iter().try_for_each(|thread| {
        let mut registers = UserContext::default();
        *registers.pc_mut() = process.entry;
        *registers.sp_mut() = thread.stack;
        objects
            .cap::<cap_type::Tcb>(thread.tcb)
            .tcb_write_all_registers(true, &registers)
            .context(|| format!("{}: start", process.name))
    })
}

/// Suspends its threads. The kernel only refuses capabilities that are not to threads, so errors are ignored.
pub fn stop(objects: &Objects, process: &Process) {
    for thread in &process.threads {
        let _ = objects.cap::<cap_type::Tcb>(thread.tcb).tcb_suspend();
    }
}
