#pragma once

#include <cstdint>
#include <filesystem>
#include <stdexcept>
#include <string>
#include <string_view>

#include <nlohmann/json.hpp>

#include "gpu/models/config_keys.hpp"

/// Reading a tokenizer's files. Thrown inside gpu/models and caught by the functions of text_io.hpp, which turn it into
/// config_invalid: a fault may lie many levels deep in a file that is read once.
namespace troupe::gpu::models {

/// "tokenizer.json: model.type is "WordPiece"; valid is "BPE"".
struct bad_file : std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// Tokenizers of the largest published vocabularies come to a tenth of it.
inline constexpr std::uintmax_t tokenizer_bytes_max = 256u << 20;
inline constexpr unsigned tokenizer_depth_max = 16;

/// Throws bad_file.
std::string read_text(const std::filesystem::path& path);
/// An object, or throws bad_file.
nlohmann::json read_tokenizer_json(const std::filesystem::path& path);

/// A value of a JSON file with its place, for words that a person can act on.
class json_at {
public:
  /// Ownership: `value` must outlive this.
  json_at(const nlohmann::json& value, std::string file, std::string key = {})
      : value_(&value), file_(std::move(file)), key_(std::move(key)) {}

  const nlohmann::json& operator*() const noexcept { return *value_; }
  const nlohmann::json* operator->() const noexcept { return value_; }

  /// Null for a key that is not there.
  json_at operator[](const std::string& name) const;
  /// Of an array, below its size.
  json_at operator[](std::size_t index) const;

  // These throw bad_file for anything else.
  const std::string& text() const;
  bool flag_or(bool absent) const;
  void require_false() const; ///< or absent
  void require_text(std::string_view only) const;
  void require_array() const;
  void account_for(key_rules rules) const; ///< where it is an object

  bad_file bad(std::string_view valid) const;

private:
  const nlohmann::json* value_;
  std::string file_;
  std::string key_;
};

} // namespace troupe::gpu::models
