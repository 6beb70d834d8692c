#pragma once

#include <stdlib.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <fstream>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "protocols/wire/frame.hpp"
#include "runtime/base/assert.hpp"
#include "runtime/base/unique_fd.hpp"

/// How the fuzzer's bytes reach decoders that read files, sockets or frames.
namespace troupe::fuzz {

inline std::string_view text_of(std::span<const std::byte> input) {
  return {reinterpret_cast<const char*>(input.data()), input.size()};
}

/// A folder of its own for readers of files, in memory where the system has such a place: a fuzzer writes thousands of
/// files a second. Gone with the process.
class folder {
public:
  folder() {
    const std::filesystem::path in_memory = "/dev/shm";
    const auto root = std::filesystem::is_directory(in_memory) ? in_memory : std::filesystem::temp_directory_path();
    std::string name = (root / "troupe-fuzz-XXXXXX").string();
    TROUPE_ASSERT("scratch folder", ::mkdtemp(name.data()) != nullptr);
    path_ = name;
  }
  folder(const folder&) = delete;
  folder& operator=(const folder&) = delete;
  ~folder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }

  const std::filesystem::path& path() const noexcept { return path_; }

  std::filesystem::path put(const std::string& name, std::string_view text) const {
    std::ofstream{path_ / name, std::ios::binary} << text;
    return path_ / name;
  }
  std::filesystem::path put(const std::string& name, std::span<const std::byte> bytes) const {
    return put(name, text_of(bytes));
  }
  void copy(const std::filesystem::path& file) const {
    std::filesystem::copy_file(file, path_ / file.filename(), std::filesystem::copy_options::overwrite_existing);
  }

private:
  std::filesystem::path path_;
};

inline std::filesystem::path reader_model() {
  return TROUPE_SOURCE_DIR "/deploy/models/reader";
}

/// Both ends of a stream, the second one non-blocking.
inline std::array<base::unique_fd, 2> stream_pair() {
  int ends[2];
  TROUPE_ASSERT("socketpair", ::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) == 0);
  return {base::unique_fd{ends[0]}, base::unique_fd{ends[1]}};
}

/// `input` with the checksum that belongs to it: no fuzzer guesses a hash, and what stands behind it is to be reached.
/// `expected`, unless null, changes the header before that. Bytes that are no frame stay as they are.
inline std::vector<std::byte> sealed(std::span<const std::byte> input,
                                     void (*expected)(protocols::frame_header&) = nullptr) {
  using namespace protocols;
  std::vector<std::byte> bytes{input.begin(), input.end()};
  if (bytes.size() < limits::frame_header_bytes)
    return bytes;
  const auto place = std::span{bytes}.first<limits::frame_header_bytes>();
  auto header = decode_header(place, limits::frame_bytes_max_highest);
  if (!header)
    return bytes;
  if (expected != nullptr)
    expected(*header);
  const auto payload = std::span{bytes}.subspan(limits::frame_header_bytes);
  encode_header(*header, payload.first(std::min<std::size_t>(payload.size(), header->payload_bytes)), place);
  return bytes;
}

} // namespace troupe::fuzz
