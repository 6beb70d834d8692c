#include "gpu/models/safetensors.hpp"
#include "inputs.hpp"
#include "target.hpp"

using namespace troupe;

/// model.safetensors.index.json, beside one shard that holds one tensor "w" of no elements.
TROUPE_FUZZ_TARGET(weights_index) {
  static const fuzz::folder scratch;
  constexpr std::string_view header = R"({"w":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}})";
  const std::uint64_t length = header.size();
  std::string shard{reinterpret_cast<const char*>(&length), sizeof length};
  scratch.put("a.safetensors", shard += header);
  scratch.put("model.safetensors.index.json", input);
  const auto files = gpu::models::tensor_files::open_folder(scratch.path());
  if (files)
    (void)(*files)->fingerprint();
}
