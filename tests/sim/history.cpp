#include "tests/sim/history.hpp"

#include <fmt/format.h>

#include "tests/sim/time_line.hpp"

namespace troupe::sim {

namespace {

std::string stamped(protocols::time_point now, const std::string& sentence) {
  const auto us = std::chrono::duration_cast<std::chrono::microseconds>(now - time_line::epoch).count();
  return fmt::format("{:>12.3f} ms  {}", static_cast<double>(us) / 1000.0, sentence);
}

} // namespace

void history::say(std::string sentence) {
  if (tells_)
    story_.push_back(stamped(time_.now(), sentence));
}

void history::violate(std::string check, std::string what) {
  if (violated())
    return;
  check_ = std::move(check);
  breach_ = std::move(what);
  say("BREACH of " + check_ + ": " + breach_);
}

} // namespace troupe::sim
