#pragma once

#include <string>
#include <string_view>

#include <doctest/doctest.h>

#include "runtime/cluster/job_status.hpp"
#include "tests/cli/command.hpp"
#include "tests/tally/tally_program.hpp"

namespace troupe::tests {

/// This process knows `tally`: its spec, and the frames of its clients.
inline void know_tally() {
  if (protocols::find_program("tally") == nullptr)
    REQUIRE(tally::add_tally());
}

/// A cluster of `tally` as a user would launch it: real processes, started by the supervisor from a spec.
class tally_job {
public:
  /// `more`: further members of the spec, begun by a comma. `rules`: faults that are armed before a rank runs.
  explicit tally_job(std::string_view more = "", const std::vector<std::string>& rules = {})
      : spec_(here_.write("tally.json", spec_text(more))), up_(arguments(rules), {}, RLIM_INFINITY, program()) {}

  static std::string program() { return TROUPE_BINARY_DIR "/troupe_tally"; }
  static std::string spec_text(std::string_view more) {
    return R"({"troupe": 1, "name": "tally", "program": "tally", "pools": {
      "teller": {"role": "teller"}, "counter": {"role": "counter", "tensor_parallel": 2}})" +
           std::string{more} + "}";
  }

  command& up() { return up_; }
  bool is_ready() { return up_.prints("is ready"); }
  std::string file(std::string_view name) const { return here_ / "jobs" + "/" + here_.job() + "/" + std::string{name}; }
  /// The process of that generation of a rank, once it is ready.
  pid_t ready_rank(std::string_view label, std::uint32_t generation) const {
    pid_t found = 0;
    REQUIRE(holds_within(patience, [&] {
      const auto status = cluster::parse_job_status(content_of(file("status.json")));
      if (!status || status->state != "ready")
        return false;
      for (const auto& rank : status->ranks)
        if (rank.label == label && rank.generation == generation)
          found = rank.pid;
      return found != 0;
    }));
    return found;
  }
  /// Another command about the job.
  command_end run(std::vector<std::string> words) const {
    if (words.front() != "ps") // which is about all of them
      words.insert(words.end(), {"--job", here_.job()});
    words.insert(words.end(), {"--run-dir", here_ / "jobs"});
    return command{std::move(words), {}, RLIM_INFINITY, program()}.finish();
  }
  command_end down() { return run({"down"}); }

private:
  std::vector<std::string> arguments(const std::vector<std::string>& rules) const {
    std::vector<std::string> all{"up", spec_, "--job", here_.job(), "--run-dir", here_ / "jobs"};
    for (const auto& rule : rules)
      all.insert(all.end(), {"--inject", rule});
    return all;
  }

  scratch_folder here_;
  std::string spec_;
  command up_;
};

} // namespace troupe::tests
