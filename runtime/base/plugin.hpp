#pragma once

#include <cstddef>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "protocols/fault.hpp"
#include "runtime/base/build_stamp.hpp"

/// Plug-ins: what only some ranks need and what is heavy to have (a matrix library, a fabric, a GPU's runtime) lies in
/// modules of its own, loaded when a spec asks for it. A rank that does not use libfabric would pay 2 MiB for it, and
/// the signal handlers that libraries below it install when they are loaded.
namespace troupe::base {

/// Loads `libtroupe_NAME.so`, from what this process was given, from beside the program or from ../lib/troupe, once for
/// the life of the process, and finds `symbol` in it.
/// Errors: config_invalid with where it was looked for, or that it is of another build.
protocols::result<void*> plugin_symbol(const std::string& name, const char* symbol);

/// Of one program; more are found by name alone.
inline constexpr std::size_t plugins_max = 8;

/// Name and path of each that a program would find by itself now.
std::vector<std::pair<std::string, std::filesystem::path>> plugins_of(const std::filesystem::path& program);

/// The process holds the plug-in open under this descriptor, which stays open: it is taken from there, whatever stands
/// under its name by now (K18). Before the first `plugin_symbol` of that name; not from two threads.
void give_plugin(const std::string& name, int file);

/// What a plug-in must say of itself to be used: interfaces with virtual functions have no other version.
inline constexpr const char* plugin_build_symbol = "troupe_plugin_build";

} // namespace troupe::base

/// Stands once in every plug-in.
#define TROUPE_PLUGIN                                                                                                  \
  extern "C" __attribute__((visibility("default"))) const char* troupe_plugin_build() {                                \
    return troupe::base::build_stamp();                                                                                \
  }
