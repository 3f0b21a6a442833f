# What every kernel with guests on it has.
kernel_config(VTX ON)
# One VPID tag per VCPU; 0 is the host's.
kernel_config(MAX_VPIDS 1024)
# R8 to R15 and the MSRs of SYSCALL. Also for processors without "unrestricted guest": the boot checks nothing of it, and
# WriteVMCS tells user level what the processor has.
kernel_config(X86_64_VTX_64BIT_GUESTS ON)
# Not an option of the kernel, but what a patch of ours adds: user level may leave a guest's debug registers to the guest.
kernel_config(X86_VTX_GUEST_DEBUG_REGISTERS ON)
