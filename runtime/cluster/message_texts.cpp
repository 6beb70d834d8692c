#include "runtime/cluster/message_texts.hpp"

#include <array>

#include "runtime/cluster/serve/serve_message_text.hpp"

namespace troupe::cluster {

std::span<const message_text> built_in_message_texts() noexcept {
  static const std::array<message_text, 1> all{&serve_message_text};
  return all;
}

} // namespace troupe::cluster
