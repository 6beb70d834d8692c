#pragma once

#include <span>
#include <string>

#include <sys/types.h>

#include "protocols/cluster_plan.hpp"
#include "protocols/life_machine.hpp"
#include "runtime/base/exit_code.hpp"
#include "runtime/cluster/job_status.hpp"

/// What a supervisor shows of its cluster to those outside.
namespace troupe::cluster {

/// `pids` by rank; all have been started.
job_status status_of(const protocols::cluster_plan& plan, const protocols::life_machine& life,
                     std::span<const pid_t> pids, std::string front_socket);

/// "starting: waiting for decode.0 (joined)".
std::string waiting_line(const protocols::cluster_plan& plan, const protocols::life_machine& life);

/// `interrupted`: a person has asked for the end, by SIGINT.
base::exit_code exit_code_of(protocols::life_machine::outcome how, bool interrupted) noexcept;

} // namespace troupe::cluster
