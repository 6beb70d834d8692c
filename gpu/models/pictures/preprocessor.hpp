#pragma once

#include <filesystem>
#include <string>

#include <nlohmann/json.hpp>

#include "protocols/fault.hpp"

namespace troupe::gpu::models {

/// What a folder says of how pictures are prepared.
struct preprocessor_object {
  nlohmann::json object;
  std::string where; ///< "reader/preprocessor_config.json: ", for messages
};

/// preprocessor_config.json, or `image_processor` of processor_config.json, as newer folders hold it. Where both are
/// there, versions of transformers differ in which of them they take, so they must say the same.
/// Contract: K10. Errors: config_invalid with file, key and what would be valid.
protocols::result<preprocessor_object> find_preprocessor(const std::filesystem::path& folder);

} // namespace troupe::gpu::models
