#include "protocols/drill/injection_points.hpp"

namespace troupe::protocols {

std::string_view name(drill_phase phase) noexcept {
  switch (phase) {
  case drill_phase::spawn:
    return "spawn";
  case drill_phase::handshake:
    return "handshake";
  case drill_phase::grouping:
    return "group making";
  case drill_phase::warm_up:
    return "warm-up";
  case drill_phase::idle:
    return "idle";
  case drill_phase::preflight:
    return "preflight";
  case drill_phase::header:
    return "header sent";
  case drill_phase::payload:
    return "payload in flight";
  case drill_phase::collective:
    return "in collective";
  case drill_phase::emitted:
    return "result emitted";
  case drill_phase::hard_cut:
    return "hard cut";
  case drill_phase::drain:
    return "drain";
  }
  return {};
}

std::string_view name(drill_role role) noexcept {
  switch (role) {
  case drill_role::rank:
    return "rank";
  case drill_role::supervisor:
    return "supervisor";
  case drill_role::front:
    return "front";
  case drill_role::encode:
    return "encode";
  case drill_role::prefill:
    return "prefill";
  case drill_role::decode:
    return "decode";
  case drill_role::executor:
    return "executor";
  case drill_role::link:
    return "link";
  case drill_role::listener:
    return "listener";
  case drill_role::watchdog:
    return "watchdog";
  }
  return {};
}

} // namespace troupe::protocols
