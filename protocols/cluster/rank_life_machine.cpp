#include "protocols/cluster/rank_life_machine.hpp"

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

result<void> rank_life_machine::on_roster() {
  if (at_ != life_state::joined || heading_ != life_state::joined)
    return illegal("a roster came");
  heading_ = life_state::agreed;
  return {};
}

result<void> rank_life_machine::on_verdict(const verdict& judged) {
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
  const bool waits = at_ == heading_ && at_ >= life_state::agreed;
  if (!waits || step_after(at_) != order.next)
    return illegal("an order came to proceed to " + std::string{name(order.next)});
  heading_ = order.next;
  return {};
}

result<std::optional<progress>> rank_life_machine::on_reached(life_state here, std::string detail) {
  if (at_ == life_state::draining)
    return std::optional<progress>{};
  const bool by_verdict = here == life_state::agreed;
  if (by_verdict || here != heading_ || step_after(at_) != here)
    return illegal("it reached " + std::string{name(here)});
  at_ = here;
  return progress{here, std::move(detail)};
}

result<void> rank_life_machine::on_shutdown(const shutdown& order) {
  if (at_ == life_state::left || at_ == life_state::failed)
    return illegal("a shutdown came");
  at_ = life_state::draining;
  heading_ = life_state::left;
  aborting_ = aborting_ || !order.drain;
  return {};
}

result<void> rank_life_machine::on_left() {
  if (at_ != life_state::draining)
    return illegal("it left");
  at_ = life_state::left;
  return {};
}

bool supersedes_readmission(message_type order) noexcept {
  return order == message_type::lost || order == message_type::readmit || order == message_type::shutdown;
}

tl::unexpected<failure> rank_life_machine::illegal(std::string_view event) const {
  return protocols::fail(fault::illegal_transition, std::string{event} + " while " + std::string{name(at_)} +
                                                        ", on the way to " + std::string{name(heading_)});
}

} // namespace troupe::protocols
