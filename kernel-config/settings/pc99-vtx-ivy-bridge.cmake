# The same for Ivy Bridge, the class of the cma34cr: it has FSGSBASE, but no INVPCID (Haswell), and pages of 1 GiB in its
# server models only. The bases of FS and GS are written by an instruction then, where an MSR takes some 100 cycles.
include(${CMAKE_CURRENT_LIST_DIR}/pc99.cmake)
include(${CMAKE_CURRENT_LIST_DIR}/vtx.cmake)
kernel_config(SUPPORT_PCID OFF)
kernel_config(FSGSBASE_INST ON)
kernel_config(HUGE_PAGE OFF)
