#pragma once

#include <ctime>
#include <string>
#include <utility>
#include <vector>

#include "gpu/models/templates/template_syntax.hpp"
#include "gpu/models/templates/template_value.hpp"

namespace troupe::gpu::models {

/// Runs `program` with these names and the caller's date, and returns what it writes. Steps and bytes are bounded,
/// since a template comes with a model from anywhere. Throws template_problem with the place of what is not understood,
/// or of the template's own `raise_exception`.
marked_text run_template(const statements& program, value_map names, const std::tm& now);

} // namespace troupe::gpu::models
