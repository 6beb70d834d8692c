#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "protocols/ids.hpp"

namespace troupe::gpu::models {

/// Tokens that stand beside the vocabulary and are found in text as they are written.
class added_tokens {
public:
  struct found {
    std::size_t at;
    std::size_t length;
    protocols::token_id id;
  };

  void add(std::string content, protocols::token_id id);
  /// The leftmost, and of those that begin there the longest.
  std::optional<found> find(std::string_view text) const;

private:
  std::map<char, std::vector<std::pair<std::string, protocols::token_id>>> by_first_byte_; ///< longest first
};

} // namespace troupe::gpu::models
