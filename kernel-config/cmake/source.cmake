# Locates the pinned source through Cargo, which downloads it once and checks its hash. Sets PINNED_SOURCE.

set(manifest ${CMAKE_CURRENT_SOURCE_DIR}/source/Cargo.toml)
execute_process(COMMAND ${CARGO} fetch --quiet --locked --manifest-path ${manifest}
    RESULT_VARIABLE failed ERROR_VARIABLE reason)
if(failed)
    message(FATAL_ERROR "cargo could not fetch the kernel's source (package sel4-sys 0.0.28):\n${reason}")
endif()
execute_process(
    COMMAND ${CARGO} metadata --quiet --locked --offline --format-version 1 --manifest-path ${manifest}
    OUTPUT_VARIABLE metadata COMMAND_ERROR_IS_FATAL ANY)
string(JSON count LENGTH "${metadata}" packages)
math(EXPR last "${count} - 1")
foreach(index RANGE ${last})
    string(JSON name GET "${metadata}" packages ${index} name)
    if(name STREQUAL "sel4-sys")
        string(JSON crate_manifest GET "${metadata}" packages ${index} manifest_path)
    endif()
endforeach()
cmake_path(GET crate_manifest PARENT_PATH crate)
set(PINNED_SOURCE ${crate}/seL4)
file(STRINGS ${PINNED_SOURCE}/VERSION version LIMIT_COUNT 1)
if(NOT version STREQUAL "5.0.0")
    message(FATAL_ERROR "the pinned source says that it is seL4 '${version}', not 5.0.0")
endif()

# Everything that decides what the kernel is, in one hash.
file(GLOB PATCHES CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/patches/*.patch)
list(SORT PATCHES)
set(inputs "${config_header}${config_json}")
foreach(patch IN LISTS PATCHES)
    set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${patch})
    file(SHA256 ${patch} hash)
    string(APPEND inputs "${hash}\n")
endforeach()
string(SHA256 INPUTS_HASH "${inputs}")

set(SOURCE ${CMAKE_BINARY_DIR}/seL4)
add_custom_command(OUTPUT source.stamp
    COMMAND ${CMAKE_COMMAND} -DFROM=${PINNED_SOURCE} -DTO=${SOURCE} -DPATCH=${PATCH} "-DPATCHES=${PATCHES}"
            -P ${CMAKE_CURRENT_SOURCE_DIR}/cmake/patch.cmake
    COMMAND ${CMAKE_COMMAND} -E touch source.stamp
    DEPENDS ${PATCHES} cmake/patch.cmake
    COMMENT "seL4 5.0.0: copy and patch"
    VERBATIM)
