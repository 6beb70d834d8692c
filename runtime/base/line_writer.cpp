#include "runtime/base/line_writer.hpp"

#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include <fmt/format.h>

namespace troupe::base {
namespace {

constexpr int briefly_ms = 100;

/// A reader's time is its own; one that leaves is an error of the next write.
bool becomes_writable(int fd, when_full full) noexcept {
  if (full == when_full::stop)
    return false;
  pollfd output{.fd = fd, .events = POLLOUT, .revents = 0};
  return ::poll(&output, 1, full == when_full::wait ? -1 : briefly_ms) != 0;
}

} // namespace

write_end write_all(int fd, std::string_view bytes, when_full full) noexcept {
  write_end end;
  while (end.bytes < bytes.size()) {
    const auto written = ::write(fd, bytes.data() + end.bytes, bytes.size() - end.bytes);
    if (written >= 0) {
      end.bytes += static_cast<std::size_t>(written);
      continue;
    }
    const int why = errno;
    if (why == EINTR || (why == EAGAIN && becomes_writable(fd, full)))
      continue;
    end.error = why;
    return end;
  }
  return end;
}

std::uint64_t lines_of(std::string_view text) noexcept {
  const auto ends = static_cast<std::uint64_t>(std::ranges::count(text, '\n'));
  return ends + (text.empty() || text.back() == '\n' ? 0 : 1);
}

std::string line_writer::preface() const {
  const auto* const end = cut_ ? "\n" : "";
  if (lost_ == 0)
    return end;
  return fmt::format("{}{}{} line{} could not be written: {}\n", end, losses_, lost_, lost_ == 1 ? "" : "s",
                     std::strerror(error_));
}

bool line_writer::write(int fd, std::string_view lines, when_full full) noexcept {
  const auto before = preface();
  const auto head = write_all(fd, before, full);
  if (head.error != 0) {
    cut_ = head.bytes > 0 ? before[head.bytes - 1] != '\n' : cut_;
    count_lost(lines_of(lines), head.error);
    return false;
  }
  lost_ = 0;
  cut_ = false;
  const auto end = write_all(fd, lines, full);
  if (end.error == 0)
    return true;
  cut_ = end.bytes > 0 && lines[end.bytes - 1] != '\n';
  count_lost(lines_of(lines.substr(end.bytes)), end.error);
  return false;
}

void line_writer::count_lost(std::uint64_t lines, int error) noexcept {
  if (lines == 0)
    return;
  lost_ += lines;
  error_ = error;
}

} // namespace troupe::base
