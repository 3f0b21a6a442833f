# Compiles the kernel with its own standalone Makefile, from scratch whenever an input changed: it takes 4 seconds, and
# that Makefile does not notice a change of flags.

# The source dates from gcc 6. Since then gcc made tentative definitions unique (-fno-common), and distributions switch
# on stack protection and indirect-branch tracking, which need run-time support that a kernel has not. No red zone: an
# exception in the kernel's own code would be reported from a stack that it has just overwritten.
set(flags -fcommon -fno-stack-protector -fcf-protection=none -mno-red-zone)
# gcc may turn the loop inside the kernel's own memset into a call of memset.
list(APPEND flags -fno-tree-loop-distribute-patterns)
# The kernel copies the root task's image twice, byte by byte, and clears memory by words. Vectorised, the copy takes words
# too, in general registers, as there are no others; unrolled, neither loop counts. docs/performance.md has the instructions.
list(APPEND flags -ftree-loop-vectorize -fvect-cost-model=dynamic -funroll-loops --param max-unroll-times=16)
# Assertions and debug information name files: keep the build tree's path out, so that two trees give the same kernel.
set(relative_paths -ffile-prefix-map=${SOURCE}/=)
list(APPEND flags ${relative_paths} -fdebug-prefix-map=${CMAKE_BINARY_DIR}/kernel=.)
set(debug "")
if(BUILD STREQUAL "debug")
    set(debug DEBUG=1)
endif()
list(JOIN flags " " flags)

# Warnings newer than the source, each checked once: packed descriptors whose members are read through pointers, boot
# data at fixed addresses that gcc takes for arrays of no size.
set(warnings all strict-prototypes missing-prototypes nested-externs missing-declarations undef pointer-arith no-nonnull
    no-address-of-packed-member no-array-bounds)
list(JOIN warnings " " warnings)

add_custom_command(OUTPUT kernel/kernel.elf
    COMMAND ${CMAKE_COMMAND} -E rm -rf kernel
    COMMAND ${CMAKE_COMMAND} -E make_directory kernel
    COMMAND ${CMAKE_COMMAND} -E copy generated/autoconf.h ${SOURCE}/include/plat/pc99/autoconf.h
    COMMAND ${CMAKE_COMMAND} -E chdir kernel
            ${CMAKE_COMMAND} -E env --unset=MAKEFLAGS --unset=MAKELEVEL PATH=${SHIM}:$ENV{PATH}
            "CFLAGS=${flags}" CPPFLAGS=${relative_paths}
            ${MAKE} --silent -f ${SOURCE}/Makefile SOURCE_ROOT=${SOURCE} ARCH=x86 SEL4_ARCH=x86_64 PLAT=pc99
            ${debug} PYTHON=${PYTHON} "WARNINGS=${warnings}" kernel.elf
    DEPENDS source.stamp generated/autoconf.h
    COMMENT "seL4 5.0.0: compile the kernel (${PLATFORM}, ${BUILD})"
    VERBATIM)
