#pragma once

#include <cstddef>
#include <utility>

#include "protocols/fault.hpp"

namespace troupe::base {

/// A shared mapping of a file that others can cut short.
/// The kernel answers an access beyond the end of a mapped file, and one for which a disk has no room, with SIGBUS, and
/// that would end a supervisor because somebody has emptied a flight record. Here such a page is taken from the
/// mapping: it reads as zeros, and what is written to it is lost. A copy by `pread` at each look was rejected for
/// writers, who have nothing to copy to that outlives them, and for readers because it is a system call a rank a turn.
/// SIGBUS of any other address goes the way that it went before the first mapping was made.
/// Threads: any; a mapping is unmapped when nobody uses it any more.
class mapped_file {
public:
  enum class access { read, read_write };

  /// Errors: no_memory with errno in words.
  static protocols::result<mapped_file> map(int file, std::size_t bytes, access how);

  constexpr mapped_file() noexcept = default;
  mapped_file(mapped_file&& other) noexcept
      : at_(std::exchange(other.at_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}
  mapped_file& operator=(mapped_file&& other) noexcept {
    std::swap(at_, other.at_);
    std::swap(bytes_, other.bytes_);
    return *this;
  }
  ~mapped_file();

  void* at() const noexcept { return at_; }
  explicit operator bool() const noexcept { return at_ != nullptr; }

private:
  void* at_ = nullptr;
  std::size_t bytes_ = 0;
};

} // namespace troupe::base
