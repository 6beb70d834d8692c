#pragma once

#include <filesystem>

#include "gpu/models/tokenizers/tokenizer_json.hpp"

namespace troupe::gpu::models {

/// Judges what the files beside tokenizer.json say of its tokens: tokenizer_config.json, and of older folders
/// added_tokens.json and special_tokens_map.json, which count where the first has no added_tokens_decoder. Tokens that
/// they add are not added here: a folder that a library would read as another tokenizer is refused.
/// Contract: K10. `added`: the added_tokens of tokenizer.json. Throws bad_file.
void check_neighbours(const std::filesystem::path& folder, const json_at& added);

} // namespace troupe::gpu::models
