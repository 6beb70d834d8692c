#include "runtime/cluster/job_status.hpp"

#include <nlohmann/json.hpp>

#include "runtime/cluster/json_text.hpp"

namespace troupe::cluster {

NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(job_status::rank, id, label, role, pid, device, state, generation)

static void to_json(nlohmann::json& json, const job_status& status) {
  json = {{"state", status.state}, {"front_socket", status.front_socket},
          {"ranks", status.ranks}, {"exit_code", status.exit_code},
          {"cause", status.cause}, {"http", status.http}};
}

/// The last three are absent in what an earlier build has written.
static void from_json(const nlohmann::json& json, job_status& status) {
  json.at("state").get_to(status.state);
  json.at("front_socket").get_to(status.front_socket);
  json.at("ranks").get_to(status.ranks);
  status.exit_code = json.value("exit_code", 0);
  status.cause = json.value("cause", "");
  status.http = json.value("http", "");
}

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
