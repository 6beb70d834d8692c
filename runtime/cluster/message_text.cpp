#include "runtime/cluster/message_text.hpp"

#include <fmt/format.h>

#include "runtime/cluster/json_text.hpp"
#include "runtime/cluster/message_texts.hpp"

namespace troupe::cluster {

using namespace protocols;

namespace {

std::vector<message_text>& registered() {
  static std::vector<message_text> all{built_in_message_texts().begin(), built_in_message_texts().end()};
  return all;
}

} // namespace

void add_message_text(message_text of) {
  registered().push_back(of);
}

result<std::vector<std::byte>> payload_of_text(message_type type, std::string_view fields) {
  const auto tree = read_json(fields);
  if (!tree)
    return fail(fault::config_invalid, fmt::format("fields:{}", tree.error().what));
  for (const auto of : registered()) {
    auto payload = of(type, *tree);
    if (!payload)
      return tl::unexpected<failure>{payload.error()};
    if (*payload)
      return **std::move(payload);
  }
  return fail(fault::invalid_request, fmt::format("{0}: {0} does not go between role actors", name(type)));
}

} // namespace troupe::cluster
