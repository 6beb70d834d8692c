#pragma once

#include <cstdint>
#include <filesystem>
#include <initializer_list>
#include <string>
#include <string_view>

#include "protocols/limits.hpp"
#include "runtime/base/line_writer.hpp"
#include "runtime/base/unique_fd.hpp"

namespace troupe::cluster {

/// The name under which `current` is kept once it was full.
std::filesystem::path old_log(const std::filesystem::path& current);

/// One log of a job: a file that grows to a bound, and the one before it. A rank that says much for days must not fill
/// the disk, and what it said last is what explains its end. Whoever follows the file has it open under its old name
/// too, and finds the next one in its place. What cannot be written is lost, and how much it was stands in the file
/// once lines go again: no rank and no supervisor stops for a log.
/// Contract: K6. Threads: one at a time.
class log_file {
public:
  explicit log_file(std::filesystem::path path, std::uintmax_t bytes_max = protocols::limits::log_file_bytes_max);

  /// `parts`, then a line's end; never cut in two by the bound.
  void line(std::initializer_list<std::string_view> parts);
  void flush();

private:
  static constexpr std::size_t waiting_bytes_max = 64 * 1024;

  void begin_next();
  void open(int how);
  void note_size();

  std::filesystem::path path_;
  std::uintmax_t bytes_max_;
  std::uintmax_t bytes_ = 0; ///< with those that wait
  base::unique_fd out_;
  base::line_writer writer_;
  std::string waiting_; ///< whole lines that are not written yet
};

} // namespace troupe::cluster
