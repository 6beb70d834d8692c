#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <string_view>

#include <fmt/format.h>

#include "gpu/models/templates/template_words.hpp"

namespace troupe::gpu::models {

/// Counts what one rendering does, so that a template and a request of few bytes cannot keep a thread for long. Beyond
/// `steps_max` steps the rendering is refused. Contract: K10. Threads: the renderer's.
class template_steps {
public:
  static constexpr std::uint64_t steps_max = 1'000'000; ///< a turn of a conversation takes some hundred

  void count(template_place at) {
    if (++steps_ > steps_max)
      throw template_problem(at, fmt::format("more than {} steps", steps_max));
  }
  /// A word looks at all that it is given and makes what it gives: a step for each element, or for each piece of text.
  void count_visits(template_place at, const template_value& of) {
    constexpr std::size_t piece_bytes = 64;
    if (const auto* const all = of.list())
      steps_ += all->size();
    else if (const auto* const each = of.map())
      steps_ += each->size();
    else if (const auto* const text = of.text())
      steps_ += text->bytes().size() / piece_bytes;
    count(at);
  }
  template_value counted(template_place at, template_value made) {
    count_visits(at, made);
    return made;
  }
  const template_arguments& counted(const template_arguments& with) {
    for (const auto& each : with.given)
      count_visits(with.at, each);
    return with;
  }
  /// These need not look at the elements.
  static bool is_quick(std::string_view filter) {
    constexpr std::array<std::string_view, 6> quick{"count", "d", "default", "first", "last", "length"};
    return std::ranges::find(quick, filter) != quick.end();
  }

private:
  std::uint64_t steps_ = 0;
};

} // namespace troupe::gpu::models
