#include "runtime/cluster/held_program.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include <fmt/format.h>

#include "runtime/base/plugin.hpp"

namespace troupe::cluster {

using namespace protocols;

namespace {

base::unique_fd open_to_run(const std::filesystem::path& file) {
  return base::unique_fd{::open(file.c_str(), O_PATH | O_CLOEXEC)};
}

/// This process runs it, whatever has taken its name since.
bool is_this_program(const std::filesystem::path& program) {
  std::error_code problem;
  return std::filesystem::read_symlink("/proc/self/exe", problem) == program && !problem;
}

} // namespace

result<held_program> held_program::hold(const std::filesystem::path& program) {
  held_program held;
  held.file_ = open_to_run(is_this_program(program) ? "/proc/self/exe" : program);
  if (!held.file_ || ::access(fmt::format("/proc/self/fd/{}", held.file_.get()).c_str(), X_OK) != 0)
    return fail(fault::config_invalid, fmt::format("cannot start {}: {}", program.string(), std::strerror(errno)));
  for (auto& [name, path] : base::plugins_of(program)) {
    if (held.plugins_.size() == base::plugins_max)
      break; // it is looked for by its name then
    if (auto file = open_to_run(path))
      held.plugins_.push_back({std::move(name), std::move(file)});
  }
  return held;
}

} // namespace troupe::cluster
