#include "actors/serve/serve_routing.hpp"

#include "actors/message_router.hpp"
#include "protocols/serve/validate_message.hpp"

namespace troupe::actors {

using namespace protocols;

namespace {

/// The front is told, so that the request does not wait for its deadline (A10, A12).
void tell_front(const rank_context& rank, rank_id source, const serve_message& message, const failure& why) {
  const auto request = request_of(message);
  if (request == request_id{} || rank.self == rank.plan.front())
    return;
  caf::anon_send(rank.links.at(rank.plan.front()), outgoing_of(error{.code = static_cast<std::uint16_t>(why.code),
                                                                     .message = why.what,
                                                                     .origin = source,
                                                                     .call = {},
                                                                     .where = "message",
                                                                     .request = request},
                                                               cache_epoch{}));
}

constexpr message_router<serve_message> router{.validate = &validate_message, .on_refused = &tell_front};

} // namespace

void deliver(const rank_context& rank, role_kind from, send_message what, cache_epoch decided_in) {
  router.deliver(rank, from, what.to, std::move(what.body), decided_in);
}

send_message timing_of(const rank_context& rank, request_id request, phase part, time_point began, time_point ended) {
  return {rank.plan.front(), timing{request, part, began.time_since_epoch().count(), ended.time_since_epoch().count()}};
}

result<void> accept_frame(const rank_context& rank, const frame_view& frame) {
  return router.accept(rank, frame);
}

} // namespace troupe::actors
