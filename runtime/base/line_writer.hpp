#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace troupe::base {

/// How many bytes were written, and which error ended the write early.
struct write_end {
  std::size_t bytes = 0;
  int error = 0; ///< errno; 0: all was written
};

/// What to do when a non-blocking descriptor takes nothing now (EAGAIN). A blocking one makes its writer wait in any
/// case.
enum class when_full {
  wait,    ///< until it takes more, or its reader has closed it
  briefly, ///< each time at most a tenth of a second
  stop     ///< at once
};

write_end write_all(int fd, std::string_view bytes, when_full full) noexcept;

/// Writes whole lines to descriptors that may be full or gone, and counts lost lines. When the descriptor takes lines
/// again, a line with that count is written first. A line that was written in part is ended with a newline, so the next
/// one is not glued to it.
/// Contract: K6. Threads: one at a time.
class line_writer {
public:
  /// `losses`: what stands before "3 lines could not be written: No space left on device".
  explicit line_writer(std::string losses = {}) : losses_(std::move(losses)) {}

  /// Empty `lines`: writes only the count of lost ones. False: lines were lost.
  bool write(int fd, std::string_view lines, when_full full) noexcept;
  /// Lines that never came to a descriptor.
  void count_lost(std::uint64_t lines, int error) noexcept;

  std::uint64_t lost() const noexcept { return lost_; } ///< and not reported yet
  int error() const noexcept { return error_; }         ///< of the lines that were lost last

private:
  std::string preface() const;

  std::string losses_;
  std::uint64_t lost_ = 0;
  int error_ = 0;
  bool cut_ = false; ///< the last line was written in part
};

std::uint64_t lines_of(std::string_view text) noexcept;

} // namespace troupe::base
