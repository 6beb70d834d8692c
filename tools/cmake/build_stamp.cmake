# Run by the build: writes OUTPUT, the source of base::build_stamp. ROOT: the project; SOURCES: a file with the list of
# what is digested; VERSION: the project's; HOW: compiler and flags. OUTPUT is touched only when the stamp has changed.
file(READ ${SOURCES} sources)
set(text "${HOW}")
foreach(source IN LISTS sources)
  file(RELATIVE_PATH name ${ROOT} ${source})
  file(SHA256 ${source} digest)
  string(APPEND text "\n${name} ${digest}")
endforeach()
string(SHA256 stamp "${text}")
string(SUBSTRING ${stamp} 0 16 stamp)
file(CONFIGURE OUTPUT ${OUTPUT} @ONLY CONTENT [[
#include "runtime/base/build_stamp.hpp"

const char* troupe::base::build_stamp() noexcept {
  return "@VERSION@+@stamp@";
}
]])
