#include "tools/troupe/matrix_places.hpp"

namespace troupe::tools {

using namespace protocols;

namespace {

matrix_place at(std::string_view point, std::uint32_t skip = 0) {
  return {point, skip, {}};
}
matrix_place never(std::string_view reason) {
  return {{}, 0, reason};
}

matrix_place place_of_supervisor(drill_phase phase) {
  switch (phase) {
  case drill_phase::spawn:
    return at("supervisor.spawning", 3);
  case drill_phase::handshake:
    return at("supervisor.roster");
  case drill_phase::grouping:
    return at("supervisor.grouping");
  case drill_phase::warm_up:
    return at("supervisor.warming");
  case drill_phase::idle:
  case drill_phase::emitted:
    return at("supervisor.idle");
  case drill_phase::drain:
    return at("supervisor.draining");
  case drill_phase::preflight:
  case drill_phase::header:
  case drill_phase::payload:
  case drill_phase::collective:
    return never("the supervisor takes no part in a request; 'result emitted' strikes it while some are served");
  case drill_phase::hard_cut:
    break;
  }
  return never("no program of this build ends an epoch");
}

/// It has no machine and no clock of its own: what it does, its leader's plan says.
matrix_place place_of_encode_worker(drill_phase phase) {
  if (phase == drill_phase::idle)
    return at("rank.idle");
  return never(
      "a worker of an encode mesh takes no order and writes nothing; 'header' and 'collective' have its steps");
}

/// Collectives that pass before one is struck. Of an encode cell the first picture alone is certain to come, since its
/// fellow may be given the others; the tower sums twice a layer. What prefill and decode compute is several times more.
std::uint32_t collectives_passed(matrix_role role) {
  return role == matrix_role::encode || role == matrix_role::encode_worker ? 4 : 25;
}

matrix_place place_of_request(matrix_role role, drill_phase phase, bool encode_mesh) {
  const bool leads = role == matrix_role::prefill_leader || role == matrix_role::decode;
  if (is_mesh(role) && phase == drill_phase::header)
    return at(leads ? "executor.announced" : "executor.planned", role == matrix_role::encode_worker ? 1 : 3);
  if (is_mesh(role) && phase == drill_phase::collective)
    return at("group.entered", collectives_passed(role));
  if (role == matrix_role::encode_worker)
    return place_of_encode_worker(phase);
  if (role == matrix_role::encode && encode_mesh && phase == drill_phase::collective)
    return at("group.entered", collectives_passed(role));
  if (phase == drill_phase::collective)
    return never(role == matrix_role::front ? "the front is in no group"
                                            : "an encode cell of one rank has no collective");
  const auto of = [&](std::string_view front, std::string_view encode, std::string_view prefill,
                      std::string_view decode) {
    return at(role == matrix_role::front    ? front
              : role == matrix_role::encode ? encode
              : role == matrix_role::decode ? decode
                                            : prefill,
              phase == drill_phase::idle ? 0 : 1);
  };
  switch (phase) {
  case drill_phase::idle:
    return of("front.idle", "encode.idle", "prefill.idle", "decode.idle");
  case drill_phase::preflight:
    return of("front.preflight", "encode.preflight", "prefill.preflight", "decode.preflight");
  case drill_phase::header:
    return of("front.submitted", "encode.stepping", "", "");
  case drill_phase::payload:
    return of("front.pixels_posted", "encode.rows_posted", "prefill.blocks_posted", "decode.arrived");
  case drill_phase::emitted:
    return of("front.emitted", "encode.delivered", "prefill.delivered", "decode.emitted");
  case drill_phase::spawn:
  case drill_phase::handshake:
  case drill_phase::grouping:
  case drill_phase::warm_up:
  case drill_phase::collective:
  case drill_phase::hard_cut:
  case drill_phase::drain:
    break;
  }
  return {};
}

} // namespace

matrix_place matrix_place_of(matrix_role role, drill_phase phase, bool encode_mesh) {
  if (role == matrix_role::supervisor)
    return place_of_supervisor(phase);
  if (role == matrix_role::link) {
    if (phase == drill_phase::header)
      return at("link.posting", 1);
    if (phase == drill_phase::payload)
      return at("link.received", 1);
    return never("a link has no phase but that of a message; its rank's row has the others");
  }
  if (role == matrix_role::listener)
    return phase == drill_phase::grouping ? at("listener.accepted")
                                          : never("a listener takes edges in while groups are made");
  if (role == matrix_role::watchdog)
    return phase == drill_phase::idle ? at("watchdog.looking", 1)
                                      : never("a watchdog looks whatever its rank does; 'idle' strikes it");
  switch (phase) {
  case drill_phase::spawn:
    return at("rank.spawned");
  case drill_phase::handshake:
    return at("rank.handshake");
  case drill_phase::grouping:
    return at("rank.grouping");
  case drill_phase::warm_up:
    return at("rank.warming");
  case drill_phase::drain:
    return at("rank.draining");
  case drill_phase::hard_cut:
    return never("no program of this build ends an epoch");
  case drill_phase::idle:
  case drill_phase::preflight:
  case drill_phase::header:
  case drill_phase::payload:
  case drill_phase::collective:
  case drill_phase::emitted:
    break;
  }
  return place_of_request(role, phase, encode_mesh);
}

} // namespace troupe::tools
