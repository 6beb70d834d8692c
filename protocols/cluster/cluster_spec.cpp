#include "protocols/cluster/cluster_spec.hpp"

namespace troupe::protocols {

std::string_view name(role_kind role) noexcept {
  switch (role) {
  case role_kind::front:
    return "front";
  case role_kind::encode:
    return "encode";
  case role_kind::prefill:
    return "prefill";
  case role_kind::decode:
    return "decode";
  case role_kind::all:
    return "all";
  case role_kind::stub:
    return "stub";
  }
  return "unknown";
}

} // namespace troupe::protocols
