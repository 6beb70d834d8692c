#pragma once

#include <cstddef>
#include <optional>
#include <string_view>
#include <vector>

namespace troupe::actors {

/// The bytes of RFC 4648's base64, with its padding; nothing for any other text.
std::optional<std::vector<std::byte>> decode_base64(std::string_view text);

} // namespace troupe::actors
