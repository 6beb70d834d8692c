#pragma once

#include <functional>
#include <string>
#include <string_view>

namespace troupe::cluster {

/// Cuts what a rank writes into lines. A line beyond the bound is passed on in pieces: a rank that never ends its line
/// must not fill the supervisor's memory.
class line_cutter {
public:
  static constexpr std::size_t line_bytes_max = 8 * 1024;
  using sink = std::function<void(std::string_view line)>; ///< without its end

  void add(std::string_view bytes, const sink& on_line);
  /// What was written without an end.
  void finish(const sink& on_line);

private:
  std::string begun_;
};

/// Reads a non-blocking descriptor until it has nothing now, at most `bytes_max`. False: it has ended.
bool read_available(int fd, std::size_t bytes_max, const std::function<void(std::string_view)>& on_bytes);

} // namespace troupe::cluster
