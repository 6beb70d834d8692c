#pragma once

#include <filesystem>
#include <vector>

#include <nlohmann/json.hpp>

#include "protocols/fault.hpp"
#include "protocols/ids.hpp"

namespace troupe::gpu::models {

/// Every token with which the folder's files end an answer: those of generation_config.json, of `config` (with its
/// text_config) and the eos_token of tokenizer_config.json. A file that names one of two was written by hand or by a
/// tool that knew the other from elsewhere; an answer that runs past the end of its turn is worse than one that stops.
/// A token that the model has no row for is left out: no answer holds it.
/// Contract: K10. Errors: config_invalid with file, key and what would be valid.
protocols::result<std::vector<protocols::token_id>>
find_end_tokens(const std::filesystem::path& folder, const nlohmann::json& config, std::uint32_t vocabulary);

} // namespace troupe::gpu::models
