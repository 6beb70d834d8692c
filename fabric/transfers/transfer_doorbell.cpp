#include "fabric/transfers/transfer_doorbell.hpp"

#include <sys/eventfd.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <system_error>

namespace troupe::fabric {

protocols::result<transfer_doorbell> transfer_doorbell::create() {
  base::unique_fd file{::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)};
  if (!file)
    return protocols::fail(protocols::fault::no_memory, "eventfd: " + std::generic_category().message(errno));
  return transfer_doorbell{std::move(file)};
}

// Both calls fail only with EAGAIN, which means that the doorbell is in the wanted state already.
void transfer_doorbell::ring() const noexcept {
  const std::uint64_t one = 1;
  [[maybe_unused]] const auto written = ::write(file_.get(), &one, sizeof one);
}

void transfer_doorbell::hush() const noexcept {
  std::uint64_t count = 0;
  [[maybe_unused]] const auto read = ::read(file_.get(), &count, sizeof count);
}

} // namespace troupe::fabric
