#include "fabric/transfers/transfer_doorbell.hpp"
#include "runtime/base/doorbell.hpp"

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

void transfer_doorbell::ring() const noexcept {
  base::ring(file_);
}

void transfer_doorbell::hush() const noexcept {
  base::hush(file_);
}

} // namespace troupe::fabric
