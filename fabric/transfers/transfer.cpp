#include "fabric/transfers/transfer.hpp"

namespace troupe::fabric {

std::string_view name(bulk_kind kind) noexcept {
  switch (kind) {
  case bulk_kind::same_process:
    return "same_process";
  case bulk_kind::shared_memory:
    return "shared_memory";
  case bulk_kind::fabric:
    return "fabric";
  }
  return "unknown";
}

} // namespace troupe::fabric
