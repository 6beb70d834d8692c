#pragma once

#include <cstddef>
#include <filesystem>
#include <string>

#include "protocols/fault.hpp"
#include "runtime/base/unique_fd.hpp"

/// Reading files of a job's directory, in which anything may lie: what is no file, what never ends, what cannot be
/// read.
namespace troupe::base {

/// Never waits: a pipe or a device is refused. Errors: config_invalid with the path.
protocols::result<unique_fd> open_regular(const std::filesystem::path& file);

/// Its whole text. Errors: config_invalid with the path, also when it is larger than `bytes_max`.
protocols::result<std::string> read_regular(const std::filesystem::path& file, std::size_t bytes_max);

} // namespace troupe::base
