#pragma once

#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <tl/expected.hpp>

namespace troupe::door {

/// A place in a body: line and column from 1; columns count bytes.
struct json_place {
  std::uint32_t line = 1;
  std::uint32_t column = 1;
  bool operator==(const json_place&) const = default;
};

enum class json_kind : std::uint8_t { null, truth, number, text, list, object };

/// A value of a document. Its texts are views into the body, or into the document where they had escapes.
struct json_value {
  json_kind kind = json_kind::null;
  bool truth = false;
  std::string_view text;   ///< a text, decoded; or a number, as it was written
  std::string_view source; ///< the value as it was written in the body
  std::vector<json_value> elements;
  std::vector<std::pair<std::string_view, json_value>> members; ///< in the order written

  /// The member with this key; null: there is none.
  const json_value* find(std::string_view key) const noexcept;
};

/// Why a body is refused.
struct json_problem {
  json_place at;
  std::string what; ///< "a comma or '}' is missing"
};

/// A request's body as a tree of JSON values. It accepts RFC 8259 with these limits: no key twice in an object, UTF-8
/// only, no lone surrogate, values nested at most `depth_max` deep, and at most `values_max` values, since a small body
/// could otherwise make a large tree.
/// Contract: K9, K10. Threads: one.
class json_document {
public:
  static constexpr std::size_t depth_max = 64;
  static constexpr std::size_t values_max = 200'000;

  /// `body` outlives the document.
  static tl::expected<json_document, json_problem> read(std::string_view body);

  const json_value& root() const noexcept { return root_; }

private:
  friend class json_reader;
  json_value root_;
  std::deque<std::string> decoded_; ///< the decoded texts of those that had escapes
};

/// The place of the byte at `offset`.
json_place place_of(std::string_view body, std::size_t offset) noexcept;

/// The value in words, for messages: "a text", "the number -3", "a list".
std::string describe(const json_value& value);

/// The number, if it is whole and fits into 64 bits.
std::optional<std::int64_t> as_whole(const json_value& value);
/// The number, if a double can hold it and it is finite.
std::optional<double> as_real(const json_value& value);

} // namespace troupe::door
