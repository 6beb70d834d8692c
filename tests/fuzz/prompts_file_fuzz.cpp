#include "inputs.hpp"
#include "target.hpp"
#include "tools/troupe/pages.hpp"

using namespace troupe;

/// The file of --pages.
TROUPE_FUZZ_TARGET(prompts_file) {
  static const fuzz::folder scratch;
  tools::ask_options options;
  options.pages = scratch.put("pages.json", input).string();
  const auto pages = tools::pages_of(options);
  if (!pages)
    return;
  for (const auto& each : *pages)
    TROUPE_ASSERT("every page asks something", !each.prompt.empty());
}
