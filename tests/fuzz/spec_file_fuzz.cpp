#include "inputs.hpp"
#include "runtime/cluster/spec_explain.hpp"
#include "target.hpp"

using namespace troupe;

/// A spec as a user writes it: what is accepted has one effective form, which a rank reads back as the same (B1).
TROUPE_FUZZ_TARGET(spec_file) {
  const auto read = cluster::read_spec_text(fuzz::text_of(input), "spec.json");
  if (!read) {
    TROUPE_ASSERT("a spec is refused in words", !read.error().what.empty());
    return;
  }
  cluster::explain_values(*read);
  const auto again = cluster::parse_effective_spec(read->effective_json);
  TROUPE_ASSERT("B1", again && cluster::effective_json(*again) == read->effective_json);
  if (const auto plan = protocols::make_plan(read->spec))
    cluster::explain_plan(read->spec, *plan);
}
