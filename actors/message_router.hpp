#pragma once

// Decides outside protocols: runs on the wire's thread, before any machine has the message

#include <optional>
#include <string>
#include <utility>
#include <variant>

#include <caf/all.hpp>

#include "actors/rank_context.hpp"
#include "protocols/cluster/route.hpp"
#include "protocols/wire/decode_frame.hpp"
#include "runtime/base/assert.hpp"
#include "runtime/base/log.hpp"

namespace troupe::actors {

/// The roles of rank `self` that take the message, by the rows of the program. Errors: wrong_rank.
template <class MessageVariant>
protocols::result<protocols::role_set> takers_by_rows(const protocols::cluster_plan& plan, protocols::rank_id self,
                                                      protocols::rank_id source, const MessageVariant& message,
                                                      std::optional<protocols::role_kind> as) {
  const auto type = std::visit([](const auto& body) { return body.type; }, message);
  const auto takers = protocols::takers_of(plan, type, source, self, as);
  if (takers.empty())
    return protocols::fail(protocols::fault::wrong_rank, std::string{protocols::name(type)} + " from rank " +
                                                             std::to_string(source.value) + " to rank " +
                                                             std::to_string(self.value));
  return takers;
}

/// Routes the messages of one program: from a frame, or from a role of this rank, to the actors that take them.
/// `MessageVariant`: the std::variant of all messages between the program's roles. Each has a `type` and `fields`
/// (codec.hpp), and is received as an `envelope`. The decision who takes what is `validate`'s.
/// Contract: K4, K12, A5.
/// Threads: any.
template <class MessageVariant>
struct message_router {
  /// `as`: the role of this rank that sends; none: `source` is another rank. Errors: the message breaks its contract.
  protocols::result<protocols::role_set> (*validate)(
      const protocols::cluster_plan& plan, protocols::rank_id self, protocols::rank_id source,
      const MessageVariant& message, std::optional<protocols::role_kind> as) = &takers_by_rows<MessageVariant>;
  /// Somebody beside the log hears of a message that was refused; null: nobody.
  void (*on_refused)(const rank_context& rank, protocols::rank_id source, const MessageVariant& message,
                     const protocols::failure& why) = nullptr;

  /// To the role's actor on this rank, or to the link of the peer. `from`: the role that sends.
  /// `decided_in`: the epoch that the role had come to when it decided to send it.
  void deliver(const rank_context& rank, protocols::role_kind from, protocols::rank_id to, MessageVariant body,
               protocols::cache_epoch decided_in) const {
    if (to == rank.self)
      return route(rank, rank.self, decided_in, std::move(body), 0, from);
    std::visit([&](const auto& message) { caf::anon_send(rank.links.at(to), outgoing_of(message, decided_in)); }, body);
  }

  /// Decodes a frame of a peer's control lane and hands it to the role actor that it is for, or keeps it until the role
  /// is there. Errors: those of the codec; unknown_type.
  protocols::result<void> accept(const rank_context& rank, const protocols::frame_view& frame) const {
    return accept_one_of(rank, frame, static_cast<MessageVariant*>(nullptr));
  }

private:
  /// To the actor of each role that takes it; the last of them gets the message itself and no copy. What comes before
  /// its role and finds no room is dropped by name: its sender's deadline ends what it was about.
  template <class Message>
  static void tell_roles(const rank_context& rank, protocols::role_set takers, protocols::rank_id source,
                         protocols::cache_epoch sent_in, Message& body, std::size_t bytes) {
    TROUPE_ASSERT("K4", !takers.empty());
    const auto tell = [&](protocols::role_kind role, envelope<Message> letter) {
      if (auto told = rank.roles->tell(role, std::move(letter), bytes); !told)
        base::log_warning("{} from rank {} dropped: {}", protocols::name(Message::type), source.value,
                          told.error().what);
    };
    auto role = takers.take_first();
    for (; !takers.empty(); role = takers.take_first())
      tell(role, {source, body, sent_in});
    tell(role, {source, std::move(body), sent_in});
  }

  void route(const rank_context& rank, protocols::rank_id source, protocols::cache_epoch sent_in, MessageVariant body,
             std::size_t bytes, std::optional<protocols::role_kind> as) const {
    const auto takers = validate(rank.plan, rank.self, source, body, as);
    if (takers)
      return std::visit([&](auto& message) { tell_roles(rank, *takers, source, sent_in, message, bytes); }, body);
    base::log_warning("message refused: {}", protocols::to_string(takers.error()));
    if (on_refused != nullptr)
      on_refused(rank, source, body, takers.error());
  }

  template <class Message>
  protocols::result<void> decode_and_route(const rank_context& rank, const protocols::frame_view& frame) const {
    MessageVariant body{std::in_place_type<Message>};
    if (auto read = protocols::decode_frame(frame, std::get<Message>(body)); !read)
      return read;
    route(rank, frame.header.source, frame.header.epoch, std::move(body), frame.payload.size(), std::nullopt);
    return {};
  }

  template <class... Messages>
  protocols::result<void> accept_one_of(const rank_context& rank, const protocols::frame_view& frame,
                                        std::variant<Messages...>*) const {
    protocols::result<void> outcome;
    if (((frame.header.type == Messages::type && (outcome = decode_and_route<Messages>(rank, frame), true)) || ...))
      return outcome;
    return protocols::fail(protocols::fault::unknown_type,
                           std::string{protocols::name(frame.header.type)} + " on a control lane");
  }
};

} // namespace troupe::actors
