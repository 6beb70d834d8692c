#pragma once

#include <ctime>
#include <string>
#include <utility>
#include <vector>

#include "gpu/models/templates/template_syntax.hpp"
#include "gpu/models/templates/template_value.hpp"

namespace troupe::gpu::models {

/// What `program` writes, given these names and the caller's clock. Steps and bytes are bounded: a template comes with
/// a model from anywhere. Throws template_problem, at the place of what is not understood or of what the template
/// refuses.
marked_text run_template(const statements& program, value_map names, const std::tm& now);

} // namespace troupe::gpu::models
