# Settings for a current seL4 (16.0.0 or later), to be built from its own source and CMake, then named by SEL4_PREFIX:
#
#   cmake -G Ninja -C kernel-config/settings/sel4-current-x86_64-vtx.cmake \
#         -DCMAKE_TOOLCHAIN_FILE=SEL4/gcc.cmake -DCMAKE_INSTALL_PREFIX=PREFIX -S SEL4 -B BUILD
#   ninja -C BUILD all && ninja -C BUILD install
#
# Earlier releases let a 64-bit guest's VMM (below 16.0.0) or any holder of an Untyped (below 14.0.0) take over the
# kernel. The values are those of pc99-vtx.cmake and what it includes, where each has its reason, but for the root CNode's.
set(KernelPlatform "pc99" CACHE STRING "")
set(KernelSel4Arch "x86_64" CACHE STRING "")
set(KernelX86MicroArch "generic" CACHE STRING "")
# VT-x lies outside the verified configurations; without this, KernelVTX is ignored.
set(KernelVerificationBuild OFF CACHE BOOL "")
set(KernelIsMCS OFF CACHE BOOL "")

set(KernelVTX ON CACHE BOOL "")
# ON for 64-bit guests.
set(KernelX86_64VTX64BitGuests OFF CACHE BOOL "")
set(KernelMaxVPIDs "1024" CACHE STRING "")
set(KernelIOMMU ON CACHE BOOL "")
set(KernelMaxRMRREntries "32" CACHE STRING "")

set(KernelMaxNumNodes "1" CACHE STRING "")
set(KernelNumDomains "1" CACHE STRING "")
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

# A debug kernel; both OFF for a release kernel, which also must not have the debug system calls.
set(KernelDebugBuild ON CACHE BOOL "")
set(KernelPrinting ON CACHE BOOL "")
