#include "runtime/cluster/rank_launcher.hpp"

#include <unistd.h>

#include <utility>

#include <fmt/format.h>

#include "runtime/base/random.hpp"

namespace troupe::cluster {

using protocols::result;

rank_launcher::rank_launcher(job_data job, pipe_ends death) : job_(std::move(job)), death_(std::move(death)) {
  base::fill_random(token_);
}

result<rank_launcher> rank_launcher::make(job_data job) {
  auto death = make_pipe();
  if (!death)
    return tl::unexpected{death.error()};
  return rank_launcher{std::move(job), std::move(*death)};
}

result<std::unique_ptr<supervised_rank>> rank_launcher::launch(const protocols::rank_plan& rank,
                                                               protocols::generation born) {
  auto control = make_stream_pair();
  if (!control)
    return tl::unexpected{control.error()};
  auto command = job_.command;
  for (const auto& [name, number] : {std::pair{"--rank", static_cast<long>(rank.id.value)},
                                     {"--control-fd", long{rank_control_fd}},
                                     {"--death-fd", long{rank_death_fd}},
                                     {"--supervisor-pid", static_cast<long>(::getpid())}}) {
    command.emplace_back(name);
    command.push_back(std::to_string(number));
  }
  auto process = child_process::spawn(command, control->second.get(), death_.read.get());
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
                                                    .rules = std::move(rules)});
  if (!told && told.error().code != protocols::fault::peer_gone) { // how it ended will be said
    started->kill();
    return tl::unexpected{told.error()};
  }
  return started;
}

} // namespace troupe::cluster
