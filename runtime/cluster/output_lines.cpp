#include "runtime/cluster/output_lines.hpp"

#include <unistd.h>

#include <array>
#include <cerrno>

namespace troupe::cluster {

void line_cutter::add(std::string_view bytes, const sink& on_line) {
  while (!bytes.empty()) {
    const auto end = bytes.find('\n');
    const auto room = line_bytes_max - begun_.size();
    const bool ends = end != bytes.npos && end <= room;
    const auto piece = bytes.substr(0, ends ? end : room);
    begun_ += piece;
    bytes.remove_prefix(piece.size() + (ends ? 1 : 0));
    if (ends || begun_.size() == line_bytes_max) {
      on_line(begun_);
      begun_.clear();
    }
  }
}

void line_cutter::finish(const sink& on_line) {
  if (!begun_.empty())
    on_line(begun_);
  begun_.clear();
}

bool read_available(int fd, std::size_t bytes_max, const std::function<void(std::string_view)>& on_bytes) {
  std::array<char, 16 * 1024> buffer;
  for (std::size_t taken = 0; taken < bytes_max;) {
    const auto got = ::read(fd, buffer.data(), buffer.size());
    if (got == 0)
      return false;
    if (got < 0)
      return errno == EAGAIN || errno == EINTR;
    on_bytes({buffer.data(), static_cast<std::size_t>(got)});
    taken += static_cast<std::size_t>(got);
  }
  return true;
}

} // namespace troupe::cluster
