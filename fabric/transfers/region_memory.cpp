#include "fabric/transfers/region_memory.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <limits>
#include <system_error>
#include <utility>

namespace troupe::fabric {

using protocols::fail;
using protocols::fault;
using protocols::result;

namespace {

constexpr int seals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;

std::size_t whole_pages(std::size_t bytes) {
  const auto page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
  return (bytes + page - 1) / page * page;
}

std::string in_words(const char* call, std::size_t bytes) {
  return std::string(call) + " of " + std::to_string(bytes) + " bytes: " + std::generic_category().message(errno);
}

} // namespace

region_memory::region_memory(base::unique_fd file, std::byte* begin, std::size_t size) noexcept
    : file_(std::move(file)), begin_(begin), size_(size) {}

region_memory::region_memory(region_memory&& other) noexcept
    : file_(std::move(other.file_)), begin_(std::exchange(other.begin_, nullptr)),
      size_(std::exchange(other.size_, 0)) {}

region_memory& region_memory::operator=(region_memory&& other) noexcept {
  std::swap(file_, other.file_);
  std::swap(begin_, other.begin_);
  std::swap(size_, other.size_);
  return *this;
}

region_memory::~region_memory() {
  if (begin_ != nullptr)
    ::munmap(begin_, whole_pages(size_));
}

result<region_memory> region_memory::create(std::size_t bytes, const char* label) {
  // The bound keeps the rounding up to pages and off_t from overflowing.
  if (bytes == 0 || bytes > std::numeric_limits<std::size_t>::max() / 4)
    return fail(fault::bad_value, "a region of " + std::to_string(bytes) + " bytes");
  base::unique_fd file{::memfd_create(label, MFD_CLOEXEC | MFD_ALLOW_SEALING)};
  if (!file)
    return fail(fault::no_memory, in_words("memfd_create", bytes));
  if (const int error = ::posix_fallocate(file.get(), 0, static_cast<off_t>(whole_pages(bytes))); error != 0) {
    errno = error;
    return fail(fault::no_memory, in_words("posix_fallocate", bytes));
  }
  if (::fcntl(file.get(), F_ADD_SEALS, seals) != 0)
    return fail(fault::no_memory, in_words("sealing", bytes));
  return map(std::move(file), bytes);
}

result<region_memory> region_memory::map(base::unique_fd file, std::size_t bytes) {
  struct stat status {};
  const int found = ::fcntl(file.get(), F_GET_SEALS);
  if (found < 0 || (found & seals) != seals)
    return fail(fault::bad_value, "the memory is not sealed against a change of size");
  if (::fstat(file.get(), &status) != 0 || bytes == 0 || static_cast<std::uint64_t>(status.st_size) < bytes)
    return fail(fault::bad_value,
                "the memory has " + std::to_string(status.st_size) + " bytes, not " + std::to_string(bytes));
  void* begin = ::mmap(nullptr, whole_pages(bytes), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, file.get(), 0);
  if (begin == MAP_FAILED)
    return fail(fault::no_memory, in_words("mmap", bytes));
  return region_memory{std::move(file), static_cast<std::byte*>(begin), bytes};
}

} // namespace troupe::fabric
