# troupe_needs(PACKAGE [VERSION]): find_package that goes on when nothing is found, so that one run names all that is
# missing. troupe_needs_met() ends the configuration with that list.
macro(troupe_needs package)
  find_package(${package} ${ARGN} QUIET)
  if(NOT ${package}_FOUND)
    list(APPEND TROUPE_MISSING ${package})
  endif()
endmacro()

function(troupe_needs_met)
  if(TROUPE_MISSING)
    list(JOIN TROUPE_MISSING ", " missing)
    message(FATAL_ERROR "Not found: ${missing}. Run tools/setup, which installs what is missing, then configure again.")
  endif()
endfunction()
