#include <doctest/doctest.h>

#include <map>
#include <random>
#include <set>

#include "protocols/serve/front_machine.hpp"
#include "protocols/serve/roles.hpp"
#include "serve_fixture.hpp"

using namespace troupe::protocols;
using namespace std::chrono_literals;

namespace {

constexpr std::uint32_t pixel_slots = 2;

/// Front, then two cells of each role: encode of two ranks, prefill of two ranks, decode of one.
cluster_plan walked_plan() {
  cluster_spec spec;
  spec.name = "walked";
  spec.pools = {{"front", serve_role::front, 1, 1, 1},
                {"encode", serve_role::encode, 2, 2, 1},
                {"prefill", serve_role::prefill, 2, 2, 1},
                {"decode", serve_role::decode, 2, 1, 1}};
  return make_plan(spec).value();
}

front_machine::options walked_bounds() {
  return {.in_flight_max = 5,
          .context_max = 256,
          .kv_tokens_max = 128,
          .row_slots = 3,
          .pixel_slots = pixel_slots,
          .staging_slots = 2 * pixel_slots,
          .picture_tokens_max = 16,
          .end_tokens = {9},
          .request_deadline = 20s,
          .ack_deadline = 1h,
          .quiet_after = 300ms,
          .drain_deadline = 3s};
}

/// The cells as the front sees them, any of which may be slow, fail, die or come back; checks what every walk must
/// hold.
class walk {
public:
  explicit walk(std::uint32_t seed) : plan_(walked_plan()), random_(seed), front_(plan_, walked_bounds()) {
    for (const auto role : {serve_role::encode, serve_role::prefill, serve_role::decode})
      for (const auto id : plan_.cells_of(role)) {
        cells_.push_back(id);
        if (role == serve_role::encode)
          grant_all(id);
      }
  }

  void step() {
    now_ += std::chrono::milliseconds{below(400)};
    switch (below(10)) {
    case 0:
    case 1:
      return ask();
    case 2:
    case 3:
      return end_write();
    case 4:
    case 5:
      return say_token();
    case 6:
      return give_back_slot();
    case 7:
      return below(3) == 0 ? lose_or_regain() : say_error();
    case 8:
      if (!open_.empty())
        carry_out(front_.on_cancel(*std::next(open_.begin(), below(static_cast<std::uint32_t>(open_.size()))), now_));
      return;
    default:
      carry_out(front_.on_tick(now_));
    }
  }

  /// By its own deadline each request has ended, whatever the cells do.
  void finish() {
    while (!writes_.empty())
      end_write();
    now_ += 30s;
    carry_out(front_.on_tick(now_));
    CHECK(open_.empty());
    CHECK(front_.in_flight() == 0);
    CHECK(front_.waiting() == 0);
  }

private:
  std::uint32_t below(std::uint32_t most) { return static_cast<std::uint32_t>(random_() % most); }

  void ask() {
    front_machine::request one{.id = request_id{++asked_},
                               .prompt = std::vector<token_id>(1 + below(60), 7),
                               .pictures = {},
                               .sampling = {},
                               .max_tokens = 1 + below(60),
                               .asked = now_};
    for (auto pictures = below(3); pictures > 0; --pictures)
      one.pictures.push_back(
          {.height = 32, .width = 32, .tokens = 1, .first_token = 0, .grid = {1, 2, 2}, .content_hash = below(9)});
    auto taken = front_.on_request(std::move(one), now_);
    if (!taken)
      return;
    open_.insert(request_id{asked_});
    carry_out(*std::move(taken));
  }

  void end_write() {
    if (writes_.empty())
      return;
    const auto which = std::next(writes_.begin(), below(static_cast<std::uint32_t>(writes_.size())));
    const auto room = *which;
    writes_.erase(which);
    const auto how = below(8) > 1   ? front_machine::write_end::delivered
                     : below(2) > 0 ? front_machine::write_end::failed
                                    : front_machine::write_end::refused;
    carry_out(front_.on_pixels_written(room, how, {fault::transfer_failed, "pixels"}, now_));
  }

  void say_token() {
    if (attempts_.empty())
      return;
    auto& [id, one] = *std::next(attempts_.begin(), below(static_cast<std::uint32_t>(attempts_.size())));
    const auto index = below(9) == 0 ? one.next + below(2) : one.next++;
    const auto finish = below(3) == 0 ? finish_reason::stop : finish_reason::none;
    carry_out(front_.on_tokens(plan_.cell(one.decode).leader(), {{{id, index, 1, finish}}}, now_));
  }

