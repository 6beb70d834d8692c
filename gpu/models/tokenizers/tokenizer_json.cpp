#include "gpu/models/tokenizers/tokenizer_json.hpp"

#include <fmt/format.h>

#include <fstream>

#include "gpu/models/json_file.hpp"

namespace troupe::gpu::models {

std::string read_text(const std::filesystem::path& path) {
  std::error_code problem;
  const std::uintmax_t bytes = std::filesystem::file_size(path, problem);
  if (problem)
    throw bad_file(fmt::format("{}: {}", path.string(), problem.message()));
  if (bytes > tokenizer_bytes_max)
    throw bad_file(fmt::format("{}: {} bytes; at most {}", path.string(), bytes, tokenizer_bytes_max));
  std::ifstream in(path, std::ios::binary);
  std::string text(bytes, '\0');
  if (!in.read(text.data(), static_cast<std::streamsize>(bytes)))
    throw bad_file(fmt::format("{}: cannot be read", path.string()));
  return text;
}

nlohmann::json read_tokenizer_json(const std::filesystem::path& path) {
  const std::string text = read_text(path);
  auto object = parse_object(text, path.string(), tokenizer_depth_max);
  if (!object)
    throw bad_file(object.error().what);
  return *std::move(object);
}

json_at json_at::operator[](const std::string& name) const {
  static const nlohmann::json absent;
  const auto at = value_->find(name); // end() where this is no object
  return {at == value_->end() ? absent : *at, file_, key_.empty() ? name : key_ + "." + name};
}

json_at json_at::operator[](std::size_t index) const {
  return {(*value_)[index], file_, fmt::format("{}[{}]", key_, index)};
}

const std::string& json_at::text() const {
  if (!value_->is_string())
    throw bad("a string");
  return value_->get_ref<const std::string&>();
}

bool json_at::flag_or(bool absent) const {
  if (value_->is_null())
    return absent;
  if (!value_->is_boolean())
    throw bad("true or false");
  return value_->get<bool>();
}

void json_at::require_false() const {
  if (flag_or(false))
    throw bad("false");
}

void json_at::require_text(std::string_view only) const {
  if (!value_->is_string() || text() != only)
    throw bad(fmt::format("\"{}\"", only));
}

void json_at::require_array() const {
  if (!value_->is_array())
    throw bad("a list");
}

void json_at::account_for(key_rules rules) const {
  if (const auto found = value_->is_object() ? find_unaccounted(*value_, {rules}) : std::nullopt)
    throw(*this)[found->key].bad(found->valid);
}

bad_file json_at::bad(std::string_view valid) const {
  constexpr std::size_t shown_max = 200;
  std::string is = value_->is_structured() ? value_->type_name()
                                           : value_->dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  if (is.size() > shown_max)
    is = is.substr(0, shown_max) + "...";
  return bad_file(fmt::format("{}: {} is {}; valid is {}", file_, key_, is, valid));
}

} // namespace troupe::gpu::models
