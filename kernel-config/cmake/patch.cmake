# Script: copies the pristine source FROM the registry TO the build tree and applies PATCHES in order. No fuzz: a patch
# that does not fit exactly is out of date and must be looked at.

file(REMOVE_RECURSE ${TO})
file(COPY ${FROM}/ DESTINATION ${TO})
foreach(patch IN LISTS PATCHES)
    execute_process(COMMAND ${PATCH} --batch --forward --fuzz=0 -p1 -i ${patch} WORKING_DIRECTORY ${TO}
        RESULT_VARIABLE failed OUTPUT_VARIABLE report ERROR_VARIABLE report)
    if(failed)
        message(FATAL_ERROR "${patch} does not apply:\n${report}")
    endif()
endforeach()
