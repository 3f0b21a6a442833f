# For the IOMMU tests under QEMU without KVM, which emulates VT-d but neither VT-x nor PCIDs: a kernel that is
# configured for either refuses to boot there. No guest runs on this one.
include(${CMAKE_CURRENT_LIST_DIR}/pc99.cmake)
kernel_config(VTX OFF)
kernel_config(X86_64_VTX_64BIT_GUESTS OFF)
kernel_config(MAX_VPIDS 0)
kernel_config(SUPPORT_PCID OFF)
kernel_config(FSGSBASE_INST ON)
kernel_config(HUGE_PAGE ON)
