//! The guest's memory by linear address, for instructions that the VMM emulates: through the guest's own page tables,
//! with its own rights, to RAM or to the board's devices.
//!
//! A walk that fails would be a page fault. The kernel gives a VMM no access to CR2, so the guest gets #GP instead
//! (decision 0007). The processor has checked the operand before it exited, so a walk fails only for a page that was
//! unmapped in between, or for a second operand.

use arch::{Mode, Width};
use vtx::{
    cr::cr0,
    exit::Cr,
    vmcs::{Vmcs, VmcsField},
};

use crate::{
    guest::Guest,
    insn::{AddressSpace, Segment},
    paging::{EntrySize, Intent, PageFault, Root, translate},
    time::Present,
    vcpu::debug::Watch,
};

const PAGE: u64 = 4096;

/// Linear memory as the guest maps it at one exit.
pub struct Linear<'a, 'b, V> {
    guest: &'a mut Guest<'b, V>,
    now: Present<'a>,
    root: Root,
    user: bool,
    mode: Mode,
}

impl<'a, 'b, V: Vmcs> Linear<'a, 'b, V> {
    /// The memory of `guest`, whose view of its control registers is up to date.
    pub fn new(guest: &'a mut Guest<'b, V>, now: Present<'a>) -> Self {
        let root = Root {
            paging: guest.cpu.control.paging(),
            cr3: guest.cpu.control.read(Cr::Cr3),
            write_protect: guest.cpu.control.read(Cr::Cr0) & cr0::WP != 0,
        };
        let user = guest.cpu.privilege() == 3;
        let mode = guest.cpu.pointers();
        Self { guest, now, root, user, mode }
    }

    /// The same with supervisor rights, as the processor uses for descriptor tables and TSSs.
    pub fn system(guest: &'a mut Guest<'b, V>, now: Present<'a>) -> Self {
        Self { user: false, ..Self::new(guest, now) }
    }

    /// The word at `linear`, if it is in RAM. Reads no device.
    pub fn peek(&self, linear: u64) -> Option<u32> {
        self.guest.vm.ram.read_u32(self.physical(linear, false).ok()?).ok()
    }

    /// The guest whose memory it is.
    pub fn guest(&mut self) -> &mut Guest<'b, V> {
        self.guest
    }

    /// Copies code at `linear` to `into`; returns how many bytes there are before the first page that is not there.
    pub fn fetch(&self, linear: u64, into: &mut [u8]) -> usize {
        let mut done = 0;
        while let Some(rest) = into.get_mut(done..).filter(|rest| !rest.is_empty()) {
            let at = linear.wrapping_add(done as u64);
            let here = rest.len().min((PAGE - at % PAGE) as usize);
            let Ok(gpa) = self.physical(at, false) else { break };
            if rest.get_mut(..here).is_none_or(|bytes| self.guest.vm.ram.read(gpa, bytes).is_err()) {
                break;
            }
            done += here;
        }
        done
    }

    /// The guest-physical address of `linear`, if the guest may read there, or write.
    pub fn locate(&self, linear: u64, write: bool) -> Result<u64, PageFault> {
        self.physical(linear, write)
    }

    /// Whether a write at `linear` would be allowed.
    pub fn probe(&self, linear: u64, width: Width) -> Result<(), PageFault> {
        self.physical(linear, true)?;
        self.physical(linear.wrapping_add(width.bytes() as u64 - 1), true).map(|_| ())
    }

    fn physical(&self, linear: u64, write: bool) -> Result<u64, PageFault> {
        let ram = &self.guest.vm.ram;
        translate(&self.root, self.mode.wrap(linear), Intent { write, user: self.user }, |at, size| match size {
            EntrySize::Four => ram.read_u32(at).ok().map(u64::from),
            EntrySize::Eight => ram.read_u64(at).ok(),
        })
    }

    fn watch(&mut self, watch: Watch, linear: u64, width: Width) {
        if self.guest.cpu.debug.armed() {
            self.guest.cpu.watch_memory(watch, self.mode.wrap(linear), width.bytes() as u64);
        }
    }

    /// Device registers have 32 bits: a 64-bit access is one to each half, the lower first.
    fn read_device(&mut self, gpa: u64, width: Width) -> u64 {
        let mut read = |gpa, width| u64::from(self.guest.read_memory(gpa, width, self.now));
        match width {
            Width::Qword => read(gpa, Width::Dword) | read(gpa + 4, Width::Dword) << 32,
            narrow => read(gpa, narrow),
        }
    }

    fn write_device(&mut self, gpa: u64, width: Width, value: u64) {
        let mut write = |gpa, width, value| self.guest.write_memory(gpa, width, value as u32, self.now);
        match width {
            Width::Qword => {
                write(gpa, Width::Dword, value);
                write(gpa + 4, Width::Dword, value >> 32);
            }
            narrow => write(gpa, narrow, value),
        }
    }

    /// An access across a page boundary is one to each byte.
    fn crosses(linear: u64, width: Width) -> bool {
        linear % PAGE > PAGE - width.bytes() as u64
    }
}

impl<V: Vmcs> AddressSpace for Linear<'_, '_, V> {
    type Fault = PageFault;

    fn segment_base(&mut self, segment: Segment) -> u64 {
        let field = match segment {
            Segment::Es | Segment::Cs | Segment::Ss | Segment::Ds if self.mode == Mode::Bits64 => return 0,
            Segment::Es => VmcsField::GuestEsBase,
            Segment::Cs => VmcsField::GuestCsBase,
            Segment::Ss => VmcsField::GuestSsBase,
            Segment::Ds => VmcsField::GuestDsBase,
            Segment::Fs => VmcsField::GuestFsBase,
            Segment::Gs => VmcsField::GuestGsBase,
        };
        self.mode.wrap(self.guest.cpu.vmcs.read(field))
    }

    fn read(&mut self, linear: u64, width: Width) -> Result<u64, PageFault> {
        self.watch(Watch::Read, linear, width);
        if Self::crosses(linear, width) {
            let mut value = 0;
            for byte in 0..width.bytes() as u64 {
                value |= self.read(linear.wrapping_add(byte), Width::Byte)? << (8 * byte);
            }
            return Ok(value);
        }
        let gpa = self.physical(linear, false)?;
        let ram = &self.guest.vm.ram;
        let value = match width {
            Width::Byte => ram.read_u8(gpa).map(u64::from),
            Width::Word => ram.read_u16(gpa).map(u64::from),
            Width::Dword => ram.read_u32(gpa).map(u64::from),
            Width::Qword => ram.read_u64(gpa),
        };
        Ok(value.unwrap_or_else(|_| self.read_device(gpa, width)))
    }

    fn write(&mut self, linear: u64, width: Width, value: u64) -> Result<(), PageFault> {
        self.watch(Watch::Write, linear, width);
        if Self::crosses(linear, width) {
            for byte in 0..width.bytes() as u64 {
                self.write(linear.wrapping_add(byte), Width::Byte, value >> (8 * byte) & 0xff)?;
            }
            return Ok(());
        }
        let gpa = self.physical(linear, true)?;
        let ram = &self.guest.vm.ram;
        let written = match width {
            Width::Byte => ram.write_u8(gpa, value as u8),
            Width::Word => ram.write_u16(gpa, value as u16),
            Width::Dword => ram.write_u32(gpa, value as u32),
            Width::Qword => ram.write_u64(gpa, value),
        };
        if written.is_err() {
            self.write_device(gpa, width, value);
        }
        Ok(())
    }
}
