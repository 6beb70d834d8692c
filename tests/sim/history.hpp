#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "tests/sim/draw.hpp"
#include "tests/sim/time_line.hpp"

namespace troupe::sim {

/// What happened, in order. Every `note` enters the hash, which shows that two runs were the same; `say` only adds to
/// the story. Sentences are made only when the story is told.
class history {
public:
  history(const time_line& time, bool tells) : time_(time), tells_(tells) {}

  /// `of`: numbers that say what happened. `words`: the same as a sentence.
  template <class Words, class... Numbers>
  void note(const Words& words, Numbers... of) {
    hash_ = mix(hash_, static_cast<std::uint64_t>(time_.now().time_since_epoch().count()));
    ((hash_ = mix(hash_, static_cast<std::uint64_t>(of))), ...);
    ++steps_;
    if (tells_)
      say(words());
  }
  /// A sentence that is no step.
  void say(std::string sentence);

  /// The first breach; later ones follow from it.
  void violate(std::string check, std::string what);

  bool tells() const noexcept { return tells_; }
  bool violated() const noexcept { return !check_.empty(); }
  const std::string& check() const noexcept { return check_; } ///< that found the breach
  const std::string& breach() const noexcept { return breach_; }
  std::uint64_t hash() const noexcept { return hash_; }
  std::uint64_t steps() const noexcept { return steps_; }
  const std::vector<std::string>& story() const noexcept { return story_; }

private:
  const time_line& time_;
  bool tells_;
  std::uint64_t hash_ = 0;
  std::uint64_t steps_ = 0;
  std::string check_;
  std::string breach_;
  std::vector<std::string> story_;
};

} // namespace troupe::sim
