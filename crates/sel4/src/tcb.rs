//! Threads (seL4 manual, chapter 6).

use crate::{CNodeCapData, CPtr, Result, Word, cap, cptr::cap_data, sys};

/// A thread's registers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UserContext(sys::seL4_UserContext);

impl UserContext {
    /// The number of registers.
    const COUNT: Word = (sys::sizeof_seL4_UserContext / 8) as Word;

    /// The registers by name.
    pub fn inner(&self) -> &sys::seL4_UserContext {
        &self.0
    }

    /// The registers by name, to set.
    pub fn inner_mut(&mut self) -> &mut sys::seL4_UserContext {
        &mut self.0
    }

    /// The instruction pointer.
    pub fn pc_mut(&mut self) -> &mut Word {
        &mut self.0.rip
    }

    /// The stack pointer.
    pub fn sp_mut(&mut self) -> &mut Word {
        &mut self.0.rsp
    }
}

impl cap::Tcb {
    /// Gives the thread its fault endpoint (an address in the thread's own CSpace), CSpace, address space and IPC
    /// buffer: the frame's capability and where the frame is mapped.
    pub fn tcb_configure(
        self,
        fault_ep: CPtr,
        cspace_root: cap::CNode,
        cspace_root_data: CNodeCapData,
        vspace_root: cap::VSpace,
        ipc_buffer: Word,
        ipc_buffer_frame: cap::Granule,
    ) -> Result<()> {
        self.tcb_set_space(fault_ep, cspace_root, cspace_root_data, vspace_root)?;
        self.tcb_set_ipc_buffer(ipc_buffer, ipc_buffer_frame)
    }

    /// Gives the thread its fault endpoint (an address in the thread's own CSpace), CSpace and address space.
    pub fn tcb_set_space(
        self,
        fault_ep: CPtr,
        cspace_root: cap::CNode,
        cspace_root_data: CNodeCapData,
        vspace_root: cap::VSpace,
    ) -> Result<()> {
        sys::seL4_TCB_SetSpace(
            self.bits(),
            fault_ep.bits(),
            cspace_root.bits(),
            cap_data(cspace_root_data.into_word()),
            vspace_root.bits(),
            cap_data(0),
        )
    }

    /// Gives the thread an IPC buffer: where it is in its address space, and the frame it is in.
    pub fn tcb_set_ipc_buffer(self, address: Word, frame: cap::Granule) -> Result<()> {
        sys::seL4_TCB_SetIPCBuffer(self.bits(), address, frame.bits())
    }

    /// Sets the priority, up to what `authority` may give.
    pub fn tcb_set_priority(self, authority: cap::Tcb, priority: u8) -> Result<()> {
        #[cfg(priority_authority)]
        return sys::seL4_TCB_SetPriority(self.bits(), authority.bits(), priority.into());
        #[cfg(not(priority_authority))]
        {
            // Kernels before 9.0.0 always take the caller's own authority.
            let _ = authority;
            sys::seL4_TCB_SetPriority(self.bits(), priority)
        }
    }

    /// Sets the highest priority that the thread may give.
    pub fn tcb_set_mc_priority(self, authority: cap::Tcb, priority: u8) -> Result<()> {
        #[cfg(priority_authority)]
        return sys::seL4_TCB_SetMCPriority(self.bits(), authority.bits(), priority.into());
        #[cfg(not(priority_authority))]
        {
            let _ = authority;
            sys::seL4_TCB_SetMCPriority(self.bits(), priority)
        }
    }

    /// Reads the registers of another thread, after suspending it if `suspend` is set.
    pub fn tcb_read_all_registers(self, suspend: bool) -> Result<UserContext> {
        sys::seL4_TCB_ReadRegisters(self.bits(), suspend, 0, UserContext::COUNT).map(UserContext)
    }

    /// Sets the registers of another thread, and resumes it if `resume` is set. The kernel refuses the caller's own.
    pub fn tcb_write_all_registers(self, resume: bool, registers: &UserContext) -> Result<()> {
        sys::seL4_TCB_WriteRegisters(self.bits(), resume, 0, UserContext::COUNT, &registers.0)
    }

    /// Resumes the thread.
    pub fn tcb_resume(self) -> Result<()> {
        sys::seL4_TCB_Resume(self.bits())
    }

    /// Suspends the thread.
    pub fn tcb_suspend(self) -> Result<()> {
        sys::seL4_TCB_Suspend(self.bits())
    }

    /// Binds `notification` to the thread: its signals end the thread's waits for messages and its VM entries.
    pub fn tcb_bind_notification(self, notification: cap::Notification) -> Result<()> {
        sys::seL4_TCB_BindNotification(self.bits(), notification.bits())
    }
}
