#include "protocols/cluster/rank_life_machine.hpp"

#include <algorithm>
#include <utility>

#include "protocols/cluster/life_machine.hpp"
#include "protocols/cluster/program.hpp"
#include "protocols/limits.hpp"

namespace troupe::protocols {

namespace {

/// The state after `state` on the way to ready; nothing from ready on.
std::optional<life_state> step_after(life_state state) noexcept {
  switch (state) {
  case life_state::spawned:
    return life_state::joined;
  case life_state::joined:
    return life_state::agreed;
  case life_state::agreed:
    return life_state::grouped;
  case life_state::grouped:
    return life_state::warm;
  case life_state::warm:
    return life_state::ready;
  case life_state::ready:
  case life_state::draining:
  case life_state::left:
  case life_state::failed:
    return std::nullopt;
  }
  return std::nullopt;
}

} // namespace

void rank_life_machine::on_launch(const cluster_plan& plan) {
  const keeps_invariants checked{*this};
  front_ = plan.front();
  is_front_ = plan.is_front(self_);
  alone_ = plan.rank(self_).role == role_kind::stub;
  one_fate_.assign(plan.ranks.size(), false);
  for (const auto& cell : plan.cells) {
    if (!cell.place_of(self_))
      continue;
    for (const auto member : cell.ranks)
      one_fate_[member.value] = true;
  }
}

result<void> rank_life_machine::on_roster() {
  const keeps_invariants checked{*this};
  if (at_ != life_state::joined || heading_ != life_state::joined)
    return illegal("a roster came");
  heading_ = life_state::agreed;
  return {};
}

result<void> rank_life_machine::on_verdict(const verdict& judged) {
  const keeps_invariants checked{*this};
  if (at_ != life_state::joined || heading_ != life_state::agreed)
    return illegal("a verdict came");
  if (!judged.agreed) {
    at_ = life_state::failed;
    return protocols::fail(fault::parity_mismatch, judged.difference);
  }
  at_ = life_state::agreed;
  return {};
}

result<void> rank_life_machine::on_proceed(const proceed& order) {
  const keeps_invariants checked{*this};
  const bool waits = at_ == heading_ && at_ >= life_state::agreed;
  if (!waits || step_after(at_) != order.next)
    return illegal("an order came to proceed to " + std::string{name(order.next)});
  heading_ = order.next;
  return {};
}

result<std::optional<progress>> rank_life_machine::on_reached(life_state here, std::string detail) {
  const keeps_invariants checked{*this};
  if (at_ == life_state::draining)
    return std::optional<progress>{};
  const bool by_verdict = here == life_state::agreed;
  if (by_verdict || here != heading_ || step_after(at_) != here)
    return illegal("it reached " + std::string{name(here)});
  at_ = here;
  return progress{here, std::move(detail)};
}

result<bool> rank_life_machine::on_shutdown(const shutdown& order) {
  const keeps_invariants checked{*this};
  if (at_ == life_state::left || at_ == life_state::failed)
    return illegal("a shutdown came");
  served_ = served_ || at_ == life_state::ready;
  at_ = life_state::draining;
  heading_ = life_state::left;
  aborting_ = aborting_ || !order.drain;
  return served_;
}

result<rejoined> rank_life_machine::on_rejoin(const rejoin& order) {
  const keeps_invariants checked{*this};
  if (order.ranks.empty())
    return protocols::fail(fault::bad_value, "nobody to admit again");
  const auto is_front = [this](const endpoint& peer) { return peer.rank == front_; };
  front_gone_ = front_gone_ && std::ranges::none_of(order.ranks, is_front);
  return rejoined{.born = order.ranks.front().born, .begun = 1};
}

std::optional<std::variant<rejoined, error>>
rank_life_machine::on_admitted(const rejoin& order, const result<void>& done, std::optional<rank_id> unreached) const {
  if (done)
    return rejoined{.born = order.ranks.front().born};
  if (done.error().code == fault::cancelled)
    return std::nullopt;
  return refuse_to_rejoin(self_, unreached, done.error());
}

std::vector<error> rank_life_machine::on_inbox(const rank_inbox& posted, time_point now) {
  const keeps_invariants checked{*this};
  drained_ = drained_ || posted.drained;
  if (const auto& trouble = posted.trouble.get())
    trouble_.note(*trouble);
  std::vector<error> told;
  for (const auto& [peer, cause] : posted.gone) {
    front_gone_ = front_gone_ || peer == front_;
    auto what = "rank " + std::to_string(peer.value) + ": " + std::string{name(cause.code)};
    if (cause.code != fault::peer_gone && !cause.what.empty())
      what += ": " + cause.what;
    if (peer.value < one_fate_.size() && one_fate_[peer.value])
      trouble_.note({{fault::peer_gone, std::move(what)}, "edge", now});
    else if (at_ != life_state::draining) // in a drain they leave
      told.push_back({.code = static_cast<std::uint16_t>(cause.code),
                      .message = std::move(what),
                      .origin = peer,
                      .call = {},
                      .where = "edge",
                      .request = {}});
  }
  return told;
}

result<void> rank_life_machine::on_left() {
  const keeps_invariants checked{*this};
  if (at_ != life_state::draining)
    return illegal("it left");
  at_ = life_state::left;
  return {};
}

std::string rank_life_machine::where_of(const failure& cause) const {
  const auto& trouble = trouble_.get();
  return trouble && trouble->cause == cause ? trouble->where : std::string{name(heading_)};
}

rank_life_machine::last_words rank_life_machine::on_failed(const failure& cause, std::string where,
                                                           std::optional<rank_id> unreached) {
  const keeps_invariants checked{*this};
  const bool of_another = unreached && at_ < life_state::ready;
  at_ = life_state::failed;
  return {{.code = static_cast<std::uint16_t>(cause.code),
           .message = cause.what,
           .origin = of_another ? *unreached : self_,
           .call = {},
           .where = std::move(where),
           .request = {}},
          of_another};
}

std::optional<failure> rank_life_machine::must_leave(time_point now) const {
  const auto& trouble = trouble_.get();
  if (!trouble)
    return std::nullopt;
  const bool of_peer = trouble->cause.code == fault::peer_gone;
  if (of_peer && (is_explained() || now < trouble->since + limits::explanation_grace))
    return std::nullopt;
  return trouble->cause;
}

bool rank_life_machine::may_leave() const noexcept {
  if (aborting_)
    return true;
  if (at_ != life_state::draining)
    return false;
  return alone_ || !served_ || (is_front_ ? drained_ : front_gone_);
}

duration rank_life_machine::nap(duration most) const {
  return trouble_.get() && !is_explained() ? std::min<duration>(limits::explanation_grace, most) : most;
}

bool supersedes_rejoin(message_type order) noexcept {
  return order == message_type::lost || order == message_type::rejoin || order == message_type::shutdown;
}

tl::unexpected<failure> rank_life_machine::illegal(std::string_view event) const {
  return protocols::fail(fault::illegal_transition, std::string{event} + " while " + std::string{name(at_)} +
                                                        ", on the way to " + std::string{name(heading_)});
}

void rank_life_machine::check_invariants() const {
  const bool ends = at_ >= life_state::draining;
  TROUPE_ASSERT("B20", ends || heading_ == at_ || heading_ == step_after(at_));
  TROUPE_ASSERT("C2", (at_ != life_state::draining && at_ != life_state::left) || heading_ == life_state::left);
  TROUPE_ASSERT("C3", !aborting_ || ends);
  TROUPE_ASSERT("C3", !served_ || ends);
}

} // namespace troupe::protocols
