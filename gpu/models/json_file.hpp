#pragma once

#include <cstdint>
#include <filesystem>
#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

#include "gpu/models/config_keys.hpp"
#include "protocols/fault.hpp"

/// JSON that came with a model: bounded in length and depth before it is parsed, and read key by key with messages that
/// name file, key, what is there and what would be valid.
namespace troupe::gpu::models {

inline constexpr std::uint64_t config_bytes_max = 1024 * 1024;
inline constexpr unsigned config_depth_max = 16;

/// Errors: config_invalid (depth, syntax with its byte offset, not an object).
protocols::result<nlohmann::json> parse_object(std::string_view text, const std::string& file, unsigned depth_max);
/// Errors: config_invalid (not readable, longer than config_bytes_max, those of parse_object).
protocols::result<nlohmann::json> read_object(const std::filesystem::path& file);

/// Reads typed keys of one object. The first problem is kept in `problem`, which child objects share, and every read
/// after it gives a harmless value: a long list of keys is read in a straight line and checked once at its end.
class key_reader {
public:
  /// Ownership: both must outlive the reader.
  key_reader(const nlohmann::json& object, std::string where, std::optional<protocols::failure>& problem);

  std::uint32_t count(const char* key, std::uint32_t highest);
  std::uint32_t count_or(const char* key, std::uint32_t otherwise, std::uint32_t highest);
  std::int32_t token(const char* key, std::uint32_t vocabulary);
  double number_or(const char* key, double otherwise);
  bool flag_or(const char* key, bool otherwise);
  std::string text_or(const char* key, std::string otherwise);
  double number(const char* key);
  std::vector<std::uint32_t> counts(const char* key, std::uint32_t highest); ///< empty when absent
  std::vector<std::string> texts(const char* key);                           ///< empty when absent
  /// An empty object when absent or null.
  key_reader child(const char* key);

  bool has(const char* key) const;
  /// Both are there, and not with the same value.
  bool differ(const char* key, const char* other) const;
  /// Refuses what no rule admits.
  void account_for(std::initializer_list<key_rules> rules);
  /// "reader/config.json: text_config.hidden_act is "relu"; valid here: "silu"".
  void refuse(const char* key, const std::string& valid);

private:
  const nlohmann::json* find(const char* key) const;

  const nlohmann::json* object_;
  std::string where_; ///< "reader/config.json: text_config."
  std::optional<protocols::failure>* problem_;
};

} // namespace troupe::gpu::models
