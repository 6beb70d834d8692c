# One component = one static library `troupe_<name>` with the alias `troupe::<name>`. Headers lie beside their sources
# and are included from the root ("fabric/lanes/lane.hpp").
set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR})

find_program(CCACHE ccache)
if(CCACHE AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
  set(CMAKE_CXX_COMPILER_LAUNCHER ${CCACHE})
endif()
find_program(MOLD mold)
if(MOLD)
  add_link_options(-fuse-ld=mold)
endif()

add_library(troupe_options INTERFACE)
target_include_directories(troupe_options INTERFACE ${PROJECT_SOURCE_DIR})
target_compile_definitions(troupe_options INTERFACE TROUPE_VERSION="${PROJECT_VERSION}")
# g++ 12 reports variants and CAF's serialisers as maybe-uninitialized at -O1 where they are not.
target_compile_options(
  troupe_options INTERFACE $<$<COMPILE_LANGUAGE:CXX>:-Wall -Wextra -Wpedantic -Wconversion -Wshadow -Wswitch-enum
                           $<$<CXX_COMPILER_ID:GNU>:-Wno-maybe-uninitialized> $<$<BOOL:${TROUPE_WERROR}>:-Werror>>)
if(TROUPE_SANITIZE)
  target_compile_options(troupe_options INTERFACE -fsanitize=${TROUPE_SANITIZE} -fno-omit-frame-pointer)
  target_link_options(troupe_options INTERFACE -fsanitize=${TROUPE_SANITIZE})
endif()

# troupe_component(NAME DIRECTORY LINK targets...): every .cpp of the directory and of its folders that are no component.
function(troupe_component name directory)
  cmake_parse_arguments(PARSE_ARGV 2 arg "" "" "LINK")
  file(GLOB_RECURSE sources CONFIGURE_DEPENDS RELATIVE ${PROJECT_SOURCE_DIR} ${PROJECT_SOURCE_DIR}/${directory}/*.cpp)
  # Plug-ins; what is built over another protocols/; tests.
  list(FILTER sources EXCLUDE REGEX "/(beast|cpu|cuda|ofi|planted|prometheus)/|_test.cpp$")
  if(NOT sources)
    add_library(troupe_${name} INTERFACE)
    target_link_libraries(troupe_${name} INTERFACE troupe_options ${arg_LINK})
  else()
    add_library(troupe_${name} STATIC ${sources})
    target_link_libraries(troupe_${name} PUBLIC troupe_options ${arg_LINK})
  endif()
  add_library(troupe::${name} ALIAS troupe_${name})
endfunction()

# troupe_build_stamp(COMPONENT): adds base::build_stamp to it, made anew whenever a source of any component has changed.
function(troupe_build_stamp component)
  set(sources)
  foreach(layer IN ITEMS protocols runtime fabric gpu actors)
    foreach(ending IN ITEMS hpp cpp inl cuh cu)
      list(APPEND sources ${PROJECT_SOURCE_DIR}/${layer}/*.${ending})
    endforeach()
  endforeach()
  file(GLOB_RECURSE sources CONFIGURE_DEPENDS ${sources})
  set(stamp ${PROJECT_BINARY_DIR}/build_stamp.cpp)
  set(how "${CMAKE_CXX_COMPILER_ID} ${CMAKE_CXX_COMPILER_VERSION} ${CMAKE_BUILD_TYPE} ${CMAKE_CXX_FLAGS}")
  set(script ${PROJECT_SOURCE_DIR}/tools/cmake/build_stamp.cmake)
  file(CONFIGURE OUTPUT ${stamp}.list CONTENT "${sources}")
  add_custom_command(OUTPUT ${stamp} DEPENDS ${script} ${stamp}.list ${sources} VERBATIM
                     COMMAND ${CMAKE_COMMAND} -DOUTPUT=${stamp} -DROOT=${PROJECT_SOURCE_DIR} -DSOURCES=${stamp}.list
                             -DVERSION=${PROJECT_VERSION} "-DHOW=${how} ${TROUPE_SANITIZE}" -P ${script})
  target_sources(troupe_${component} PRIVATE ${stamp})
endfunction()

# troupe_plugin(NAME DIRECTORY LINK targets...): the module libtroupe_NAME.so, and troupe_NAME, the same code as a static
# library for tests and benchmarks that look inside. What loads modules depends on `troupe_plugins`.
add_custom_target(troupe_plugins)
function(troupe_plugin name directory)
  cmake_parse_arguments(PARSE_ARGV 2 arg "" "" "LINK")
  file(GLOB sources CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/${directory}/*.cpp ${PROJECT_SOURCE_DIR}/${directory}/*.cu)
  list(FILTER sources EXCLUDE REGEX "/plugin.cpp$")
  add_library(troupe_${name} STATIC ${sources})
  target_link_libraries(troupe_${name} PUBLIC troupe_options ${arg_LINK})
  add_library(troupe::${name} ALIAS troupe_${name})
  add_library(troupe_${name}_plugin MODULE ${PROJECT_SOURCE_DIR}/${directory}/plugin.cpp)
  target_link_libraries(troupe_${name}_plugin PRIVATE troupe_${name})
  set_target_properties(troupe_${name}_plugin PROPERTIES OUTPUT_NAME troupe_${name}
                                                         LIBRARY_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR})
  add_dependencies(troupe_plugins troupe_${name}_plugin)
  install(TARGETS troupe_${name}_plugin LIBRARY DESTINATION lib/troupe) # where base/plugin looks
endfunction()
