#pragma once

#include <map>
#include <memory>
#include <optional>
#include <set>

#include "protocols/cluster/epoch_fence.hpp"
#include "protocols/serve/decode_machine.hpp"
#include "protocols/serve/encode_machine.hpp"
#include "protocols/serve/prefill_machine.hpp"
#include "protocols/serve/serve_message.hpp"
#include "protocols/serve/serve_program.hpp"
#include "tests/sim/process.hpp"
#include "tests/sim/steps.hpp"

namespace troupe::sim {

class front_desk;

/// The roles of `serve` on one rank: the product's machines, each in its own thread, joined as its actors join them.
class serve_node {
public:
  explicit serve_node(process& rank);
  ~serve_node();

  /// The rank is ready: it serves.
  void start();
  /// A message of another rank, or of a role of this one (`as`).
  void take(protocols::rank_id from, protocols::cache_epoch sent_in, protocols::serve_message body,
            std::optional<protocols::role_kind> as);
  /// A write of this rank has ended.
  void written(protocols::transfer_kind kind, protocols::room_id room, std::uint32_t part,
               protocols::result<void> outcome);
  /// A peer's write to this rank is complete.
  void arrived_write(protocols::transfer_kind kind, protocols::rank_id from, protocols::room_id room);
  void lose(const protocols::lost& news);
  void writers_gone(const std::vector<protocols::rank_id>& ranks, bool bytes_may_arrive);
  /// In words: what is still held though nothing is asked any more; empty: nothing.
  std::string held() const;

  // What executors tell, in the thread of their role.
  void encoded(protocols::room_id room);
  void prefilled(const protocols::prefill_step& step);
  void stepped(protocols::role_kind role, protocols::step_machine::effects what);
  void hand_tokens(const protocols::tokens& step);

  process& rank;
  std::unique_ptr<front_desk> front;
  std::map<protocols::role_kind, std::unique_ptr<executor>> executors;

  /// Gives a message to its role, or to the link.
  void deliver(protocols::role_kind as, protocols::send_message what);

private:
  /// As `role_actor`: each role learns of a loss in its own thread.
  protocols::epoch_fence& fence_of(protocols::role_kind role);
  void tell_lost(protocols::role_kind role, const protocols::lost& news);

  struct encode_part {
    const protocols::cell_plan* cell = nullptr;
    std::optional<protocols::encode_machine> leader;
    std::optional<protocols::encode_member_machine> member;
  };
  struct prefill_part {
    const protocols::cell_plan* cell = nullptr;
    std::optional<protocols::prefill_leader_machine> leader;
    std::optional<protocols::prefill_member_machine> member;
    gpu::models::kv_layout layout;
  };
  struct decode_part {
    const protocols::cell_plan* cell = nullptr;
    std::optional<protocols::decode_leader_machine> leader;
    std::optional<protocols::decode_member_machine> member;
  };

  void make_encode(const protocols::cell_plan& cell);
  void make_prefill(const protocols::cell_plan& cell);
  void make_decode(const protocols::cell_plan& cell);
  void tick(protocols::role_kind role);
  std::uint64_t digest_of(const protocols::step_machine::first_token& of);
  void hear_step(protocols::role_kind role, const protocols::step_machine::effect& effect);
  template <class Message>
  void hear(protocols::role_kind at, protocols::rank_id from, Message& body);

  void perform(protocols::encode_machine::effects what);
  void perform(protocols::encode_member_machine::effects what);
  void perform(protocols::prefill_leader_machine::effects what);
  void perform(protocols::prefill_member_machine::effects what);
  void perform(protocols::decode_leader_machine::effects what);
  void perform(protocols::decode_member_machine::effects what);
  void write(const protocols::encode_machine::write_rows& what);
  void write(const protocols::prefill_member_machine::write_blocks& what);

  std::map<protocols::role_kind, protocols::epoch_fence> fences_;
  std::optional<encode_part> encode_;
  std::optional<prefill_part> prefill_;
  std::optional<decode_part> decode_;
};

thread thread_of(protocols::role_kind role);

} // namespace troupe::sim
