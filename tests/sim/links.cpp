#include "tests/sim/links.hpp"

#include "protocols/serve/validate_message.hpp"
#include "protocols/wire/codec.hpp"
#include "tests/sim/rank_main.hpp"
#include "tests/sim/serve_node.hpp"
#include "tests/sim/world.hpp"

namespace troupe::sim {

using namespace protocols;

namespace {

using bytes = std::vector<std::byte>;

template <class Message>
bytes frame_of(const edge_end& end, cache_epoch decided_in, const Message& message) {
  bytes out(limits::frame_header_bytes);
  encode_payload(message, out);
  const auto payload = std::span<const std::byte>{out}.subspan(limits::frame_header_bytes);
  header_bytes header;
  encode_header(end.ends.stamp({.type = Message::type, .epoch = decided_in}, end.sent, payload.size()), payload,
                header);
  std::copy(header.begin(), header.end(), out.begin());
  return out;
}

template <class... Messages>
result<serve_message> decode_as_one_of(message_type type, std::span<const std::byte> payload,
                                       std::variant<Messages...>*) {
  result<serve_message> out = fail(fault::unknown_type, std::string{name(type)});
  const auto read = [&]<class Message>(Message body) {
    auto done = decode_payload(payload, body);
    if (done)
      out = serve_message{std::move(body)};
    else
      out = tl::unexpected<failure>{done.error()};
    return true;
  };
  (void)((Messages::type == type && read(Messages{})) || ...);
  return out;
}

struct taken_frame {
  cache_epoch sent_in;
  serve_message body;
};

result<taken_frame> take_frame(edge_end& end, const bytes& frame, std::size_t frame_max) {
  const auto head = std::span{frame}.first<limits::frame_header_bytes>();
  const auto payload = std::span{frame}.subspan(limits::frame_header_bytes);
  const auto header = decode_header(head, frame_max);
  if (!header)
    return tl::unexpected<failure>{header.error()};
  if (auto whole = verify_checksum(head, payload); !whole)
    return tl::unexpected<failure>{whole.error()};
  if (auto expected = end.ends.judge(*header, end.received + 1); !expected)
    return tl::unexpected<failure>{expected.error()};
  ++end.received;
  return decode_as_one_of(header->type, payload, static_cast<serve_message*>(nullptr)).map([&](serve_message body) {
    return taken_frame{header->epoch, std::move(body)};
  });
}

void arrive(process& at, std::pair<rank_id, bool> lane, generation from_born, bytes frame) {
  const auto found = at.edges.find(lane);
  if (found == at.edges.end() || found->second.ends.peer_born != from_born) {
    if (auto* const made = at.main->untaken(lane.first, lane.second, from_born))
      made->waiting.push_back(std::move(frame));
    return;
  }
  if (!found->second.open)
    return;
  auto taken = take_frame(found->second, frame, at.all.spec().limits.frame_bytes_max);
  if (!taken)
    return cut_lane(at, lane.first, lane.second, taken.error());
  if (at.serves)
    at.serves->take(lane.first, taken->sent_in, std::move(taken->body), std::nullopt);
  else
    at.early.push_back({lane.first, taken->sent_in, std::move(taken->body)});
}

/// One end learns that the lane has ended.
void close(process& at, rank_id of, generation of_born, bool tokens, failure why) {
  auto& all = at.all;
  if (auto* const made = at.main->untaken(of, tokens, of_born))
    made->open = false;
  const auto found = at.edges.find({of, tokens});
  if (found == at.edges.end() || !found->second.open || found->second.ends.peer_born != of_born)
    return;
  found->second.open = false;
  all.past.note([&] { return at.label + " loses its lane to " + all.plan().rank(of).label + ": " + to_string(why); }, 2,
                at.self.value, of.value);
  at.main->on_peer_gone(of, of_born, std::move(why));
}

} // namespace

void take_waiting(process& at, rank_id peer, bool for_tokens, generation peer_born) {
  auto& end = at.edges.at({peer, for_tokens});
  for (auto& frame : std::exchange(end.waiting, {}))
    arrive(at, {peer, for_tokens}, peer_born, std::move(frame));
  if (const auto found = at.edges.find({peer, for_tokens}); found != at.edges.end() && !found->second.open) {
    found->second.open = true; // it ended before it was taken: that is told now
    close(at, peer, peer_born, for_tokens, {fault::peer_gone, "it closed the lane"});
  }
}

void close_lanes_of(process& gone) {
  auto& all = gone.all;
  for (const auto& rank : all.ranks)
    if (rank && rank->running && rank.get() != &gone)
      for (const bool tokens : {false, true})
        rank->reach(all.time.now() + all.delay(all.sky.frame),
                    [at = rank.get(), of = gone.self, born = gone.born, tokens] {
                      close(*at, of, born, tokens, {fault::peer_gone, "it has ended"});
                    });
}

void lane_ended(process& at, rank_id of, generation of_born, bool for_tokens) {
  at.reach(at.all.time.now() + at.all.delay(at.all.sky.frame), [&at, of, of_born, for_tokens] {
    close(at, of, of_born, for_tokens, {fault::peer_gone, "it has ended"});
  });
}

void send(process& from, rank_id to, cache_epoch decided_in, const serve_message& body, bool for_tokens) {
  auto& all = from.all;
  const auto found = from.edges.find({to, for_tokens});
  if (found == from.edges.end())
    all.judge.on_no_lane(from, to);
  if (found == from.edges.end() || !found->second.open)
    return;
  auto& end = found->second;
  if (const auto fits = end.ends.admit({.epoch = decided_in}); !fits)
    return all.past.note(
        [&] {
          return from.label + " drops a message to " + all.plan().rank(to).label + ": " + to_string(fits.error());
        },
        12, from.self.value, to.value);
  ++end.sent;
  auto frame = std::visit([&](const auto& message) { return frame_of(end, decided_in, message); }, body);
  all.past.note(
      [&] {
        return from.label + " -> " + all.plan().rank(to).label + ": " +
               std::string{std::visit([](const auto& message) { return name(message.type); }, body)} + " of request " +
               std::to_string(request_of(body).value) +
               (std::holds_alternative<error>(body) ? " (" + std::get<error>(body).message + ")" : "");
      },
      1, from.self.value, to.value, body.index(), request_of(body).value);
  if (all.dice.chance(all.sky.lost_frame)) {
    all.judge.on_hurt(from.self);
    all.judge.on_hurt(to);
    all.past.say("that frame is lost");
    if (auto* const peer = all.at(to);
        peer != nullptr && peer->born == end.ends.peer_born) // the next heartbeat shows it
      peer->reach(all.time.now() + all.ms(all.spec().timeouts.heartbeat_ms),
                  [peer, of = from.self, born = from.born, for_tokens] {
                    if (auto* const made = peer->main->untaken(of, for_tokens, born))
                      made->open = false; // told once it is taken
                    const auto lane = peer->edges.find({of, for_tokens});
                    if (lane != peer->edges.end() && lane->second.ends.peer_born == born)
                      cut_lane(*peer, of, for_tokens, {fault::wrong_sequence, "a frame of this edge was lost"});
                  });
    return;
  }
  end.last = std::max(all.time.now() + all.held_up(from.self, to) + all.delay(all.sky.frame), end.last + duration{1});
  auto* const peer = all.at(to);
  if (peer == nullptr || peer->born != end.ends.peer_born)
    return;
  peer->reach(end.last, [peer, lane = std::pair{from.self, for_tokens}, born = from.born, frame = std::move(frame)] {
    arrive(*peer, lane, born, frame);
  });
}

void cut_lane(process& one, rank_id peer, bool for_tokens, const failure& cause) {
  auto& all = one.all;
  const auto found = one.edges.find({peer, for_tokens});
  if (found == one.edges.end() || !found->second.open)
    return;
  const auto peer_born = found->second.ends.peer_born;
  close(one, peer, peer_born, for_tokens, cause);
  if (auto* const other = all.at(peer); other != nullptr && other->born == peer_born)
    other->reach(all.time.now() + all.delay(all.sky.frame), [other, of = one.self, born = one.born, for_tokens] {
      close(*other, of, born, for_tokens, {fault::peer_gone, "it closed the lane"});
    });
}

} // namespace troupe::sim
