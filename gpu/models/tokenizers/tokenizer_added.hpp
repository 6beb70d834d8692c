#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "gpu/models/templates/template_value.hpp"
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

  struct token {
    std::string content;
    protocols::token_id id;
    bool special;
    bool lstrip; ///< takes the white space before it too
    bool rstrip; ///< and that behind it
  };

  void add(token one);
  /// The leftmost from `from` on, and of those that begin there the longest; special ones without a user's byte, but
  /// for the white space that they take.
  std::optional<found> find(const marked_text& text, std::size_t from) const;

private:
  std::map<char, std::vector<token>> by_first_byte_; ///< longest first
};

} // namespace troupe::gpu::models
