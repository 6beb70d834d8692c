#pragma once

#include <cstddef>
#include <optional>
#include <string_view>
#include <vector>

namespace troupe::actors {

/// Decodes base64 with padding (RFC 4648); none: the text is not base64.
std::optional<std::vector<std::byte>> decode_base64(std::string_view text);

} // namespace troupe::actors
