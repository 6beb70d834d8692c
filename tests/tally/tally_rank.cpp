#include "tests/tally/tally_rank.hpp"

#include "protocols/wire/decode_frame.hpp"
#include "tests/tally/tally_actors.hpp"
#include "tests/tally/tally_program.hpp"

namespace troupe::tally {

using namespace protocols;

namespace {

class tally_rank final : public actors::rank_program {
public:
  tally_rank(actors::rank_context& rank, actors::rank_services& services)
      : rank_(rank), services_(services), cell_(rank.plan.cell(rank.plan.cells_on(rank.self).front())) {}

  std::vector<actors::wanted_region> regions() const override {
    const auto bytes = tally_program().setting(rank_.spec, tally_setting::numbers_max) * sizeof(float);
    if (cell_.role == counter)
      return {{"numbers", 1, bytes, fabric::memory_kind::host}};
    const auto cells = rank_.plan.cells_of(counter);
    return {{"drawn", static_cast<std::uint32_t>(cells.size()), bytes * rank_.plan.cell(cells.front()).ranks.size(),
             fabric::memory_kind::host}};
  }
  result<std::vector<std::pair<std::string, std::uint64_t>>> weights() const override {
    return std::vector<std::pair<std::string, std::uint64_t>>{};
  }
  fabric::transfer_events transfer_events() override { return actors::transfer_events_of(rank_); }
  result<void> accept_frame(const frame_view& frame) override { return tally_router.accept(rank_, frame); }
  result<std::vector<parity_fact>> facts() override { return std::vector<parity_fact>{}; }

  result<void> load(time_point deadline) override {
    if (cell_.role == teller) {
      rank_.roles->publish(teller, services_.system().spawn<teller_actor>(rank_, [this] { services_.drained(); }));
      return {};
    }
    auto groups = services_.join(
        cell_, [] { return result<void>{}; }, deadline);
    if (!groups)
      return tl::unexpected<failure>{groups.error()};
    executor_ = services_.system().spawn<counter_executor, caf::detached>(rank_, *cell_.place_of(rank_.self),
                                                                          *std::move(groups), services_.nap());
    rank_.roles->publish(counter, services_.system().spawn<counter_actor>(rank_, cell_, executor_));
    return {};
  }
  result<void> warm() override { return {}; }
  void serve() override {
    if (cell_.role != counter)
      return;
    caf::anon_send(executor_, actors::run_atom::value);
    rank_.tell_role(counter, actors::start_atom::value);
  }
  void drain() override {
    if (cell_.role == teller)
      rank_.tell_role(teller, finish_all{});
  }
  void lose(const lost& news) override { rank_.roles->tell_all(news); }
  void writers_gone(const std::set<rank_id>&, bool) override {} // the teller alone writes, and is never restarted
  void recover(const recovered& news) override { rank_.tell_role(teller, news); }

  result<void> accept_client_frame(fabric::link_queues::key client, const frame_view& frame) override {
    count what;
    if (frame.header.type != count::type)
      return fail(fault::unknown_type, std::string{name(frame.header.type)} + " from a client");
    return decode_frame(frame, what).map([&] { rank_.tell_role(teller, client_asks{client, what}); });
  }
  void client_gone(fabric::link_queues::key client) override { rank_.tell_role(teller, client_left{client}); }
  std::pair<message_type, std::vector<std::byte>> refusal(const failure& why) const override {
    auto letter = actors::outgoing_of(
        counted{.tag = 0, .code = static_cast<std::uint16_t>(why.code), .message = why.what, .value = 0, .rounds = 0},
        cache_epoch{});
    return {letter.type, std::move(letter.payload)};
  }
  void stop() override {
    if (executor_)
      caf::anon_send(executor_, actors::stop_atom::value);
  }

private:
  actors::rank_context& rank_;
  actors::rank_services& services_;
  const cell_plan& cell_;
  caf::actor executor_;
};

} // namespace

std::unique_ptr<actors::rank_program> make_tally_rank(actors::rank_context& rank, actors::rank_services& services) {
  return std::make_unique<tally_rank>(rank, services);
}

} // namespace troupe::tally
