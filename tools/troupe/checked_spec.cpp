#include "tools/troupe/checked_spec.hpp"

#include <fmt/format.h>

#include <utility>

#include "protocols/serve/serve_program.hpp"

namespace troupe::tools {

protocols::result<checked_spec> check_spec(const std::string& file) {
  auto loaded = cluster::read_spec(file);
  if (!loaded)
    return tl::unexpected(loaded.error());
  auto plan = protocols::make_plan(loaded->spec);
  if (!plan)
    return protocols::fail(plan.error().code, file + ": " + plan.error().what);
  auto model = cluster::check_model(*loaded);
  if (!model)
    return tl::unexpected(model.error());
  return checked_spec{.loaded = std::move(*loaded), .plan = std::move(*plan), .model = std::move(*model)};
}

protocols::result<void> check_serves(const protocols::cluster_spec& spec, const std::string& whose,
                                     std::string_view verb) {
  const auto own = protocols::serve_program().name;
  if (spec.program == own)
    return {};
  return protocols::fail(protocols::fault::config_invalid,
                         fmt::format("{} runs program {}, and {} speaks to clusters of program {} alone; with every "
                                     "program work: up, ps, logs, trace, inject, down, spec",
                                     whose, spec.program, verb, own));
}

} // namespace troupe::tools
