#include "tools/troupe/checked_spec.hpp"

#include <utility>

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

} // namespace troupe::tools
