# Generates libsel4's headers and installs them as a current seL4 does: one include folder for everything, the interface
# files under their present names, and the preprocessed bit-field files beside the headers made from them.

set(LIBSEL4 ${SOURCE}/libsel4)
set(LIBSEL4_INCLUDE_DIRS include arch_include/x86 sel4_arch_include/x86_64 sel4_plat_include/pc99)
set(core_xml ${LIBSEL4}/include/interfaces/sel4.xml)
set(arch_xml ${LIBSEL4}/arch_include/x86/interfaces/sel4arch.xml)
set(sel4_arch_xml ${LIBSEL4}/sel4_arch_include/x86_64/interfaces/sel4arch.xml)
set(LIBSEL4_FILES "")

# Runs one of the kernel's generators; the result goes to generated/`file`.
function(generate file script)
    cmake_path(GET file PARENT_PATH folder)
    add_custom_command(OUTPUT generated/${file}
        COMMAND ${CMAKE_COMMAND} -E make_directory generated/${folder}
        COMMAND ${CMAKE_COMMAND} -E env PYTHONDONTWRITEBYTECODE=1 ${PYTHON} ${SOURCE}/${script} ${ARGN}
        DEPENDS source.stamp
        COMMENT "libsel4: ${file}"
        VERBATIM)
    set(LIBSEL4_FILES ${LIBSEL4_FILES} generated/${file} PARENT_SCOPE)
endfunction()

# One bit-field description: preprocessed to generated/`file`.pbf, and from that the C accessors `file`_gen.h.
function(bitfields file source)
    cmake_path(GET file PARENT_PATH folder)
    list(TRANSFORM LIBSEL4_INCLUDE_DIRS PREPEND -I${LIBSEL4}/ OUTPUT_VARIABLE includes)
    add_custom_command(OUTPUT generated/${file}.pbf generated/${file}_gen.h
        COMMAND ${CMAKE_COMMAND} -E make_directory generated/${folder}
        COMMAND ${CPP} -P -nostdinc -Igenerated ${includes} ${LIBSEL4}/${source} generated/${file}.pbf
        COMMAND ${CMAKE_COMMAND} -E env PYTHONDONTWRITEBYTECODE=1 ${PYTHON} ${SOURCE}/tools/bitfield_gen.py
                --environment libsel4 generated/${file}.pbf generated/${file}_gen.h
        DEPENDS source.stamp generated/autoconf.h
        COMMENT "libsel4: ${file}.pbf"
        VERBATIM)
    set(LIBSEL4_FILES ${LIBSEL4_FILES} generated/${file}.pbf generated/${file}_gen.h PARENT_SCOPE)
endfunction()

generate(sel4/syscall.h tools/syscall_header_gen.py
    --xml ${LIBSEL4}/include/api/syscall.xml --libsel4_header generated/sel4/syscall.h)
generate(sel4/invocation.h tools/invocation_header_gen.py
    --xml ${core_xml} --libsel4 --dest generated/sel4/invocation.h)
generate(sel4/arch/invocation.h tools/invocation_header_gen.py
    --xml ${arch_xml} --libsel4 --arch --dest generated/sel4/arch/invocation.h)
generate(sel4/sel4_arch/invocation.h tools/invocation_header_gen.py
    --xml ${sel4_arch_xml} --libsel4 --sel4_arch --dest generated/sel4/sel4_arch/invocation.h)
# --buffer: the C stubs pass message words through the IPC buffer, never through register variables.
set(guests "")
if(config_json MATCHES "\"X86_64_VTX_64BIT_GUESTS\": true")
    set(guests --x86-vtx-64-bit-guests)
endif()
generate(interfaces/sel4_client.h libsel4/tools/syscall_stub_gen.py
    -w 64 -a x86_64 --buffer ${guests} -o generated/interfaces/sel4_client.h ${core_xml} ${arch_xml} ${sel4_arch_xml})
bitfields(sel4/types include/sel4/types_64.bf)
bitfields(sel4/shared_types include/sel4/shared_types_64.bf)
bitfields(sel4/sel4_arch/types sel4_arch_include/x86_64/sel4/sel4_arch/types.bf)

macro(install_libsel4)
    set(include libsel4/include)
    foreach(dir IN LISTS LIBSEL4_INCLUDE_DIRS)
        install(DIRECTORY ${LIBSEL4}/${dir}/ DESTINATION ${include}
            FILES_MATCHING PATTERN *.h PATTERN syscall.xml PATTERN syscall.xsd PATTERN interfaces EXCLUDE)
    endforeach()
    install(DIRECTORY ${CMAKE_BINARY_DIR}/generated/ DESTINATION ${include}
        FILES_MATCHING PATTERN *.h PATTERN *.pbf PATTERN gen_config.json)
    install(FILES ${core_xml} DESTINATION ${include}/interfaces RENAME object-api.xml)
    install(FILES ${arch_xml} DESTINATION ${include}/interfaces RENAME object-api-arch.xml)
    install(FILES ${sel4_arch_xml} DESTINATION ${include}/interfaces RENAME object-api-sel4-arch.xml)
endmacro()
