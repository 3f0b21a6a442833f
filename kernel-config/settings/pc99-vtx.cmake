# The kernel Portcullis runs on: VT-x, VT-d, process-context identifiers. Boots in Bochs and on Intel boards.
include(${CMAKE_CURRENT_LIST_DIR}/pc99.cmake)
kernel_config(VTX ON)
# One VPID tag per VCPU; 0 is the host's.
kernel_config(MAX_VPIDS 1024)
kernel_config(SUPPORT_PCID ON)
# Not an option of the kernel, but what a patch of ours adds: user level may leave a guest's debug registers to the guest.
kernel_config(X86_VTX_GUEST_DEBUG_REGISTERS ON)
