#pragma once

#include <cstdint>
#include <functional>
#include <string_view>
#include <vector>

#include "tools/troupe/drill_crowd.hpp"
#include "tools/troupe/series_job.hpp"

/// What a walk asks, and what each question is answered when nobody else asks anything.
namespace troupe::tools {

/// So many different questions about the pictures that lie beside those of the setup's pages: text alone, one picture,
/// several; answers cut short or not; greedy or sampled with a seed. The same for the same seed; nothing is known of
/// their answers. Errors: config_invalid.
protocols::result<std::vector<known_question>> draw_questions(const series_setup& setup, std::uint64_t seed,
                                                              std::size_t count);

/// Asks each question alone on a cluster of its own, and keeps those that it answers; a question that is too long for
/// it goes. Errors: config_invalid (nothing could be launched), peer_gone (it did not come up, or ended), timeout.
protocols::result<std::vector<known_question>> learn_answers(const series_setup& setup,
                                                             std::vector<known_question> questions,
                                                             const std::function<void(std::string_view)>& progress);

} // namespace troupe::tools
