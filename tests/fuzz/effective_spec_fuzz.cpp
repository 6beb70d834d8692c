#include "inputs.hpp"
#include "protocols/cluster/cluster_plan.hpp"
#include "runtime/cluster/spec_file.hpp"
#include "target.hpp"

using namespace troupe;

/// The spec as a rank gets it with its launch.
TROUPE_FUZZ_TARGET(effective_spec) {
  const auto spec = cluster::parse_effective_spec(fuzz::text_of(input));
  if (!spec)
    return;
  const auto canonical = cluster::effective_json(*spec);
  const auto again = cluster::parse_effective_spec(canonical);
  TROUPE_ASSERT("B1", again && cluster::effective_json(*again) == canonical);
  (void)protocols::make_plan(*spec);
}
