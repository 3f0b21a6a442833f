# Settings for a current seL4 (16.0.0 or later), to be built from its own source and CMake; README.md shows the calls.
#
# Earlier releases let a 64-bit guest's VMM (below 16.0.0) or any holder of an Untyped (below 14.0.0) take over the
# kernel. The values are those of pc99-vtx.cmake and what it includes, where each has its reason (build/tests/settings.rs
# compares them).
set(KernelPlatform "pc99" CACHE STRING "")
set(KernelSel4Arch "x86_64" CACHE STRING "")
set(KernelX86MicroArch "generic" CACHE STRING "")
# VT-x lies outside the verified configurations; without this, KernelVTX is ignored.
set(KernelVerificationBuild OFF CACHE BOOL "")
set(KernelIsMCS OFF CACHE BOOL "")

set(KernelVTX ON CACHE BOOL "")
set(KernelX86_64VTX64BitGuests ON CACHE BOOL "")
set(KernelMaxVPIDs "1024" CACHE STRING "")
set(KernelIOMMU ON CACHE BOOL "")
set(KernelMaxRMRREntries "32" CACHE STRING "")

set(KernelMaxNumNodes "1" CACHE STRING "")
set(KernelNumDomains "1" CACHE STRING "")
set(KernelNumPriorities "256" CACHE STRING "")
set(KernelFastpath ON CACHE BOOL "")
set(KernelMaxNumWorkUnitsPerPreemption "100" CACHE STRING "")
set(KernelTimerTickMS "2" CACHE STRING "")
set(KernelTimeSlice "5" CACHE STRING "")
set(KernelRootCNodeSizeBits "18" CACHE STRING "")
set(KernelMaxNumBootinfoUntypedCaps "230" CACHE STRING "")
set(KernelRetypeFanOutLimit "256" CACHE STRING "")
set(KernelResetChunkBits "16" CACHE STRING "")

set(KernelFPU "FXSAVE" CACHE STRING "")
# For Haswell and later. pc99-vtx-nehalem.cmake says what older processors lack: there "msr", OFF and OFF.
set(KernelFSGSBase "inst" CACHE STRING "")
set(KernelHugePage ON CACHE BOOL "")
set(KernelSupportPCID ON CACHE BOOL "")
set(KernelLAPICMode "XAPIC" CACHE STRING "")
set(KernelIRQController "IOAPIC" CACHE STRING "")
set(KernelMaxNumIOAPIC "1" CACHE STRING "")

# The pinned kernel's flags for copying the image and clearing memory (cmake/kernel.cmake). Without them, seL4 16.0.0 takes
# 310 million instructions to the first one of a guest, and with them 70.
set(CMAKE_C_FLAGS "-ftree-loop-vectorize -fvect-cost-model=dynamic -funroll-loops --param max-unroll-times=16" CACHE STRING "")

# A release kernel, without the debug system calls; both ON for a debug kernel.
set(KernelDebugBuild OFF CACHE BOOL "")
set(KernelPrinting OFF CACHE BOOL "")
