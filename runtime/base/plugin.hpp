#pragma once

#include <string>

#include "protocols/fault.hpp"
#include "runtime/base/build_stamp.hpp"

/// Plug-ins: what only some ranks need and what is heavy to have (a matrix library, a fabric, a GPU's runtime) lies in
/// modules of its own, loaded when a spec asks for it. A rank that does not use libfabric would pay 2 MiB for it, and
/// the signal handlers that libraries below it install when they are loaded.
namespace troupe::base {

/// Loads `libtroupe_NAME.so`, from beside the program or from ../lib/troupe, once for the life of the process, and
/// finds `symbol` in it. Errors: config_invalid with where it was looked for, or that it is of another build.
protocols::result<void*> plugin_symbol(const std::string& name, const char* symbol);

/// What a plug-in must say of itself to be used: interfaces with virtual functions have no other version.
inline constexpr const char* plugin_build_symbol = "troupe_plugin_build";

} // namespace troupe::base

/// Stands once in every plug-in.
#define TROUPE_PLUGIN                                                                                                  \
  extern "C" __attribute__((visibility("default"))) const char* troupe_plugin_build() {                                \
    return troupe::base::build_stamp();                                                                                \
  }
