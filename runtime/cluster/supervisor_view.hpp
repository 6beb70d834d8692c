#pragma once

#include <memory>
#include <span>
#include <string>

#include "protocols/cluster/cluster_plan.hpp"
#include "protocols/cluster/life_machine.hpp"
#include "runtime/base/exit_code.hpp"
#include "runtime/cluster/job_status.hpp"
#include "runtime/cluster/supervised_rank.hpp"

/// What a supervisor shows of its cluster to those outside.
namespace troupe::cluster {

/// `ranks` by number; all have been started.
job_status status_of(std::span<const std::unique_ptr<supervised_rank>> ranks, const protocols::life_machine& life,
                     std::string front_socket);

/// "starting: waiting for decode.0 (joined)".
std::string waiting_line(const protocols::cluster_plan& plan, const protocols::life_machine& life);

/// `interrupted`: a person has asked for the end, by SIGINT.
base::exit_code exit_code_of(protocols::life_machine::outcome how, bool interrupted) noexcept;

} // namespace troupe::cluster
