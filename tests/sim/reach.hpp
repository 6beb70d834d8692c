#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "protocols/cluster/cluster_plan.hpp"
#include "protocols/cluster/program.hpp"
#include "protocols/cluster/route.hpp"
#include "protocols/serve/serve_message.hpp"

namespace troupe::sim {

class table_watch;

/// All that a schedule can reach: every transition of the machines' tables, every fault, every effect of every machine,
/// every row of the route table. The order is fixed; each is one line of text.
const std::vector<std::string>& reachable();

/// How many of one kind were reached.
struct reach_sum {
  std::string_view kind; ///< "transitions"
  std::size_t reached = 0;
  std::size_t all = 0;
};
/// `counts`: one for each line of `reachable()`.
std::vector<reach_sum> sum_reach(std::span<const std::uint64_t> counts);
/// "transitions 310 of 355, faults 17 of 39, effects 40 of 41, routes 34 of 34".
std::string words_of(std::span<const reach_sum> sums);

/// Counts what the machines of this process reach. There is one per process, since there is one `machine_watch`.
class reach_count {
public:
  static reach_count& mine();
  ~reach_count();

  /// Forgets what was counted.
  void begin();
  /// One for each line of `reachable()`.
  std::vector<std::uint64_t> counts() const;
  /// A transition that no table allows, in words; empty: there was none.
  const std::string& stranger() const noexcept { return stranger_; }

  /// A machine has returned these effects.
  template <class Effect>
  void on_effects(const std::vector<Effect>& what) {
    for (const auto& each : what) {
      ++effects_[first_effect<Effect>() + each.index()];
      std::visit([this](const auto& one) { look_for_fault(one); }, each);
    }
  }
  /// A validated message has reached the actor of `role`.
  void on_message(const protocols::cluster_plan& plan, protocols::message_type type, protocols::rank_id from,
                  protocols::rank_id to, protocols::role_kind role);
  /// A peer's write is complete.
  void on_write(protocols::rank_id from, protocols::rank_id to, protocols::transfer_kind kind) {
    if (tells_write_)
      tells_write_(from, to, kind);
  }
  void on_failure(std::uint16_t code);

  using teller = std::function<void(protocols::rank_id from, protocols::rank_id to, protocols::role_kind,
                                    protocols::message_type)>;
  using write_teller = std::function<void(protocols::rank_id from, protocols::rank_id to, protocols::transfer_kind)>;
  /// Also calls these for every message and every write; empty: calls nobody.
  void tell(teller messages, write_teller writes) {
    tells_ = std::move(messages);
    tells_write_ = std::move(writes);
  }

private:
  reach_count();
  template <class Effect>
  static std::size_t first_effect();
  /// Counts the fault that an effect carries, if it has one; effects name that member differently.
  template <class Effect>
  void look_for_fault(const Effect& one) {
    if constexpr (requires { one.cause->code; }) {
      if (one.cause)
        on_failure(static_cast<std::uint16_t>(one.cause->code));
    } else if constexpr (requires { one.cause.code; })
      on_failure(static_cast<std::uint16_t>(one.cause.code));
    else if constexpr (requires { one.why.code; })
      on_failure(static_cast<std::uint16_t>(one.why.code));
    else if constexpr (requires { std::get_if<protocols::kv_sent>(&one.body); }) {
      if (const auto* const problem = std::get_if<protocols::error>(&one.body))
        on_failure(problem->code);
      if (const auto* const sent = std::get_if<protocols::kv_sent>(&one.body))
        on_failure(sent->code);
    }
  }

  std::string stranger_;
  std::unique_ptr<table_watch> watch_;
  std::vector<std::uint64_t> faults_;
  std::vector<std::uint64_t> effects_;
  std::vector<std::uint64_t> routes_;
  teller tells_;
  write_teller tells_write_;
};

} // namespace troupe::sim
