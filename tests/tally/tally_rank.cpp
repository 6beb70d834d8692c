#include "tests/tally/tally_rank.hpp"

namespace troupe::tally {

using namespace protocols;

namespace {

class tally_rank final : public actors::rank_program {
public:
  tally_rank(actors::rank_context& rank, actors::rank_services& services) : rank_(rank), services_(services) {}

  std::vector<actors::wanted_region> regions() const override { return {}; }
  result<std::vector<std::pair<std::string, std::uint64_t>>> weights() const override { return {}; }
  fabric::transfer_events transfer_events() override {
    return {.on_delivered = [](std::uint64_t, const result<void>&) {},
            .on_arrived = [](rank_id, std::uint64_t) {},
            .on_peer_gone = [](rank_id, const failure&) {}};
  }
  result<void> accept_frame(const frame_view& frame) override {
    return fail(fault::unknown_type, std::string{name(frame.header.type)} + " on a control lane");
  }
  result<std::vector<parity_fact>> facts() override { return {}; }
  result<void> load(time_point) override { return {}; }
  result<void> warm() override { return {}; }
  void serve() override {}
  void drain() override { services_.drained(); }
  void lose(const lost&) override {}
  void writers_gone(const std::set<rank_id>&, bool) override {}
  void recover(const recovered&) override {}
  result<void> accept_client_frame(fabric::link_queues::key, const frame_view& frame) override {
    return fail(fault::unknown_type, std::string{name(frame.header.type)} + " from a client");
  }
  void client_gone(fabric::link_queues::key) override {}
  std::pair<message_type, std::vector<std::byte>> refusal(const failure&) const override { return {}; }
  void stop() override {}

private:
  actors::rank_context& rank_;
  actors::rank_services& services_;
};

} // namespace

std::unique_ptr<actors::rank_program> make_tally_rank(actors::rank_context& rank, actors::rank_services& services) {
  return std::make_unique<tally_rank>(rank, services);
}

} // namespace troupe::tally
