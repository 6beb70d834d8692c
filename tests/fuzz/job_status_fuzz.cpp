#include "inputs.hpp"
#include "runtime/cluster/job_status.hpp"
#include "target.hpp"

using namespace troupe;

/// status.json of a run directory.
TROUPE_FUZZ_TARGET(job_status) {
  const auto status = cluster::parse_job_status(fuzz::text_of(input));
  if (!status)
    return;
  const auto again = cluster::parse_job_status(cluster::to_json(*status));
  TROUPE_ASSERT("status.json", again && *again == *status);
}
