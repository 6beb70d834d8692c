#include <random>
#include <set>

#include "tests/protocols/step_company.hpp"

using namespace troupe;
using namespace troupe::protocols;
using tests::company_shape;
using tests::joining;
using tests::prompt_of;
using tests::ruled_runner;
using tests::step_company;
using machine = step_machine;

namespace {

/// Orders at random to a leader and its followers; every answer is held against the same request alone.
class step_walk {
public:
  step_walk(const company_shape& of, unsigned seed) : shape_(of), all_(of), random_(seed) {}

  void run(int orders) {
    for (int i = 0; i < orders; ++i) {
      order();
      for (auto steps = below(3); steps > 0; --steps)
        all_.step();
    }
    all_.drain();
  }

  void check() const {
    for (const auto& [request, rooms] : votes_)
      check_vote(request, rooms);
    for (const auto& [request, prompt] : prompts_)
      check_prompt(request, prompt);
    for (const auto& [request, join] : joins_)
      check_answer(request, join);
    CHECK(all_.all<machine::voted>().size() == votes_.size());
  }

private:
  void order() {
    const auto request = ++newest_;
    switch (below(8)) {
    case 0:
    case 1: {
      std::vector<room_id> rooms;
      for (auto count = 1 + below(4); count > 0; --count)
        rooms.emplace_back(random_() % 1000);
      all_.vote(request, rooms);
      votes_[request] = rooms;
      break;
    }
    case 2:
    case 3: {
      std::vector<token_id> ids(1 + below(3) * limits::prefill_chunk_tokens + below(50));
      for (auto& id : ids)
        id = static_cast<token_id>(below(tests::words));
      prompts_[request] = prompt_of(request, std::move(ids));
      all_.prefill(prompts_[request]);
      break;
    }
    case 4:
    case 5:
    case 6: {
      auto join = joining(request, static_cast<token_id>(below(tests::words)), 1 + below(20));
      join.sequence.context = 1 + below(40);
      join.sequence.blocks = tests::blocks_for(join.sequence.context + join.max_tokens);
      join.end_tokens = {static_cast<token_id>(below(tests::words))};
      joins_[request] = join;
      all_.join(join);
      break;
    }
    default:
      all_.leave(*cancelled_.insert(1 + below(static_cast<std::uint32_t>(newest_))).first);
      break;
    }
  }

  void check_vote(std::uint64_t request, const std::vector<room_id>& rooms) const {
    step_company alone{{.ranks = shape_.ranks}};
    alone.vote(request, rooms);
    alone.drain();
    const auto all = all_.all<machine::voted>();
    CHECK(std::ranges::find(all, alone.all<machine::voted>().front()) != all.end());
  }

  void check_prompt(std::uint64_t request, const prefill_leader_machine::run_prefill& order) const {
    step_company alone{{.ranks = 1}};
    alone.prefill(order);
    alone.drain();
    const auto expected = alone.all<machine::first_token>().front();
    const auto of_it = [&](const auto& each) { return each.request.value == request; };
    const auto tokens = all_.all<machine::first_token>();
    const auto given_up = all_.all<machine::given_up>();
    const auto token = std::ranges::find_if(tokens, of_it);
    const auto ended = std::ranges::count_if(tokens, of_it) + std::ranges::count_if(given_up, of_it);
    REQUIRE(ended == 1);
    if (token == tokens.end())
      return; // cancelled
    CHECK(token->id == expected.id);
    CHECK(token->digest == expected.digest);
  }

  void check_answer(std::uint64_t request, const decode_leader_machine::join_batch& order) const {
    step_company alone{{.ranks = 1}};
    alone.join(order);
    alone.drain();
    const auto expected = alone.answer_of(request);
    const auto got = all_.answer_of(request);
    const auto left = all_.all<machine::left_batch>();
    CHECK(std::ranges::count(left, machine::left_batch{request_id{request}}) == 1);
    REQUIRE(got.size() <= expected.size());
    CHECK(std::ranges::equal(got, std::span{expected}.first(got.size())));
    if (!cancelled_.contains(request))
      CHECK(got.size() == expected.size());
  }

  std::uint32_t below(std::uint32_t bound) { return static_cast<std::uint32_t>(random_() % bound); }

  company_shape shape_;
  step_company all_;
  std::mt19937 random_;
  std::uint64_t newest_ = 0;
  std::map<std::uint64_t, std::vector<room_id>> votes_;
  std::map<std::uint64_t, prefill_leader_machine::run_prefill> prompts_;
  std::map<std::uint64_t, decode_leader_machine::join_batch> joins_;
  std::set<std::uint64_t> cancelled_;
};

} // namespace

TEST_CASE("B18, B15, K7: whatever is ordered beside it, every request is answered as if it were alone") {
  for (unsigned seed = 1; seed <= 60; ++seed) {
    CAPTURE(seed);
    for (const auto& of : {company_shape{.ranks = 4, .batch_max = 3},
                           {.ranks = 4, .batch_max = 3, .steps_ahead = 1},
                           {.ranks = 4, .stages = 2, .batch_max = 3}}) {
      CAPTURE(of.stages);
      CAPTURE(of.steps_ahead);
      step_walk walk{of, seed};
      walk.run(60);
      walk.check();
    }
  }
}
