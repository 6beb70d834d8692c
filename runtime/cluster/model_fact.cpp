#include "runtime/cluster/model_fact.hpp"

#include <array>
#include <fstream>
#include <span>
#include <sstream>
#include <string>
#include <string_view>

#include "runtime/base/digest.hpp"

namespace troupe::cluster {

namespace {

constexpr std::array<std::string_view, 11> files{
    "config.json",         "generation_config.json", "preprocessor_config.json",    "processor_config.json",
    "tokenizer.json",      "tokenizer_config.json",  "special_tokens_map.json",     "added_tokens.json",
    "chat_template.jinja", "chat_template.json",     "model.safetensors.index.json"};

std::string digest_of(const std::filesystem::path& file) {
  std::ifstream stream{file, std::ios::binary};
  if (!stream)
    return "absent";
  std::ostringstream text;
  text << stream.rdbuf();
  return base::hex(base::digest(std::as_bytes(std::span{text.view()})));
}

} // namespace

protocols::parity_fact model_files_fact(const std::filesystem::path& folder) {
  protocols::parity_fact fact{.key = "model.files", .value = {}};
  for (const auto file : files)
    fact.value.append(file).append(" ").append(digest_of(folder / file)).append("\n");
  return fact;
}

} // namespace troupe::cluster
