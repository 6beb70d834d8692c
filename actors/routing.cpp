#include <array>

#include "actors/rank_context.hpp"
#include "protocols/codec.hpp"
#include "protocols/serve_judge.hpp"
#include "runtime/base/log.hpp"

namespace troupe::actors {

using namespace protocols;

namespace {

/// Roles that take a message of this type; the first that the rank has gets it.
template <class Message>
constexpr auto takers() {
  using roles = std::array<role_kind, 3>;
  if constexpr (std::is_same_v<Message, submit> || std::is_same_v<Message, reserve_rows> ||
                std::is_same_v<Message, grant_blocks> || std::is_same_v<Message, shipped>)
    return std::array{role_kind::prefill};
  else if constexpr (std::is_same_v<Message, encode> || std::is_same_v<Message, grant_rows>)
    return std::array{role_kind::encode};
  else if constexpr (std::is_same_v<Message, reserve_kv> || std::is_same_v<Message, reserve_blocks> ||
                     std::is_same_v<Message, handover>)
    return std::array{role_kind::decode};
  else if constexpr (std::is_same_v<Message, landed> || std::is_same_v<Message, release>)
    return roles{role_kind::encode, role_kind::prefill, role_kind::decode};
  else
    return std::array{role_kind::front};
}

template <class Message>
bool hand_over(const rank_context& rank, rank_id source, Message&& body) {
  using message = std::decay_t<Message>;
  if constexpr (std::is_same_v<message, cancel>) { // whoever may hold something of the request
    for (const auto& [role, actor] : rank.roles)
      if (role != role_kind::front)
        caf::anon_send(actor, envelope<message>{source, body});
    return true;
  } else {
    for (const auto role : takers<message>())
      if (const auto found = rank.roles.find(role); found != rank.roles.end()) {
        caf::anon_send(found->second, envelope<message>{source, std::forward<Message>(body)});
        return true;
      }
    return false;
  }
}

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

template <class Message>
result<void> decode_and_hand_over(const rank_context& rank, const frame_view& frame) {
  Message body;
  if (auto read = decode_payload(frame.payload, body, (frame.header.flags & strict_payload) != 0); !read)
    return read;
  if (auto good = judge_message(rank.plan, rank.self, frame.header.source, body); !good) {
    refuse(rank, frame.header.source, body, good.error());
    return {};
  }
  if (!hand_over(rank, frame.header.source, std::move(body)))
    return fail(fault::unknown_type, std::string{name(frame.header.type)} + " to a rank without that role");
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

void deliver(const rank_context& rank, role_kind from, send_message what) {
  std::visit(
      [&]<class Message>(Message& body) {
        if (what.to != rank.self) {
          caf::anon_send(rank.links.at(what.to), envelope<Message>{rank.self, std::move(body)});
          return;
        }
        if constexpr (std::is_same_v<Message, landed> || std::is_same_v<Message, release>)
          caf::anon_send(rank.roles.at(from), envelope<Message>{rank.self, std::move(body)});
        else
          hand_over(rank, rank.self, std::move(body));
      },
      what.body);
}

void report_timing(const rank_context& rank, role_kind from, request_id request, phase part, time_point began,
                   time_point ended) {
  deliver(
      rank, from,
      {rank.plan.front(), timing{request, part, began.time_since_epoch().count(), ended.time_since_epoch().count()}});
}

result<void> accept_frame(const rank_context& rank, const frame_view& frame) {
  return accept_one_of(rank, frame, static_cast<serve_message*>(nullptr));
}

std::uint64_t cookie_of(cargo what, room_id room, std::uint32_t part) noexcept {
  return std::uint64_t{part} << 50 | completion_data(what, room);
}

fabric::transfer_events transfer_events_of(const rank_context& rank) {
  const auto receiver = [&rank](cargo what) -> const caf::actor* {
    const auto role = what == cargo::pixels ? role_kind::encode
                      : what == cargo::rows ? role_kind::prefill
                                            : role_kind::decode;
    const auto found = rank.roles.find(role);
    return found == rank.roles.end() ? nullptr : &found->second;
  };
  const auto sender = [&rank](cargo what) -> const caf::actor* {
    const auto role = what == cargo::pixels ? role_kind::front
                      : what == cargo::rows ? role_kind::encode
                                            : role_kind::prefill;
    const auto found = rank.roles.find(role);
    return found == rank.roles.end() ? nullptr : &found->second;
  };
  return {.on_delivered =
              [sender](std::uint64_t cookie, result<void> outcome) {
                const auto [what, room] = from_completion_data(cookie & ((std::uint64_t{1} << 50) - 1));
                if (const auto* const actor = sender(what))
                  caf::anon_send(*actor, cargo_delivered{what, room, static_cast<std::uint32_t>(cookie >> 50),
                                                         std::move(outcome)});
              },
          .on_landed =
              [receiver](rank_id from, std::uint64_t data) {
                const auto [what, room] = from_completion_data(data);
                if (const auto* const actor = receiver(what))
                  caf::anon_send(*actor, cargo_landed{what, from, room});
              },
          // Each write to it fails with its own event, and its control lane says the same to the rank.
          .on_peer_gone = [](rank_id, failure) {}};
}

} // namespace troupe::actors
