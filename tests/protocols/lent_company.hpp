#pragma once

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <set>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "protocols/serve/decode_machine.hpp"
#include "protocols/serve/encode_machine.hpp"
#include "protocols/serve/prefill_machine.hpp"
#include "protocols/serve/roles.hpp"
#include "serve_fixture.hpp"

/// The machines that lend memory and write into it, on all ranks of a cluster, with lanes, engines and executors whose
/// speed a test sets. The front is a script: it asks and it cancels. Every write is held against who is the tenant of
/// what it writes to.
namespace troupe::protocols::testing {

using namespace std::chrono_literals;

/// Front, an encode mesh of two, two prefill cells of two ranks each, a decode cell of two.
inline cluster_plan lending_plan() {
  cluster_spec spec;
  spec.name = "lending";
  spec.pools = {{"front", serve_role::front, 1, 1, 1},
                {"encode", serve_role::encode, 2, 2, 1},
                {"prefill", serve_role::prefill, 2, 2, 1},
                {"decode", serve_role::decode, 1, 2, 1}};
  return make_plan(spec).value();
}

enum class memory { pixels, rows, blocks };

class company {
public:
  struct sizes {
    std::uint32_t pixel_slots = 1;
    std::uint32_t row_slots = 1;
    std::uint32_t decode_blocks = 2; ///< one request
    std::uint32_t prefill_blocks = 8;
    duration tower = 5ms;
    duration forward = 5ms;
    duration answer = 5ms; ///< from joining the batch to its end
  };
  struct question {
    std::size_t encode = 0; ///< which cell
    std::size_t prefill = 0;
    bool picture = true;
    std::uint32_t deadline_ms = 60'000;
  };
  enum class ending { none, answered, cancelled, failed };

  company() : company(sizes{}) {}
  explicit company(sizes made) : sizes_(made) {
    for (const auto& rank : plan.ranks)
      start(rank.id);
    run(1ms);
  }

  // ---- what a test does ----

  request_id ask(const question& what);
  void cancel(request_id id);
  /// Messages from one rank to another are under way for so long from now on.
  void slow_lane(rank_id from, rank_id to, duration time) { lanes_[{from, to}].time = time; }
  void slow_front(rank_id to, duration time) { slow_lane(plan.front(), to, time); }
  /// The rank's engine begins nothing before then.
  void stop_engine(rank_id rank, duration time) { ranks_.at(rank).engine_stopped_until = now + time; }
  /// SIGSTOP: neither machines nor engine run; what is sent to it waits.
  void pause(rank_id rank, duration time) { ranks_.at(rank).paused_until = now + time; }
  void slow_executor(rank_id rank, duration time) { ranks_.at(rank).executor_stopped_until = now + time; }
  /// The cell is killed, its ranks are reaped, and a new generation is there after `back`.
  void kill(cell_id id, duration back = 20ms);
  /// Runs for so long, a millisecond a step.
  void run(duration time) {
    for (const auto until = now + time; now < until; now += 1ms)
      step();
  }
  bool run_until(const std::function<bool()>& holds, duration at_most = 60s);

  // ---- what it finds ----

  ending end_of(request_id id) const { return asked_.at(id).end; }
  bool ended(request_id id) const { return end_of(id) != ending::none; }
  bool started(request_id id) const { return asked_.at(id).started; }
  /// Writes that reached memory of another tenant.
  const std::vector<std::string>& strays() const { return strays_; }
  std::uint32_t writes() const { return written_; }
  std::uint32_t refused() const { return refused_; }
  bool has_posted(memory what) const {
    return std::any_of(writes_.begin(), writes_.end(), [&](const auto& each) { return each.what == what; });
  }
  bool is_running(rank_id leader) const {
    return std::any_of(works_.begin(), works_.end(), [&](const auto& each) { return each.on == leader; });
  }

