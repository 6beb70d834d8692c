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

/// Line and column from 1; columns count bytes.
struct json_place {
  std::uint32_t line = 1;
  std::uint32_t column = 1;
  bool operator==(const json_place&) const = default;
};

enum class json_kind : std::uint8_t { null, truth, number, text, list, object };

/// A value of a document. Texts lie in the document, most of them in the body that was read.
struct json_value {
  json_kind kind = json_kind::null;
  bool truth = false;
  std::string_view text;   ///< of a text; a number as it was written
  std::string_view source; ///< of the body: the value as it was written
  std::vector<json_value> elements;
  std::vector<std::pair<std::string_view, json_value>> members; ///< in the order written

  const json_value* find(std::string_view key) const noexcept;
};

struct json_problem {
  json_place at;
  std::string what; ///< "a comma or '}' is missing"
};

/// A request's body as RFC 8259 has it, and stricter: no key twice in an object, UTF-8 throughout, no lone surrogate,
/// at most `depth_max` values inside each other and `values_max` in all, or a small body would make a large tree.
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
  std::deque<std::string> decoded_; ///< texts with escapes
};

json_place place_of(std::string_view body, std::size_t offset) noexcept;

/// "a text", "the number -3", "a list".
std::string describe(const json_value& value);

/// The number, if it is a whole one that fits.
std::optional<std::int64_t> as_whole(const json_value& value);
/// The number, if it is finite as a double.
std::optional<double> as_real(const json_value& value);

} // namespace troupe::door
