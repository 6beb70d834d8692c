#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "gpu/models/template_value.hpp"
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

  void add(std::string content, protocols::token_id id, bool special);
  /// The leftmost from `from` on, and of those that begin there the longest; special ones without a user's byte.
  std::optional<found> find(const marked_text& text, std::size_t from) const;

private:
  struct token {
    std::string content;
    protocols::token_id id;
    bool special;
  };
  std::map<char, std::vector<token>> by_first_byte_; ///< longest first
};

} // namespace troupe::gpu::models
