# The same for any processor that has VT-x with EPT and VPID, from Nehalem on: no PCID (Westmere) and INVPCID (Haswell), no
# FSGSBASE (Ivy Bridge), no pages of 1 GiB (Westmere; few Atoms). Sandy Bridge boards and many nested hosts are
# in between. It costs a flush of the TLB at each change of the address space.
include(${CMAKE_CURRENT_LIST_DIR}/pc99.cmake)
include(${CMAKE_CURRENT_LIST_DIR}/vtx.cmake)
kernel_config(SUPPORT_PCID OFF)
kernel_config(FSGSBASE_MSR ON)
kernel_config(HUGE_PAGE OFF)
