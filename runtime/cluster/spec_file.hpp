#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <string_view>

#include "protocols/cluster/cluster_spec.hpp"
#include "protocols/fault.hpp"
#include "runtime/cluster/json_text.hpp"

/// Reads a cluster spec (JSON, comments allowed) and says everything that is wrong with it at once.
namespace troupe::cluster {

/// A spec that was read and found valid.
struct loaded_spec {
  protocols::cluster_spec spec;
  std::filesystem::path file; ///< as it was given
  std::string effective_json; ///< every key with its value, in the table's order; what ranks are launched with
  std::string digest;         ///< XXH3-64 of `effective_json`, hexadecimal; what the parity handshake compares
  std::map<std::string, text_place> written; ///< where each key of the file stands; not here: a default

  /// "reader.json:12:5", or the file alone for what was not written.
  std::string where(const std::string& key) const;
};

/// Errors: config_invalid; `what` has one line a problem, each with file, line and column, at most
/// `key_reader::problems_max` and then how many more.
protocols::result<loaded_spec> read_spec(const std::filesystem::path& file);

/// The same for text that is in memory; `file` is what errors call it and what the model's path is relative to.
protocols::result<loaded_spec> read_spec_text(std::string_view text, const std::filesystem::path& file);

/// What a rank does with `launch::spec_json`. Errors: config_invalid.
protocols::result<protocols::cluster_spec> parse_effective_spec(std::string_view json);

/// Canonical: one form for equal specs, whatever was written or left to the default.
std::string effective_json(const protocols::cluster_spec& spec);
std::string digest_of(std::string_view effective_json);

} // namespace troupe::cluster
