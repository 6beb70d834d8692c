#include "runtime/cluster/rank_launcher.hpp"

#include <unistd.h>

#include <string_view>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "runtime/base/random.hpp"

namespace troupe::cluster {

using protocols::result;

rank_launcher::rank_launcher(job_data job, pipe_ends death, supervisor_pulse pulse, held_program program)
    : job_(std::move(job)), death_(std::move(death)), pulse_(std::move(pulse)), program_(std::move(program)) {
  base::fill_random(token_);
}

result<rank_launcher> rank_launcher::make(job_data job) {
  auto death = make_pipe();
  if (!death)
    return tl::unexpected{death.error()};
  auto pulse = supervisor_pulse::make();
  if (!pulse)
    return tl::unexpected{pulse.error()};
  auto program = held_program::hold(job.command.at(0));
  if (!program)
    return tl::unexpected{program.error()};
  return rank_launcher{std::move(job), std::move(*death), std::move(*pulse), std::move(*program)};
}

/// Contract: C13, K18.
result<child_process> rank_launcher::spawn(protocols::rank_id rank, int control) {
  std::vector<int> given;
  const auto give = [&](int fd) {
    given.push_back(fd);
    return first_given_fd + static_cast<int>(given.size()) - 1;
  };
  auto command = job_.command;
  const auto add = [&](std::string_view name, const std::string& value) {
    command.emplace_back(name);
    command.push_back(value);
  };
  add("--rank", std::to_string(rank.value));
  add("--control-fd", std::to_string(give(control)));
  add("--death-fd", std::to_string(give(death_.read.get())));
  add("--pulse-fd", std::to_string(give(pulse_.fd())));
  add("--supervisor-ms", std::to_string(job_.supervisor_ms));
  add("--supervisor-pid", std::to_string(::getpid()));
  const auto program = fmt::format("/proc/self/fd/{}", give(program_.file()));
  for (const auto& plugin : program_.plugins())
    add("--plugin", fmt::format("{}={}", plugin.name, give(plugin.file.get())));
  return child_process::spawn(command, given, program);
}

result<std::unique_ptr<supervised_rank>>
rank_launcher::launch(const protocols::rank_plan& rank, protocols::generation born, protocols::cache_epoch epoch) {
  auto control = make_stream_pair();
  if (!control)
    return tl::unexpected{control.error()};
  auto process = spawn(rank.id, control->second.get());
  if (!process)
    return tl::unexpected{process.error()};

  auto started = std::make_unique<supervised_rank>(
      rank, std::move(*process), control_link::at_supervisor(std::move(control->first), rank.id),
      job_.paths.log_of(rank.id), fmt::format("{}:{}:{} ", job_.host, rank.id.value, rank.label));
  std::vector<protocols::injection_rule> rules;
  for (const auto& order : job_.rules)
    if (order.rank == rank.id && born == protocols::generation{1})
      rules.push_back(order.rule);
  const auto told = started->send(protocols::launch{.job_token = token_,
                                                    .job = job_.job,
                                                    .run_directory = job_.paths.directory.string(),
                                                    .spec_json = job_.spec_json,
                                                    .born = born,
                                                    .drills = job_.drills ? 1u : 0u,
                                                    .rules = std::move(rules),
                                                    .epoch = epoch});
  if (!told && told.error().code != protocols::fault::peer_gone) { // how it ended will be said
    started->kill();
    return tl::unexpected{told.error()};
  }
  return started;
}

} // namespace troupe::cluster
