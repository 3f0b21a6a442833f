# Turns a settings file and the build kind into the two forms of the configuration: autoconf.h for C, and
# gen_config.json, which a current seL4 installs, for everything else. Both hold the same list in the same order.

set(config_header "#pragma once\n#define AUTOCONF_INCLUDED\n")
set(config_json "")

# One option of the kernel. `value` is ON, OFF, or a token copied as it stands.
macro(kernel_config name value)
    if("${value}" STREQUAL "ON")
        string(APPEND config_header "#define CONFIG_${name} 1\n")
        string(APPEND config_json ",\n    \"${name}\": true")
    elseif("${value}" STREQUAL "OFF")
        string(APPEND config_header "/* disabled: CONFIG_${name} */\n")
        string(APPEND config_json ",\n    \"${name}\": false")
    else()
        string(APPEND config_header "#define CONFIG_${name} ${value}\n")
        string(APPEND config_json ",\n    \"${name}\": \"${value}\"")
    endif()
endmacro()

if(NOT EXISTS ${CMAKE_CURRENT_SOURCE_DIR}/settings/${PLATFORM}.cmake)
    message(FATAL_ERROR "no settings/${PLATFORM}.cmake; PLATFORM is pc99-vtx, pc99-vtx-ivy-bridge, pc99-vtx-nehalem or pc99-iommu-test")
endif()
include(settings/${PLATFORM}.cmake)

if(BUILD STREQUAL "debug")
    # Assertions, messages on COM1 and the debug system calls: DebugPutChar, DebugHalt, DebugSnapshot …
    kernel_config(DEBUG_BUILD ON)
    kernel_config(PRINTING ON)
    kernel_config(USER_STACK_TRACE_LENGTH 16)
elseif(BUILD STREQUAL "release")
    kernel_config(DEBUG_BUILD OFF)
    kernel_config(PRINTING OFF)
    kernel_config(USER_STACK_TRACE_LENGTH 0)
else()
    message(FATAL_ERROR "BUILD is '${BUILD}'; it must be debug or release")
endif()

string(REGEX REPLACE "^,\n" "" config_json "${config_json}")
file(CONFIGURE OUTPUT ${CMAKE_BINARY_DIR}/generated/autoconf.h CONTENT "${config_header}" @ONLY)
file(CONFIGURE OUTPUT ${CMAKE_BINARY_DIR}/generated/kernel/gen_config.json CONTENT "{\n${config_json}\n}\n" @ONLY)
# libsel4's own options: none is switched on, as in a current seL4 left at its defaults (no thread-locals in 5.0.0).
file(CONFIGURE OUTPUT ${CMAKE_BINARY_DIR}/generated/sel4/gen_config.json @ONLY CONTENT [[{
    "LIB_SEL4_INLINE_INVOCATIONS": false,
    "LIB_SEL4_DEFAULT_FUNCTION_ATTRIBUTES": true,
    "LIB_SEL4_PUBLIC_SYMBOLS": false,
    "LIB_SEL4_STUBS_USE_IPC_BUFFER_ONLY": true,
    "LIB_SEL4_USE_THREAD_LOCALS": false
}
]])