  cluster_plan plan = lending_plan();
  time_point now{};

private:
  struct rank_state {
    std::optional<encode_machine> encode;
    std::optional<prefill_leader_machine> prefill;
    std::optional<prefill_member_machine> prefill_member;
    std::optional<decode_leader_machine> decode;
    std::optional<decode_member_machine> decode_member;
    std::map<room_id, admission> board;
    std::deque<std::pair<time_point, std::function<void()>>> inbox; ///< of this rank's own threads
    time_point paused_until{};
    time_point engine_stopped_until{};
    time_point executor_stopped_until{};
    time_point ticked{};
  };
  struct lane {
    duration time = 1ms;
    std::deque<std::pair<time_point, serve_message>> frames;
  };
  struct write {
    memory what;
    rank_id from;
    rank_id to;
    room_id room;
    request_id request;
    std::uint32_t part = 0;
    std::vector<std::uint32_t> places; ///< slots or blocks of the target
    lease under;
    time_point begins;
  };
  struct work {
    rank_id on;
    time_point until;
    std::function<void()> then;
  };
  struct asked_question {
    question what;
    room_id kv;
    room_id picture;
    ending end = ending::none;
    bool started = false;
    bool left = false;
    std::optional<slot_ref> pixels;
    std::uint32_t pixel_writes = 0;
    bool pixels_settled = true;
  };

  // ---- front ----

  void admit();
  void leave(request_id id, asked_question& one);
  void return_pixels(request_id id, const asked_question& one);
  void finish(request_id id, ending how);

  // ---- ranks ----

  rank_state& renew(rank_id rank) {
    ranks_.erase(rank);
    return ranks_[rank];
  }
  void start(rank_id rank);

  void send(rank_id from, rank_id to, serve_message what);
  void local(rank_id on, duration time, std::function<void()> what) {
    ranks_.at(on).inbox.emplace_back(now + time, std::move(what));
  }

  void step();

  void work_on(rank_id rank);

  /// The engine: asks for the lease, copies, tells both ends.
  void copy(rank_id rank);
  void arrived_at(const write& one);
  void delivered(const write& one, const result<void>& outcome);

  void tick(rank_id rank);
  void on_lost(rank_id self, const lost& news);
  void on_gone(rank_id self, const std::vector<rank_id>& ranks);

  void take(rank_id self, rank_id from, const serve_message& message);

  // ---- effects ----

  void note_tenant(rank_id self, const send_message& what);

  template <class Effects>
  void perform(rank_id self, const Effects& effects) {
    for (const auto& effect : effects)
      std::visit([&](const auto& one) { carry_out(self, one); }, effect);
  }
  void carry_out(rank_id self, const send_message& what) {
    note_tenant(self, what);
    send(self, what.to, what.body);
  }
  void carry_out(rank_id self, const encode_machine::run_tower& what);
  void carry_out(rank_id self, const encode_machine::write_rows& what);
  void carry_out(rank_id self, const room_vote& what);
  void carry_out(rank_id self, const prefill_leader_machine::run_prefill& what);
  void carry_out(rank_id, const prefill_leader_machine::stop_prefill&) {} // it runs to its end: the worst case
  void carry_out(rank_id self, const prefill_member_machine::write_blocks& what);
  void carry_out(rank_id self, const room_admission& what) { ranks_.at(self).board[what.room] = what.status; }
  void carry_out(rank_id self, const room_forgotten& what) { ranks_.at(self).board.erase(what.room); }
  void carry_out(rank_id self, const decode_leader_machine::join_batch& what);
  void carry_out(rank_id self, const decode_leader_machine::leave_batch& what);

  sizes sizes_;
  std::map<rank_id, rank_state> ranks_;
  std::map<rank_id, generation> born_;
  std::uint32_t generations_ = 1;
  std::map<std::pair<rank_id, rank_id>, lane> lanes_;
  std::vector<write> writes_;
  std::vector<work> works_;
  std::multimap<time_point, std::function<void()>> later_;
  std::map<cell_id, std::deque<std::pair<slot_ref, generation>>> credits_;
  std::map<request_id, asked_question> asked_;
  std::deque<request_id> waiting_;
  std::uint64_t next_ = 1;
  std::uint64_t next_room_ = 1;
  std::map<std::tuple<memory, rank_id, std::uint32_t>, request_id> tenant_; ///< by leader of the lending cell
  std::vector<std::string> strays_;
  std::uint32_t written_ = 0;
  std::uint32_t refused_ = 0;
};

} // namespace troupe::protocols::testing
