#include <memory>

#include "runtime/cluster/rank_main.hpp"
#include "tools/troupe/commands.hpp"

namespace troupe::tools {

void add_rank(CLI::App& troupe, action& chosen) {
  auto* command = troupe.add_subcommand("rank", "one rank of a cluster; started by the supervisor");
  command->group("");
  auto arguments = std::make_shared<cluster::rank_arguments>();
  command->add_option("--rank", arguments->rank)->required();
  command->add_option("--control-fd", arguments->control_fd)->required();
  command->add_option("--death-fd", arguments->death_fd)->required();
  command->add_option("--pulse-fd", arguments->pulse_fd)->required();
  command->add_option("--supervisor-ms", arguments->supervisor_ms)->required();
  command->add_option("--supervisor-pid", arguments->supervisor_pid)->required();
  command->add_option("--plugin", arguments->plugins);
  command->callback([arguments, &chosen] { chosen = [arguments] { return cluster::rank_main(*arguments); }; });
}

} // namespace troupe::tools
