#include "tests/sim/process.hpp"

#include "tests/sim/rank_main.hpp"
#include "tests/sim/serve_node.hpp"
#include "tests/sim/world.hpp"

namespace troupe::sim {

using namespace protocols;

process::process(world& world, rank_id id, generation of, cache_epoch in)
    : all(world), self(id), born(of), epoch(in), label(world.plan().rank(id).label),
      memory(std::make_shared<rank_memory>(make_memory(world.cluster, id))) {
  const auto apart = static_cast<std::int64_t>(all.sky.clock_apart);
  if (apart > 0)
    clock_ += static_cast<std::int64_t>(all.dice.between(0, 2 * static_cast<std::uint64_t>(apart))) - apart;
}

process::~process() = default;

time_point process::now() const {
  return time_line::epoch + (all.time.now() - time_line::epoch) * clock_ / 1000;
}

void process::wake(duration delay, std::function<void()> what) {
  reach(all.time.now() + delay * 1000 / clock_, std::move(what));
}

void process::hand(thread to, std::function<void()> what) {
  auto& last = last_[static_cast<std::size_t>(to)];
  last = std::max(all.time.now() + all.delay(all.sky.hop), last + duration{1});
  reach(last, std::move(what));
}

void process::reach(time_point when, std::function<void()> what) {
  all.time.at(when, [me = shared_from_this(), what = std::move(what)]() mutable { me->turn(std::move(what)); });
}

/// What comes while the process is stopped waits for it to go on, in order.
void process::turn(std::function<void()> what) {
  if (!running)
    return;
  if (!stopped() && backlog_.empty())
    return what();
  backlog_.push_back(std::move(what));
  if (backlog_.size() == 1)
    all.time.at(stopped_until_, [me = shared_from_this()] { me->go_on(); });
}

void process::go_on() {
  if (stopped())
    return all.time.at(stopped_until_, [me = shared_from_this()] { me->go_on(); });
  while (running && !backlog_.empty()) {
    const auto next = std::move(backlog_.front());
    backlog_.pop_front();
    next();
  }
}

bool process::stopped() const {
  return all.time.now() < stopped_until_;
}

void process::stop_for(duration pause) {
  stopped_until_ = std::max(stopped_until_, all.time.now() + pause + duration{1});
}

void process::resume() {
  stopped_until_ = {};
  go_on();
}

void process::exit(rank_end how) {
  if (!std::exchange(running, false))
    return;
  all.on_exit(*this, std::move(how));
}

void process::fail(const failure& cause, const std::string& where) {
  main->on_trouble(cause, where);
}

} // namespace troupe::sim
