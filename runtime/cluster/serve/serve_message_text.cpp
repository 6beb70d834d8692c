#include "runtime/cluster/serve/serve_message_text.hpp"

#include "runtime/cluster/serve/field_names.hpp"

namespace troupe::cluster {

protocols::result<std::optional<std::vector<std::byte>>> serve_message_text(protocols::message_type type,
                                                                            const json_node& fields) {
  return payload_of_fields(type, fields, static_cast<protocols::serve_message*>(nullptr));
}

} // namespace troupe::cluster
