// Decides outside protocols: runs on the wire's thread, before any machine has the message

#include <algorithm>
#include <optional>

#include "actors/rank_context.hpp"
#include "protocols/serve/serve_program.hpp"
#include "protocols/serve/validate_message.hpp"
#include "protocols/wire/codec.hpp"
#include "runtime/base/log.hpp"

namespace troupe::actors {

using namespace protocols;

namespace {

/// A message that breaks its contract goes to nobody; the front is told, so that the request does not wait for its
/// deadline (A10, A12).
void refuse(const rank_context& rank, rank_id source, const serve_message& message, const failure& why) {
  base::log_warning("message refused: {}", to_string(why));
  const auto request = request_of(message);
  if (request == request_id{} || rank.self == rank.plan.front())
    return;
  caf::anon_send(rank.links.at(rank.plan.front()),
                 envelope<error>{rank.self, error{.code = static_cast<std::uint16_t>(why.code),
                                                  .message = why.what,
                                                  .origin = source,
                                                  .call = {},
                                                  .where = "message",
                                                  .request = request}});
}

/// To the actor of each role that takes it; the last of them gets the message itself and no copy. What comes before its
/// role and finds no room is dropped by name: its sender's deadline ends what it was about (K12).
template <class Message>
void hand_to(const rank_context& rank, role_set takers, rank_id source, cache_epoch sent_in, Message& body,
             std::size_t bytes) {
  while (!takers.empty()) {
    const auto role = takers.take_first();
    auto told =
        rank.roles->tell(role, envelope<Message>{source, takers.empty() ? std::move(body) : body, sent_in}, bytes);
    if (!told)
      base::log_warning("{} from rank {} dropped: {}", name(Message::type), source.value, told.error().what);
  }
}

/// Contract: K4. `as`: the role of this rank that sends; none: `source` is another rank.
void hand_over(const rank_context& rank, rank_id source, cache_epoch sent_in, serve_message body, std::size_t bytes,
               std::optional<role_kind> as) {
  const auto takers = validate_message(rank.plan, rank.self, source, body, as);
  if (takers)
    return std::visit([&](auto& message) { hand_to(rank, *takers, source, sent_in, message, bytes); }, body);
  refuse(rank, source, body, takers.error());
}

template <class Message>
result<void> decode_and_hand_over(const rank_context& rank, const frame_view& frame) {
  serve_message body{std::in_place_type<Message>};
  const bool strict = (frame.header.flags & strict_payload) != 0;
  if (auto read = decode_payload(frame.payload, std::get<Message>(body), strict); !read)
    return read;
  hand_over(rank, frame.header.source, frame.header.epoch, std::move(body), frame.payload.size(), std::nullopt);
  return {};
}

/// The message of `serve_message` whose type the frame names.
template <class... Messages>
result<void> accept_one_of(const rank_context& rank, const frame_view& frame, std::variant<Messages...>*) {
  result<void> outcome = fail(fault::unknown_type, std::string{name(frame.header.type)} + " on a control lane");
  (void)((frame.header.type == Messages::type && (outcome = decode_and_hand_over<Messages>(rank, frame), true)) || ...);
  return outcome;
}

} // namespace

void deliver(const rank_context& rank, role_kind from, send_message what, cache_epoch decided_in) {
  if (what.to == rank.self) {
    hand_over(rank, rank.self, decided_in, std::move(what.body), 0, from);
    return;
  }
  std::visit(
      [&]<class Message>(Message& body) {
        caf::anon_send(rank.links.at(what.to), envelope<Message>{rank.self, std::move(body), decided_in});
      },
      what.body);
}

send_message timing_of(const rank_context& rank, request_id request, phase part, time_point began, time_point ended) {
  return {rank.plan.front(), timing{request, part, began.time_since_epoch().count(), ended.time_since_epoch().count()}};
}

result<void> accept_frame(const rank_context& rank, const frame_view& frame) {
  return accept_one_of(rank, frame, static_cast<serve_message*>(nullptr));
}

std::uint64_t cookie_of(transfer_kind what, room_id room, std::uint32_t part) noexcept {
  return std::uint64_t{part} << 50 | completion_data(what, room);
}

/// A role that is not there yet has granted nothing and posted nothing: what the data plane tells of it is of nobody.
fabric::transfer_events transfer_events_of(const rank_context& rank) {
  const auto actor_of = [&rank](transfer_kind what, role_kind transfer_row::*end) -> const caf::actor* {
    const auto& rows = serve_program().transfers;
    const auto row = std::ranges::find(rows, static_cast<std::uint8_t>(what), &transfer_row::kind);
    return row == rows.end() ? nullptr : rank.roles->find((*row).*end);
  };
  return {.on_delivered =
              [actor_of](std::uint64_t cookie, result<void> outcome) {
                const auto [what, room] = from_completion_data(cookie & ((std::uint64_t{1} << 50) - 1));
                if (const auto* const actor = actor_of(what, &transfer_row::sender))
                  caf::anon_send(*actor, write_completed{what, room, static_cast<std::uint32_t>(cookie >> 50),
                                                         std::move(outcome)});
              },
          .on_arrived =
              [actor_of](rank_id from, std::uint64_t data) {
                const auto [what, room] = from_completion_data(data);
                if (const auto* const actor = actor_of(what, &transfer_row::receiver))
                  caf::anon_send(*actor, write_arrived{what, from, room});
              },
          // Each write to it fails with its own event, and its control lane says the same to the rank.
          .on_peer_gone = [](rank_id, failure) {}};
}

} // namespace troupe::actors
