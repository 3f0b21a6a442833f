# What every kernel with guests on it has.
kernel_config(VTX ON)
# One VPID tag per VCPU; 0 is the host's.
kernel_config(MAX_VPIDS 1024)
# Not an option of the kernel, but what a patch of ours adds: user level may leave a guest's debug registers to the guest.
kernel_config(X86_VTX_GUEST_DEBUG_REGISTERS ON)
