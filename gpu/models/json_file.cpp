#include "gpu/models/json_file.hpp"

#include <algorithm>
#include <fstream>
#include <limits>
#include <system_error>

namespace troupe::gpu::models {

using nlohmann::json;
using protocols::fail;
using protocols::fault;
using protocols::result;

namespace {

/// Deepest nesting of brackets outside strings; valid JSON or not.
unsigned nesting(std::string_view text) {
  unsigned depth = 0;
  unsigned deepest = 0;
  bool quoted = false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (quoted) {
      if (c == '\\')
        ++i;
      else if (c == '"')
        quoted = false;
    } else if (c == '"') {
      quoted = true;
    } else if (c == '{' || c == '[') {
      deepest = std::max(deepest, ++depth);
    } else if ((c == '}' || c == ']') && depth > 0) {
      --depth;
    }
  }
  return deepest;
}

/// A value as a message shows it: whole when short.
std::string shown(const json& value) {
  constexpr std::size_t shown_max = 60;
  std::string text = value.dump(-1, ' ', true, json::error_handler_t::replace);
  if (text.size() > shown_max)
    text = text.substr(0, shown_max) + "...";
  return text;
}

const json& nothing() {
  static const json empty = json::object();
  return empty;
}

} // namespace

result<json> parse_object(std::string_view text, const std::string& file, unsigned depth_max) {
  if (const unsigned depth = nesting(text); depth > depth_max)
    return fail(fault::config_invalid,
                file + ": nested " + std::to_string(depth) + " deep; at most " + std::to_string(depth_max));
  try {
    json object = json::parse(text);
    if (!object.is_object())
      return fail(fault::config_invalid, file + ": is " + object.type_name() + "; valid here: a JSON object");
    return object;
  } catch (const json::parse_error& problem) {
    return fail(fault::config_invalid, file + ": not JSON at byte " + std::to_string(problem.byte));
  } catch (const json::out_of_range& problem) { // a number beyond a double
    return fail(fault::config_invalid, file + ": " + problem.what());
  }
}

result<json> read_object(const std::filesystem::path& file) {
  std::error_code error;
  const auto bytes = std::filesystem::file_size(file, error);
  if (error)
    return fail(fault::config_invalid, file.string() + ": " + error.message());
  if (bytes > config_bytes_max)
    return fail(fault::config_invalid,
                file.string() + ": " + std::to_string(bytes) + " bytes; at most " + std::to_string(config_bytes_max));
  std::ifstream stream{file, std::ios::binary};
  std::string text(bytes, '\0');
  if (!stream.read(text.data(), static_cast<std::streamsize>(bytes)))
    return fail(fault::config_invalid, file.string() + ": cannot be read");
  return parse_object(text, file.string(), config_depth_max);
}

key_reader::key_reader(const json& object, std::string where, std::optional<protocols::failure>& problem)
    : object_(&object), where_(std::move(where)), problem_(&problem) {}

const json* key_reader::find(const char* key) const {
  const auto at = object_->find(key);
  return at == object_->end() || at->is_null() ? nullptr : &*at;
}

bool key_reader::has(const char* key) const {
  return find(key) != nullptr;
}

bool key_reader::differ(const char* key, const char* other) const {
  return has(key) && has(other) && *find(key) != *find(other);
}

void key_reader::account_for(std::initializer_list<key_rules> rules) {
  if (const auto found = find_unaccounted(*object_, rules))
    refuse(found->key.c_str(), found->valid);
}

void key_reader::refuse(const char* key, const std::string& valid) {
  if (*problem_)
    return;
  const json* there = find(key);
  *problem_ =
      protocols::failure{fault::config_invalid,
                         where_ + key + (there ? " is " + shown(*there) : " is missing") + "; valid here: " + valid};
}

std::uint32_t key_reader::count(const char* key, std::uint32_t highest) {
  const json* there = find(key);
  if (there && there->is_number_unsigned()) {
    const auto value = there->get<std::uint64_t>();
    if (value >= 1 && value <= highest)
      return static_cast<std::uint32_t>(value);
  }
  refuse(key, "an integer from 1 to " + std::to_string(highest));
  return 1;
}

std::uint32_t key_reader::count_or(const char* key, std::uint32_t otherwise, std::uint32_t highest) {
  return has(key) ? count(key, highest) : otherwise;
}

std::int32_t key_reader::token(const char* key, std::uint32_t vocabulary) {
  const json* there = find(key);
  if (there && there->is_number_unsigned() && there->get<std::uint64_t>() < vocabulary)
    return there->get<std::int32_t>();
  refuse(key, "a token id below the vocabulary's " + std::to_string(vocabulary));
  return 0;
}

double key_reader::number_or(const char* key, double otherwise) {
  return has(key) ? number(key) : otherwise;
}

double key_reader::number(const char* key) {
  const json* there = find(key);
  if (there && there->is_number() && there->get<double>() > 0 &&
      there->get<double>() < std::numeric_limits<float>::max())
    return there->get<double>();
  refuse(key, "a positive number");
  return 1.0;
}

bool key_reader::flag_or(const char* key, bool otherwise) {
  const json* there = find(key);
  if (!there)
    return otherwise;
  if (there->is_boolean())
    return there->get<bool>();
  refuse(key, "true or false");
  return otherwise;
}

std::string key_reader::text_or(const char* key, std::string otherwise) {
  const json* there = find(key);
  if (!there)
    return otherwise;
  if (there->is_string())
    return there->get<std::string>();
  refuse(key, "a string");
  return otherwise;
}

std::vector<std::uint32_t> key_reader::counts(const char* key, std::uint32_t highest) {
  std::vector<std::uint32_t> values;
  const json* there = find(key);
  if (!there)
    return values;
  bool valid = there->is_array();
  for (std::size_t i = 0; valid && i < there->size(); ++i) {
    const json& each = (*there)[i];
    valid = each.is_number_unsigned() && each.get<std::uint64_t>() <= highest;
    if (valid)
      values.push_back(each.get<std::uint32_t>());
  }
  if (!valid) {
    refuse(key, "a list of integers from 0 to " + std::to_string(highest));
    values.clear();
  }
  return values;
}

std::vector<std::string> key_reader::texts(const char* key) {
  const json* there = find(key);
  if (!there)
    return {};
  if (there->is_array() && std::ranges::all_of(*there, [](const json& each) { return each.is_string(); }))
    return there->get<std::vector<std::string>>();
  refuse(key, "a list of texts");
  return {};
}

key_reader key_reader::child(const char* key) {
  const json* there = find(key);
  if (there && !there->is_object()) {
    refuse(key, "an object");
    there = nullptr;
  }
  return key_reader{there ? *there : nothing(), where_ + key + ".", *problem_};
}

} // namespace troupe::gpu::models
