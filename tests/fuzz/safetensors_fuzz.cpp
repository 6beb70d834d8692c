#include "gpu/models/safetensors.hpp"
#include "inputs.hpp"
#include "target.hpp"

using namespace troupe;

/// A weights file: every tensor that is named lies within the file, and can be read to its last byte.
TROUPE_FUZZ_TARGET(safetensors) {
  static const fuzz::folder scratch;
  const auto files = gpu::models::tensor_files::open_file(scratch.put("model.safetensors", input));
  if (!files)
    return;
  for (const auto& [name, tensor] : (*files)->tensors())
    TROUPE_ASSERT("within the file", tensor.bytes.size() <= input.size());
  (void)(*files)->fingerprint();
}
