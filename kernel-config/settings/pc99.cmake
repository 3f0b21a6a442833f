# What every pinned kernel for a PC shares. Names are the kernel's own CONFIG_ names without the prefix; ON and OFF
# become true and false in gen_config.json, everything else is copied as written. The current seL4 has the same names
# for nearly all of these (sel4-current-x86_64-vtx.cmake holds its half).

kernel_config(ARCH x86)
kernel_config(ARCH_X86 ON)
kernel_config(ARCH_X86_64 ON)
kernel_config(SEL4_ARCH x86_64)
kernel_config(PLAT pc99)
kernel_config(PLAT_PC99 ON)
kernel_config(WORD_SIZE 64)
kernel_config(KERNEL_MASTER ON)
kernel_config(KERNEL_MCS OFF)
kernel_config(HAVE_CACHE ON)
kernel_config(CACHE_LN_SZ 64)
kernel_config(OPTIMISATION_O2 ON)

# One core: two VCPUs of one seL4 may not yet run on two cores.
kernel_config(MAX_NUM_NODES 1)
kernel_config(NUM_DOMAINS 1)
kernel_config(NUM_PRIORITIES 256)
kernel_config(KERNEL_STACK_BITS 12)

# A thread runs for TIME_SLICE ticks before its equals get a turn: 10 ms.
kernel_config(TIMER_TICK_MS 2)
kernel_config(TIME_SLICE 5)
kernel_config(FASTPATH ON)
kernel_config(MAX_NUM_WORK_UNITS_PER_PREEMPTION 100)
kernel_config(RETYPE_FAN_OUT_LIMIT 256)
# Memory is cleared in pieces of 64 KiB between two looks for interrupts, a few microseconds.
kernel_config(RESET_CHUNK_BITS 16)

# The root task's image carries every server and every guest file, and each of its pages is a capability in the
# root CNode: 40 MiB are 10,240 of them. 2^18 slots (8 MiB) leave room for 256 MiB of guest memory behind an IOMMU, where
# each 4 KiB take three.
kernel_config(ROOT_CNODE_SIZE_BITS 18)
# As many as fit the one page that bootinfo has; a PC with much memory and many devices needs about 150.
kernel_config(MAX_NUM_BOOTINFO_UNTYPED_CAPS 230)

# Off, or unknown to 5.0.0; said here because a reader of gen_config.json may ask.
kernel_config(ENABLE_SMP_SUPPORT OFF)
kernel_config(HARDWARE_DEBUG_API OFF)
kernel_config(ENABLE_BENCHMARKS OFF)
kernel_config(DANGEROUS_CODE_INJECTION OFF)
kernel_config(VERIFICATION_BUILD OFF)

# Processor. FXSAVE because a guest is not offered AVX, and because it is what Bochs' older models have too.
kernel_config(HAVE_FPU ON)
kernel_config(FXSAVE ON)
kernel_config(XSAVE_SIZE 512)
kernel_config(FPU_MAX_RESTORES_SINCE_SWITCH 64)
kernel_config(SYSCALL ON)

# Interrupts. xAPIC mode works everywhere, x2APIC neither under QEMU 7.2's TCG nor on Bochs' Haswell.
kernel_config(IRQ_IOAPIC ON)
kernel_config(MAX_NUM_IOAPIC 1)
kernel_config(XAPIC ON)

# VT-d where the ACPI tables announce it; a board without a DMAR table boots all the same.
kernel_config(IOMMU ON)
kernel_config(MAX_RMRR_ENTRIES 32)

kernel_config(MULTIBOOT_GRAPHICS_MODE_NONE ON)
