#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <fmt/format.h>

#include "actors/serve/door/chat_body.hpp"
#include "runtime/door/json_document.hpp"

/// Reads the keys of a body by a table: a row reads one key, and a key without a row is refused by name.
namespace troupe::actors {

/// None: the value is valid.
using problem = std::optional<body_problem>;

/// Reads the value of one key. `param` is the path of the key in the body, for messages.
struct body_row {
  std::string_view key;
  std::function<problem(const std::string& param, const door::json_value& value)> read;
};

struct valid_range {
  double least;
  double most;
};

/// The value of a key; null: it is absent. A key with the value null counts as absent: clients in several languages
/// write it for every unset key.
const door::json_value* find_set(const door::json_value& object, std::string_view key);

/// Reads the members of an object by their rows. `path`: where the object is; empty: the body itself, which may also
/// have keys that are ignored, and keys that are refused because this service does not offer them.
problem read_members(const door::json_value& object, const std::string& path, const std::vector<body_row>& known);

body_problem invalid_value(std::string param, std::string message);
body_problem wrong_type(const std::string& param, std::string_view wanted, const door::json_value& found);

problem read_truth(const std::string& param, const door::json_value& value, bool& to);
problem read_text(const std::string& param, const door::json_value& value, std::string& to);
/// `least_too`: the range includes its least value.
problem read_real(const std::string& param, const door::json_value& value, valid_range valid, bool least_too,
                  float& to);
template <class Number>
problem read_whole(const std::string& param, const door::json_value& value, std::int64_t least, std::int64_t most,
                   Number& to) {
  const auto number = door::as_whole(value);
  if (!number || *number < least || *number > most)
    return invalid_value(
        param, fmt::format("a whole number from {} to {} is due here, not {}", least, most, door::describe(value)));
  to = static_cast<Number>(*number);
  return std::nullopt;
}

inline body_row real_row(std::string_view key, valid_range valid, float& to, bool least_too = true) {
  return {key, [=, &to](const std::string& param, const door::json_value& value) {
            return read_real(param, value, valid, least_too, to);
          }};
}

template <class Number>
body_row whole_row(std::string_view key, std::int64_t least, std::int64_t most, Number& to) {
  return {key, [=, &to](const std::string& param, const door::json_value& value) {
            return read_whole(param, value, least, most, to);
          }};
}

inline body_row truth_row(std::string_view key, bool& to) {
  return {key, [&to](const std::string& param, const door::json_value& value) { return read_truth(param, value, to); }};
}

} // namespace troupe::actors
