#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "protocols/fault.hpp"

/// JSON with comments that remembers where everything stands.
/// The library's own tree forgets positions and keeps the last of two equal keys; a spec's reader must name both.
namespace troupe::cluster {

/// Line and column from 1; 0 where nothing was written.
struct text_place {
  std::uint32_t line = 0;
  std::uint32_t column = 0;

  bool operator==(const text_place&) const = default;
};

enum class json_kind { null, truth, whole, real, text, list, object };

struct json_member;

/// A value with its place. Members stand in the order written, twice if written twice.
struct json_node {
  json_kind kind = json_kind::null;
  text_place at;
  bool truth = false;
  std::uint64_t whole = 0;
  std::string text; ///< of a string; a number as it was written
  std::vector<json_node> elements;
  std::vector<json_member> members;
};

struct json_member {
  std::string key;
  text_place at; ///< of the key
  json_node value;
};

/// Words of a document, as a message about them shows them: on one line, the first of many.
std::string shown(std::string_view words);

/// "a string", "the number -3", "an object": what an error says was found.
std::string describe(const json_node& node);

/// The value as JSON again, on one line; members stand in the order written.
std::string text_of(const json_node& node);

/// A document as it is written to a file or an output. Paths and a client's words need not be UTF-8, which JSON is:
/// what is not stands there as U+FFFD. The library's own `dump()` throws instead.
/// `indent`: -1 for one line.
std::string text_of(const nlohmann::ordered_json& document, int indent = -1);

/// Whether JSON can hold the bytes as they are.
bool is_utf8(const std::string& bytes);

inline constexpr std::size_t json_bytes_max = 64 * 1024; ///< of a spec
inline constexpr std::size_t json_depth_max = 16;

/// What a file holds; of one that is longer than `bytes_max` so much that `read_json` sees it.
/// Errors: config_invalid with the reason alone.
protocols::result<std::string> read_document(const std::filesystem::path& file, std::size_t bytes_max = json_bytes_max);

/// Errors: config_invalid with "line:column: what was expected".
protocols::result<json_node> read_json(std::string_view text, std::size_t bytes_max = json_bytes_max);

} // namespace troupe::cluster
