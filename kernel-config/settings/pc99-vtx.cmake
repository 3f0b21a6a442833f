# The kernel for Bochs and for processors from Haswell on: VT-x, VT-d, and what makes address spaces cheap to switch.
include(${CMAKE_CURRENT_LIST_DIR}/pc99.cmake)
include(${CMAKE_CURRENT_LIST_DIR}/vtx.cmake)
kernel_config(SUPPORT_PCID ON)
kernel_config(FSGSBASE_INST ON)
kernel_config(HUGE_PAGE ON)
