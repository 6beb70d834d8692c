#include "runtime/base/regular_file.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

namespace troupe::base {

using namespace protocols;

namespace {

tl::unexpected<failure> cannot(const std::filesystem::path& file, const std::string& why) {
  return fail(fault::config_invalid, "cannot read " + file.string() + ": " + why);
}

} // namespace

result<unique_fd> open_regular(const std::filesystem::path& file) {
  unique_fd opened{::open(file.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK)};
  struct stat is {};
  if (!opened || ::fstat(opened.get(), &is) != 0)
    return cannot(file, std::strerror(errno));
  if (!S_ISREG(is.st_mode))
    return cannot(file, "it is no file");
  return opened;
}

result<std::string> read_regular(const std::filesystem::path& file, std::size_t bytes_max) {
  const auto opened = open_regular(file);
  if (!opened)
    return tl::unexpected<failure>{opened.error()};
  std::string text(bytes_max + 1, '\0');
  std::size_t got = 0;
  while (got < text.size()) {
    const auto more = ::read(opened->get(), text.data() + got, text.size() - got);
    if (more < 0 && errno == EINTR)
      continue;
    if (more < 0)
      return cannot(file, std::strerror(errno));
    if (more == 0)
      break;
    got += static_cast<std::size_t>(more);
  }
  if (got > bytes_max)
    return cannot(file, "it has more than " + std::to_string(bytes_max) + " bytes");
  text.resize(got);
  return text;
}

} // namespace troupe::base
