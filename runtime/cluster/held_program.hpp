#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "protocols/fault.hpp"
#include "runtime/base/unique_fd.hpp"

namespace troupe::cluster {

/// The files of the build that a job began with: the program of its ranks and the plug-ins beside it, held open.
/// Whoever installs a new build moves it over the old names; a rank that is started again from those names would be of
/// another build than those that stayed, and the job would end because they do not agree. What is held open is still
/// there under no name. A copy of the files was rejected: a CUDA plug-in takes hundreds of megabytes.
/// A file that is overwritten in its place, and not replaced, cannot be held; a plug-in says so when it is loaded.
/// Contract: K18.
class held_program {
public:
  struct plugin {
    std::string name; ///< "cpu" of libtroupe_cpu.so
    base::unique_fd file;
  };

  /// Errors: config_invalid (the program cannot be started) with path and errno in words.
  static protocols::result<held_program> hold(const std::filesystem::path& program);

  int file() const noexcept { return file_.get(); }
  const std::vector<plugin>& plugins() const noexcept { return plugins_; }

private:
  base::unique_fd file_;
  std::vector<plugin> plugins_;
};

} // namespace troupe::cluster
