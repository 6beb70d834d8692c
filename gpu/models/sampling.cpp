#include "gpu/choice.hpp"
#include "gpu/models/model.hpp"

namespace troupe::gpu::models {

protocols::token_id choose(std::span<const float> logits, const protocols::sampling_options& options,
                           std::uint64_t position) {
  return gpu::choose(logits, {options.temperature, options.top_p, options.seed}, position);
}

} // namespace troupe::gpu::models