  void give_back_slot() {
    if (lent_.empty())
      return;
    const auto which = std::next(lent_.begin(), below(static_cast<std::uint32_t>(lent_.size())));
    const auto [cell, slot] = *which;
    lent_.erase(which);
    grant_pixels credit;
    credit.slots = {{slot, generation{++lease_generation_}}};
    carry_out(front_.on_pixel_credits(plan_.cell(cell).leader(), credit, now_));
  }

  void grant_all(cell_id cell) {
    grant_pixels credits;
    for (std::uint32_t slot = 0; slot < pixel_slots; ++slot)
      credits.slots.push_back({slot_index{slot}, generation{++lease_generation_}});
    carry_out(front_.on_pixel_credits(plan_.cell(cell).leader(), credits, now_));
  }

  void say_error() {
    const auto codes = std::array{fault::timeout, fault::queue_full, fault::executor_failed, fault::stale_grant};
    error said;
    said.code = static_cast<std::uint16_t>(codes[below(4)]);
    said.where = std::array{"encode", "prefill", "decode", "message"}[below(4)];
    said.request = request_id{1 + below(static_cast<std::uint32_t>(attempt_last_ + 2))};
    carry_out(front_.on_error(rank_id{below(static_cast<std::uint32_t>(plan_.ranks.size()))}, said, now_));
  }

  void lose_or_regain() {
    const auto cell = cells_[below(static_cast<std::uint32_t>(cells_.size()))];
    const auto& ranks = plan_.cell(cell).ranks;
    if (away_.erase(cell) == 0) {
      away_.insert(cell);
      std::erase_if(lent_, [&](const auto& each) { return each.first == cell; });
      return carry_out(front_.on_lost({ranks, generation{2}, "killed"}, now_));
    }
    if (plan_.cell(cell).role == serve_role::encode)
      grant_all(cell);
    carry_out(front_.on_recovered({ranks}, now_));
  }

  void carry_out(const front_machine::effects& effects) {
    for (const auto& each : effects) {
      if (const auto* const write = std::get_if<front_machine::write_pixels>(&each)) {
        CHECK(lent_.emplace(write->encode_cell, write->slot.slot).second); // nobody else has the slot
        for (std::size_t place = 0; place < plan_.cell(write->encode_cell).ranks.size(); ++place)
          writes_.insert(write->room);
      }
      if (const auto* const end = std::get_if<front_machine::end_request>(&each))
        CHECK(open_.erase(end->request) == 1); // once
      if (const auto* const token = std::get_if<front_machine::emit_token>(&each))
        CHECK(open_.contains(token->request));
      if (const auto* const message = std::get_if<send_message>(&each))
        note(message->body);
    }
    REQUIRE(front_.audit() == "");
  }

  void note(const serve_message& message) {
    if (const auto* const work = std::get_if<submit>(&message)) {
      attempts_[work->request] = {work->decode_cell, 0};
      attempt_last_ = work->request.value;
    } else if (const auto* const end = std::get_if<cancel>(&message))
      attempts_.erase(end->request);
  }

  struct running {
    cell_id decode;
    std::uint32_t next = 0;
  };

  cluster_plan plan_;
  std::mt19937 random_;
  front_machine front_;
  time_point now_ = at(0ms);
  std::vector<cell_id> cells_;
  std::set<cell_id> away_;
  std::set<request_id> open_;
  std::map<request_id, running> attempts_;
  std::multiset<room_id> writes_; ///< under way, one for each rank of the encode cell
  std::set<std::pair<cell_id, slot_index>> lent_;
  std::uint64_t asked_ = 0;
  std::uint64_t attempt_last_ = 0;
  std::uint32_t lease_generation_ = 0;
};

} // namespace

TEST_CASE("K3, K16: through any walk of slow, failing and dying cells the front's credits add up after every event, a "
          "slot has one tenant, and each request ends once, by its deadline at the latest") {
  for (std::uint32_t seed = 1; seed <= 100; ++seed) {
    CAPTURE(seed);
    walk one{seed};
    for (int step = 0; step < 300; ++step)
      one.step();
    one.finish();
  }
}
