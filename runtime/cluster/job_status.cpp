#include "runtime/cluster/job_status.hpp"

#include <nlohmann/json.hpp>

#include "runtime/cluster/json_text.hpp"

namespace troupe::cluster {

NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(job_status::rank, id, label, role, pid, device, state, generation)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(job_status, state, front_socket, ranks)

std::string to_json(const job_status& status) {
  return text_of(nlohmann::ordered_json(nlohmann::json(status)), 2) + "\n";
}

protocols::result<job_status> parse_job_status(std::string_view json) {
  try {
    return nlohmann::json::parse(json).get<job_status>();
  } catch (const nlohmann::json::exception& problem) { // the library's only way to say it
    return protocols::fail(protocols::fault::config_invalid, std::string{"status.json: "} + problem.what());
  }
}

std::string name_of(protocols::life_machine::state state) {
  using enum protocols::life_machine::state;
  switch (state) {
  case starting:
    return "starting";
  case ready:
    return "ready";
  case recovering:
    return "recovering";
  case draining:
    return "draining";
  case aborting:
    return "aborting";
  case killing:
    return "killing";
  case ended:
    return "ended";
  }
  return {};
}

} // namespace troupe::cluster
