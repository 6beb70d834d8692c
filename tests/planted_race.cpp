// Two pairs of actors: what ThreadSanitizer must find between the pairs, and must not find within one, whose actors
// take turns by messages.

#include <array>
#include <latch>

#include <caf/all.hpp>

namespace {

std::array<int, 2> taken_in_turns{}; ///< by each pair
int planted_race = 0;                ///< by both, at any time

constexpr int hops_in_all = 1000;
std::latch both_run{2}; // else one pair may be over, and in order with it, before the other is made

caf::behavior player(caf::event_based_actor* self, std::size_t pair) {
  return {[self, pair](const caf::actor& partner, int hops) {
    if (hops == hops_in_all)
      both_run.arrive_and_wait();
    ++taken_in_turns[pair];
    ++planted_race;
    self->send(partner, caf::actor{self}, hops - 1);
    if (hops <= 1)
      self->quit();
  }};
}

} // namespace

int main() {
  caf::actor_system_config config;
  caf::actor_system system{config};
  for (const std::size_t pair : {0U, 1U})
    caf::anon_send(system.spawn<caf::detached>(player, pair), system.spawn<caf::detached>(player, pair), hops_in_all);
  system.await_all_actors_done();
}
