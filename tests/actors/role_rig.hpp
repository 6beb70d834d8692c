#pragma once

#include <algorithm>
#include <chrono>
#include <concepts>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <numeric>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include <caf/all.hpp>
#include <caf/scheduler/test_coordinator.hpp>
#include <doctest/doctest.h>

#include "actors/rank_context.hpp"
#include "actors/serve/admission_table.hpp"
#include "actors/serve/ingest_actor.hpp"
#include "actors/serve/serve_events.hpp"
#include "fabric/lanes/link_queues.hpp"
#include "protocols/serve/client_messages.hpp"
#include "protocols/serve/serve_program.hpp"
#include "protocols/wire/codec.hpp"

/// Role actors, links and routing of some ranks in one process and one thread, in a script that plays all else: the
/// other ranks, the executors, the transfer engines, the ingest, the clients and the time. Nothing happens between two
/// lines of a script.
namespace troupe::tests {

using namespace std::chrono_literals;

/// The cells of `role_rig::plan`, as scripts call them. Cells of encode and prefill are a mesh of two, those of decode
/// two stages of one rank, so that each rank of prefill writes to two places of decode.
namespace ranks {
inline constexpr protocols::rank_id front{0};
inline constexpr protocols::rank_id encode{1};
inline constexpr protocols::rank_id encode_worker{2};
inline constexpr protocols::rank_id other_encode{3};
inline constexpr protocols::rank_id prefill{5};
inline constexpr protocols::rank_id prefill_worker{6};
inline constexpr protocols::rank_id other_prefill{7};
inline constexpr protocols::rank_id decode{9};
inline constexpr protocols::rank_id decode_worker{10};
inline constexpr protocols::rank_id other_decode{11};
inline constexpr std::uint32_t count = 13;
} // namespace ranks

/// A write that a rank has posted and whose end the script says.
struct posted_write {
  protocols::rank_id from;
  fabric::write_request what;
  std::shared_ptr<const fabric::device_event> behind;
};

/// What an executor was told, each by the type of its order.
using executor_order =
    std::variant<protocols::room_vote, protocols::encode_machine::run_tower,
                 protocols::prefill_leader_machine::run_prefill, protocols::prefill_leader_machine::stop_prefill,
                 protocols::decode_leader_machine::join_batch, protocols::decode_leader_machine::leave_batch>;

class role_rig {
public:
  static constexpr fabric::link_queues::key client = 1000; ///< and on: links of clients

  /// The actors of these ranks are real; what the other ranks of the plan say is the script's. Those of `late` have
  /// their lanes, and their roles once they `come`.
  explicit role_rig(const std::vector<protocols::rank_id>& real, protocols::cluster_spec spec = small_spec(),
                    const std::set<protocols::rank_id>& late = {});
  ~role_rig();
  role_rig(const role_rig&) = delete;
  role_rig& operator=(const role_rig&) = delete;

  /// Four pixel slots a cell, 8 KV blocks, `room_ms` 1 s.
  static protocols::cluster_spec small_spec();

  // ---- messages between ranks ----

  /// The next message of its edge, which must be a `Message`; a real receiver gets it then.
  template <class Message>
  class expectation {
  public:
    expectation(role_rig& in, protocols::rank_id from) : in_(in), from_(from) {}
    Message to(protocols::rank_id receiver) { return in_.take<Message>(from_, receiver.value); }
    Message to_client(fabric::link_queues::key which = client) { return in_.take<Message>(from_, which); }

  private:
    role_rig& in_;
    protocols::rank_id from_;
  };
  template <class Message>
  struct unsent {
    role_rig& in;
    expectation<Message> from(protocols::rank_id sender) { return {in, sender}; }
  };
  /// expect<grant_rows>().from(ranks::prefill).to(ranks::encode)
  template <class Message>
  unsent<Message> expect() {
    return {*this};
  }
  /// Whatever is under way from one real rank to the other arrives; whether there was anything.
  bool flow(protocols::rank_id from, protocols::rank_id to);
  /// Nothing is under way on any edge but what comes of the passing of time alone.
  void expect_silence();
  void drop_frames() { edges_.clear(); }
  void drop_frames_to(protocols::rank_id rank) {
    std::erase_if(edges_, [&](const auto& each) { return each.first.second == rank.value; });
  }
  /// Frames of this type on the edge that nobody has taken yet.
  std::size_t count(protocols::message_type type, protocols::rank_id from, protocols::rank_id to) const;

  /// The epoch that the oldest of them names.
  protocols::cache_epoch epoch_of_next(protocols::rank_id from, protocols::rank_id to) const {
    return edges_.at({from, to.value}).front().epoch;
  }

