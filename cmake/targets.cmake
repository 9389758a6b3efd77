# Flags that every target of ours shares.
add_library(switchyard_flags INTERFACE)
target_include_directories(switchyard_flags INTERFACE ${PROJECT_SOURCE_DIR}/framework)
# Off: -Wrestrict (false alarms of g++ 12 on std::string) and -Wmissing-field-initializers (members left
# out of a designated initialiser have their defaults).
set(warnings -Wall -Wextra -Werror -Wshadow -Wnon-virtual-dtor -Woverloaded-virtual -Wconversion
  -Wno-sign-conversion -Wno-restrict -Wno-missing-field-initializers)
target_compile_options(switchyard_flags INTERFACE
  "$<$<COMPILE_LANGUAGE:CXX>:${warnings};-fno-math-errno>")
target_link_options(switchyard_flags INTERFACE -Wl,--exclude-libs,ALL)

set(SWITCHYARD_SANITIZE "" CACHE STRING "Sanitizers, as -fsanitize= takes them")
if(SWITCHYARD_SANITIZE)
  target_link_options(switchyard_flags INTERFACE -fsanitize=${SWITCHYARD_SANITIZE})
endif()

# switchyard_sanitize(CHECKS): the sanitizers' checks for the targets of the current folder. Null
# pointers are left to AddressSanitizer, which sees them too: the checks at every access would take
# a fifth of the compile time.
function(switchyard_sanitize checks)
  if(checks)
    add_compile_options(-fsanitize=${checks} -fno-sanitize=null,object-size,vptr
                        -fno-sanitize-recover=all -fno-omit-frame-pointer)
  endif()
endfunction()

# switchyard_library(NAME [ALONE] [DEPENDS target...]): a static library of one folder of framework/.
# DEPENDS states the arrows of docs/architecture.md; ci checks the includes against them. ALONE: its
# files use the same names for different things and are never compiled together (SWITCHYARD_UNITY).
function(switchyard_library name)
  cmake_parse_arguments(ARG "ALONE" "" "DEPENDS" ${ARGN})
  file(GLOB sources CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/*.cpp)
  add_library(switchyard_${name} STATIC ${sources})
  if(SWITCHYARD_UNITY AND NOT ARG_ALONE)
    set_target_properties(switchyard_${name} PROPERTIES UNITY_BUILD ON)
  endif()
  target_link_libraries(switchyard_${name} PUBLIC switchyard_flags ${ARG_DEPENDS})
endfunction()
