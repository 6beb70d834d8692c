#include <algorithm>

#include "protocols/cluster/life_messages.hpp"
#include "protocols/limits.hpp"
#include "protocols/serve/request_messages.hpp"

namespace troupe::protocols {

std::string_view name(life_state state) noexcept {
  switch (state) {
  case life_state::spawned:
    return "spawned";
  case life_state::joined:
    return "joined";
  case life_state::agreed:
    return "agreed";
  case life_state::grouped:
    return "grouped";
  case life_state::warm:
    return "warm";
  case life_state::ready:
    return "ready";
  case life_state::draining:
    return "draining";
  case life_state::left:
    return "left";
  case life_state::failed:
    return "failed";
  }
  return "unknown";
}

std::optional<std::string> find_invalid(const request_trace& trace) {
  if (trace.name.size() > limits::request_name_bytes_max)
    return "the request's name has " + std::to_string(trace.name.size()) + " bytes; at most " +
           std::to_string(limits::request_name_bytes_max);
  if (std::ranges::any_of(trace.name, [](char each) { return each < ' ' || each > '~'; }))
    return "the request's name is of printable ASCII characters only";
  return std::nullopt;
}

std::string_view name(phase part) noexcept {
  switch (part) {
  case phase::ingest:
    return "ingest";
  case phase::queue:
    return "queue";
  case phase::encode:
    return "encode";
  case phase::rows:
    return "rows";
  case phase::prefill:
    return "prefill";
  case phase::kv:
    return "kv";
  case phase::decode:
    return "decode";
  }
  return "unknown";
}

} // namespace troupe::protocols
