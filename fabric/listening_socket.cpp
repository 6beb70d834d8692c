// Decides outside protocols: the kernel's answer decides

#include "fabric/listening_socket.hpp"

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <utility>

#include "runtime/base/clock.hpp"

namespace troupe::fabric {

using namespace protocols;

namespace {

std::string errno_in_words(int error) {
  return error == EADDRINUSE ? "address in use" : std::strerror(error);
}

tl::unexpected<failure> cannot_listen(const std::string& where, const std::string& why) {
  return fail(fault::config_invalid, "cannot listen on " + where + ": " + why);
}

base::unique_fd new_socket(int family, int type) {
  return base::unique_fd{::socket(family, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)};
}

/// A socket file that nobody listens on is what a killed process left behind.
result<void> validate_what_is_there(const socket_address& at, int type) {
  struct stat found {};
  if (::lstat(at.text.c_str(), &found) != 0)
    return {};
  if (!S_ISSOCK(found.st_mode))
    return cannot_listen(at.text, "a file that is no socket is in the way");
  const base::unique_fd probe = new_socket(AF_UNIX, type);
  if (::connect(probe.get(), at.get(), at.size) == 0 || errno == EAGAIN || errno == EPROTOTYPE)
    return cannot_listen(at.text, "another process listens there; is this job running already?");
  return {};
}

bool is_out_of_descriptors(int error) noexcept {
  return error == EMFILE || error == ENFILE || error == ENOBUFS || error == ENOMEM;
}

} // namespace

result<listening_socket> listening_socket::at_unix(const std::string& path, int type) {
  const auto at = unix_address(path);
  if (!at)
    return tl::unexpected<failure>{at.error()};
  if (auto free = validate_what_is_there(*at, type); !free)
    return tl::unexpected<failure>{free.error()};
  const auto unnamed = unix_address(path + std::string{unnamed_suffix});
  if (!unnamed)
    return tl::unexpected<failure>{unnamed.error()};
  ::unlink(unnamed->text.c_str());
  auto socket = new_socket(AF_UNIX, type);
  if (!socket || ::bind(socket.get(), unnamed->get(), unnamed->size) != 0 ||
      ::chmod(unnamed->text.c_str(), S_IRUSR | S_IWUSR) != 0 || ::listen(socket.get(), SOMAXCONN) != 0 ||
      std::rename(unnamed->text.c_str(), path.c_str()) != 0)
    return cannot_listen(path, errno_in_words(errno));
  return listening_socket{std::move(socket)};
}

result<listening_socket> listening_socket::at_network(const socket_address& at, const std::string& advice) {
  auto socket = new_socket(at.family(), SOCK_STREAM);
  const int on = 1;
  if (socket)
    ::setsockopt(socket.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (!socket || ::bind(socket.get(), at.get(), at.size) != 0 || ::listen(socket.get(), SOMAXCONN) != 0) {
    const int error = errno;
    return cannot_listen(at.text, errno_in_words(error) + (error == EADDRINUSE ? advice : std::string{}));
  }
  return listening_socket{std::move(socket)};
}

int listening_socket::waits_on() const {
  return base::now() < rests_until_ ? -1 : socket_.get();
}

base::unique_fd listening_socket::take_next() {
  return base::unique_fd{::accept4(socket_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK)};
}

base::unique_fd listening_socket::accept() {
  if (!socket_ || base::now() < rests_until_)
    return {};
  auto made = take_next();
  if (!made && is_out_of_descriptors(errno))
    rests_until_ = base::now() + no_descriptor_pause;
  return made;
}

listening_socket::visitor listening_socket::accept_spare() {
  if (!socket_ || base::now() < rests_until_)
    return {};
  if (!spare_)
    spare_ = base::unique_fd{::open("/dev/null", O_RDONLY | O_CLOEXEC)};
  if (auto made = accept()) {
    rlimit bound{};
    ::getrlimit(RLIMIT_NOFILE, &bound);
    const bool crowded = static_cast<rlim_t>(made.get()) + descriptors_kept >= bound.rlim_cur;
    return {std::move(made), crowded};
  }
  if (waits_on() >= 0)
    return {};
  spare_.reset();
  return {take_next(), true};
}

} // namespace troupe::fabric