  /// A scripted rank says `what` to a real one, in the present epoch or in that one. The edge must stay whole.
  template <class Message>
  void say(protocols::rank_id from, protocols::rank_id to, const Message& what,
           std::optional<protocols::cache_epoch> sent_in = {}) {
    std::vector<std::byte> payload;
    protocols::encode_payload(what, payload);
    const auto taken = give(from, to, Message::type, payload, sent_in);
    CHECK_MESSAGE(taken, (taken ? std::string{} : to_string(taken.error())));
  }
  /// What `accept_frame` makes of these bytes.
  protocols::result<void> give(protocols::rank_id from, protocols::rank_id to, protocols::message_type type,
                               const std::vector<std::byte>& payload,
                               std::optional<protocols::cache_epoch> sent_in = {});
  /// From now on the link of `from` to `to` answers so to each frame.
  void break_link(protocols::rank_id from, std::uint64_t to, protocols::fault how) { broken_[{from, to}] = how; }
  void mend_link(protocols::rank_id from, std::uint64_t to) { broken_.erase({from, to}); }

  /// As after a restart of the peer; its edge of the script is `to` from now on.
  void relink_to(protocols::rank_id from, protocols::rank_id peer, fabric::link_queues::key to);

  // ---- within a rank ----

  /// Its role's actor has not ended.
  bool lives(protocols::rank_id rank);

  /// To the actor of the rank's role, from its executor, its transfer engine, its supervisor.
  template <class Message>
  void tell(protocols::rank_id rank, Message what) {
    caf::anon_send(*here(rank).context.roles->find(role_of(rank)), std::move(what));
    settle();
  }
  /// The next order of the rank's executor, which must be an `Order`.
  template <class Order>
  Order expect_order(protocols::rank_id rank) {
    auto& orders = here(rank).orders;
    REQUIRE_MESSAGE(!orders.empty(), "no order for the executor of rank ", rank.value);
    auto next = std::move(orders.front());
    orders.pop_front();
    REQUIRE_MESSAGE(std::holds_alternative<Order>(next), "an order of another kind: ", next.index());
    return std::get<Order>(std::move(next));
  }
  bool has_order(protocols::rank_id rank) { return !here(rank).orders.empty(); }
  protocols::admission board_says(protocols::rank_id rank, protocols::room_id room) {
    return here(rank).board.of(room);
  }

  /// What the rank has counted of this metric: its value, or of a histogram how many there were.
  std::uint64_t counted(protocols::rank_id rank, protocols::metric_number which) {
    protocols::counters all;
    here(rank).context.counted->read(all);
    for (const auto& each : all.values)
      if (each.metric == which)
        return each.value;
    for (const auto& each : all.histograms)
      if (each.metric == which)
        return std::accumulate(each.counts.begin(), each.counts.end(), std::uint64_t{0});
    FAIL("rank ", rank.value, " does not count metric ", which.value);
    return 0;
  }
  /// Of a histogram, the sum.
  std::uint64_t counted_sum(protocols::rank_id rank, protocols::metric_number which) {
    protocols::counters all;
    here(rank).context.counted->read(all);
    return std::ranges::find(all.histograms, which, &protocols::histogram_value::metric)->sum;
  }

  // ---- one-sided writes ----

  /// The role of a `late` rank is there from now on.
  void come(protocols::rank_id rank);
  /// Over a lane that reaches no device's memory: where `to` expects what `from` will write for the room.
  std::optional<fabric::arrival_table::arrival> expected_arrival(protocols::rank_id from, protocols::rank_id to,
                                                                 protocols::room_id room);

  /// The next write that `from` has posted; it must go to `to`.
  posted_write expect_write(protocols::rank_id from, protocols::rank_id to);
  /// Also those that were refused.
  std::size_t writes_asked_for(protocols::rank_id from) { return here(from).transfers.asked; }
  /// Its bytes are where they belong, and the owner knows; its writer does not yet.
  void arrive(const posted_write& what);
  /// The writer learns of its end.
  void complete(const posted_write& what, protocols::result<void> how = {});
  /// A scripted rank's write is complete here.
  void finish_downloads(protocols::rank_id from, protocols::rank_id to, actors::transfer_kind what,
                        protocols::room_id room);
  /// Every `post` of this rank is refused so.
  void refuse_writes(protocols::rank_id from, std::optional<protocols::fault> how) {
    here(from).transfers.refuses = how;
  }

  // ---- lives, time, clients ----

  /// The supervisor's news to all real ranks that live; `next` 0: for good.
  void lose(const std::vector<protocols::rank_id>& who, protocols::generation next);
  void regain(const std::vector<protocols::rank_id>& who, protocols::generation born);
  /// Their processes have been reaped.
  void reap(const std::vector<protocols::rank_id>& who);
  void pass(protocols::duration time);
  protocols::time_point now() const { return now_; }

