#pragma once

#include <optional>
#include <string>
#include <vector>

#include "gpu/models/model.hpp"
#include "runtime/cluster/spec_file.hpp"

namespace troupe::cluster {

/// What is known of a spec together with its model, before a process is started.
struct model_check {
  std::optional<gpu::models::model_facts> facts; ///< absent when only stubs run
  std::vector<std::string> notes;                ///< what will work and may surprise, one line each
};

/// Reads the model's configuration (no weights) and checks every pool's layout against it.
/// Errors: config_invalid, one line a problem with the spec's file and line.
protocols::result<model_check> check_model(const loaded_spec& loaded);

} // namespace troupe::cluster
