#include "runtime/cluster/log_file.hpp"

namespace troupe::cluster {

std::filesystem::path old_log(const std::filesystem::path& current) {
  return current.string() + ".old";
}

log_file::log_file(std::filesystem::path path, std::uintmax_t bytes_max)
    : path_(std::move(path)), bytes_max_(bytes_max), out_(path_, std::ios::app) {
  std::error_code absent;
  const auto bytes = std::filesystem::file_size(path_, absent);
  bytes_ = absent ? 0 : bytes;
}

void log_file::line(std::initializer_list<std::string_view> parts) {
  std::uintmax_t bytes = 1;
  for (const auto part : parts)
    bytes += part.size();
  if (bytes_ > 0 && bytes_ + bytes > bytes_max_)
    begin_next();
  for (const auto part : parts)
    out_ << part;
  out_ << '\n';
  bytes_ += bytes;
}

void log_file::begin_next() {
  out_.close();
  std::error_code refused;
  std::filesystem::rename(path_, old_log(path_), refused);
  out_.clear();
  out_.open(path_, std::ios::trunc);
  bytes_ = 0;
}

} // namespace troupe::cluster