  template <class Message>
  void client_sends(Message what, fabric::link_queues::key which = client);
  void client_leaves(fabric::link_queues::key which = client);
  void drain();
  /// The next question that the front has had read.
  actors::ingest_order expect_ingest();
  bool has_ingest() const { return !ingests_.empty(); }
  /// It becomes `prompt_tokens` tokens with as many pictures as it has files, of four tokens each.
  void ingested(const actors::ingest_order& order, std::uint32_t prompt_tokens);

  protocols::cluster_plan plan;
  protocols::cache_epoch epoch = protocols::first_epoch; ///< of the job; `lose` begins the next
  std::vector<std::string> failures; ///< with which ranks have asked to leave; empty unless the script wants them
  bool drained = false;
  std::set<fabric::link_queues::key> removed; ///< links that the front has let go

private:
  struct frame {
    protocols::message_type type{};
    protocols::cache_epoch epoch;
    std::vector<std::byte> payload;
  };
  /// Of a rank: frames go to the edge of the script.
  struct scripted_links final : fabric::link_queues {
    role_rig* rig = nullptr;
    protocols::rank_id self;
    protocols::result<void> post(key which, const protocols::frame_header& header,
                                 std::vector<std::byte> payload) override;
    void handled(key) override {}
    void remove(key which) override { rig->removed.insert(which); }
    std::uint64_t turns() const noexcept override { return 0; }
  };
  /// Refuses what a real one would refuse at once; the rest is the script's to end.
  struct scripted_transfers final : fabric::transfer_engine {
    role_rig* rig = nullptr;
    protocols::rank_id self;
    std::deque<posted_write> posted;
    std::optional<protocols::fault> refuses;
    std::size_t asked = 0;
    fabric::bulk_kind kind() const noexcept override { return fabric::bulk_kind::shared_memory; }
    protocols::result<fabric::local_region> register_region(std::size_t, fabric::memory_kind) override { return {}; }
    std::vector<std::byte> address() const override { return {}; }
    protocols::result<void> start(fabric::transfer_events) override { return {}; }
    protocols::result<void> attach_peer(const protocols::endpoint&, protocols::time_point) override { return {}; }
    protocols::result<void> attach_region(protocols::rank_id, const protocols::region_card&,
                                          protocols::time_point) override {
      return {};
    }
    protocols::result<void> post(fabric::write_request request, fabric::ready_event source_ready) override;
    void stop() noexcept override {}
  };
  struct real_rank {
    actors::rank_context context;
    actors::admission_table board;
    scripted_links links;
    scripted_transfers transfers;
    std::deque<executor_order> orders;
    std::vector<std::byte> staging;
    caf::actor executor;
    caf::actor role;
  };

  template <class Message>
  Message take(protocols::rank_id from, std::uint64_t to) {
    auto& edge = edges_[{from, to}];
    REQUIRE_MESSAGE(!edge.empty(), name(Message::type), " from rank ", from.value, " to ", to, ": nothing came");
    const auto next = std::move(edge.front());
    edge.pop_front();
    REQUIRE_MESSAGE(next.type == Message::type, name(Message::type), " from rank ", from.value, " to ", to, ": ",
                    name(next.type), " came");
    Message what;
    REQUIRE(protocols::decode_payload(next.payload, what));
    if (to < ranks::count && real_.contains(protocols::rank_id{static_cast<std::uint32_t>(to)}))
      say(from, protocols::rank_id{static_cast<std::uint32_t>(to)}, what, next.epoch);
    return what;
  }

  real_rank& here(protocols::rank_id rank) { return *real_.at(rank); }
  protocols::role_kind role_of(protocols::rank_id rank) const { return plan.rank(rank).role; }
  void make(protocols::rank_id self, const protocols::cluster_spec& spec);
  template <class... Orders>
  caf::actor executor_of(real_rank& one, std::variant<Orders...>*);
  /// Every actor has worked off what it has.
  void settle();

  struct one_thread : caf::actor_system_config {
    one_thread() { set("scheduler.policy", caf::atom("testing")); }
  };
  one_thread config_;
  caf::actor_system system_{config_};
  caf::scheduler::test_coordinator& scheduler_;
  std::map<protocols::rank_id, std::unique_ptr<real_rank>> real_;
  std::map<protocols::rank_id, protocols::generation> born_; ///< of all ranks
  std::set<protocols::rank_id> dead_;
  std::map<std::pair<protocols::rank_id, std::uint64_t>, std::deque<frame>> edges_;
  std::map<std::pair<protocols::rank_id, std::uint64_t>, protocols::fault> broken_;
  std::deque<actors::ingest_order> ingests_;
  caf::actor ingest_;
  protocols::time_point now_{1h};
};

} // namespace troupe::tests
