#include "tests/tally/tally_text.hpp"

#include "runtime/cluster/message_fields.hpp"
#include "tests/tally/tally_messages.hpp"

namespace troupe::cluster {

TROUPE_FIELD_NAMES(tally::lend, "born");
TROUPE_FIELD_NAMES(tally::add, "round", "numbers", "pieces");
TROUPE_FIELD_NAMES(tally::landed, "round", "numbers");
TROUPE_FIELD_NAMES(tally::sum, "round", "value");

} // namespace troupe::cluster

namespace troupe::tally {

protocols::result<std::optional<std::vector<std::byte>>> tally_message_text(protocols::message_type type,
                                                                            const cluster::json_node& fields) {
  return cluster::payload_of_fields(type, fields, static_cast<tally_message*>(nullptr));
}

} // namespace troupe::tally
