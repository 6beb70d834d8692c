#include "inputs.hpp"
#include "protocols/cluster/cluster_plan.hpp"
#include "runtime/cluster/injection_text.hpp"
#include "runtime/cluster/spec_file.hpp"
#include "target.hpp"

using namespace troupe;

/// A fault to inject, as written on the command line, for the reader's cluster.
TROUPE_FUZZ_TARGET(injection_rule) {
  static const auto spec = cluster::read_spec(TROUPE_SOURCE_DIR "/deploy/specs/reader.json");
  TROUPE_ASSERT("the reader's spec is read", spec);
  static const auto plan = protocols::make_plan(spec->spec);
  TROUPE_ASSERT("the reader's spec has a plan", plan);
  const auto rule = cluster::parse_rule(fuzz::text_of(input));
  if (rule)
    (void)cluster::resolve_rule(*rule, *plan);
}
