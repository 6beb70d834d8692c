#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace troupe::base {

/// How far a write came, and what ended it before its end.
struct write_end {
  std::size_t bytes = 0;
  int error = 0; ///< errno; 0: all was written
};

/// What to do with a descriptor that takes nothing now (EAGAIN). One that is not non-blocking makes its writer wait
/// in any case.
enum class when_full {
  wait,    ///< until it takes more, or nobody is there to read
  briefly, ///< each time at most a tenth of a second
  stop     ///< at once
};

write_end write_all(int fd, std::string_view bytes, when_full full) noexcept;

/// Writes whole lines to descriptors that may be full or gone, and counts those that were lost. Once lines go again,
/// how many were lost stands before them. A line of which a part was written has its end there, so that none is glued
/// to the next.
/// Contract: K6. Threads: one at a time.
class line_writer {
public:
  /// `losses`: what stands before "3 lines could not be written: No space left on device".
  explicit line_writer(std::string losses = {}) : losses_(std::move(losses)) {}

  /// Empty `lines`: only what is to be said of lost ones. False: lines were lost.
  bool write(int fd, std::string_view lines, when_full full) noexcept;
  /// Lines that never came to a descriptor.
  void count_lost(std::uint64_t lines, int error) noexcept;

  std::uint64_t lost() const noexcept { return lost_; } ///< and not said yet
  int error() const noexcept { return error_; }         ///< of the lines that were lost last

private:
  std::string preface() const;

  std::string losses_;
  std::uint64_t lost_ = 0;
  int error_ = 0;
  bool cut_ = false; ///< what stands there last has no end
};

std::uint64_t lines_of(std::string_view text) noexcept;

} // namespace troupe::base
