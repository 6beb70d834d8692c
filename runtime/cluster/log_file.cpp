#include "runtime/cluster/log_file.hpp"

#include <fcntl.h>

namespace troupe::cluster {

std::filesystem::path old_log(const std::filesystem::path& current) {
  return current.string() + ".old";
}

log_file::log_file(std::filesystem::path path, std::uintmax_t bytes_max)
    : path_(std::move(path)), bytes_max_(bytes_max) {
  open(O_APPEND);
}

void log_file::line(std::initializer_list<std::string_view> parts) {
  std::uintmax_t bytes = 1;
  for (const auto part : parts)
    bytes += part.size();
  if (bytes_ > 0 && bytes_ + bytes > bytes_max_)
    begin_next();
  for (const auto part : parts)
    waiting_ += part;
  waiting_ += '\n';
  bytes_ += bytes;
  if (waiting_.size() > waiting_bytes_max)
    flush();
}

void log_file::flush() {
  if (waiting_.empty())
    return;
  if (!out_)
    open(O_APPEND); // it could not be made, for want of a descriptor or of room
  const bool whole = writer_.write(out_.get(), waiting_, base::when_full::stop);
  waiting_.clear();
  if (!whole)
    note_size();
}

void log_file::begin_next() {
  flush();
  std::error_code refused;
  std::filesystem::rename(path_, old_log(path_), refused);
  open(O_TRUNC);
}

void log_file::open(int how) {
  out_ = base::unique_fd{::open(path_.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | how, 0600)};
  note_size();
}

void log_file::note_size() {
  std::error_code absent;
  const auto bytes = std::filesystem::file_size(path_, absent);
  bytes_ = (absent ? 0 : bytes) + waiting_.size();
}

} // namespace troupe::cluster
