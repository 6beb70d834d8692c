#pragma once

#include <filesystem>

#include "protocols/cluster/life_messages.hpp"

namespace troupe::cluster {

/// The files of a model folder that change what is computed, beside the weights: a line a file, with its digest or
/// "absent". Ranks read a folder when they start, so that one that starts anew may find other files than those that
/// stayed have read: a new mean of pixels or another template changes answers as another weight does, and no step
/// fails. All ranks state all files: who reads which of them is no rank's secret, and a folder is one thing.
/// Contract: K11.
protocols::parity_fact model_files_fact(const std::filesystem::path& folder);

} // namespace troupe::cluster
