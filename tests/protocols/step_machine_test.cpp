#include "tests/protocols/step_company.hpp"

using namespace troupe;
using namespace troupe::protocols;
using tests::company_shape;
using tests::joining;
using tests::prompt_of;
using tests::prompt_of_pieces;
using tests::ruled_runner;
using tests::step_company;
using machine = step_machine;

namespace {

std::vector<room_id> rooms(std::uint64_t first, std::size_t count) {
  std::vector<room_id> all;
  for (std::size_t i = 0; i < count; ++i)
    all.emplace_back(first + i);
  return all;
}

tower_item picture(std::uint64_t room) {
  tower_item item;
  item.room = room_id{room};
  return item;
}

picture_item picture_in_prompt(std::uint32_t first, std::array<std::uint32_t, 3> grid) {
  picture_item item;
  item.first_token = first;
  item.tokens = grid[0] * grid[1] * grid[2];
  item.grid = grid;
  return item;
}

std::vector<admission> least_of(const std::vector<room_id>& of, std::uint32_t ranks) {
  std::vector<admission> least;
  for (const auto room : of) {
    least.push_back(admission::done);
    for (std::uint32_t rank = 0; rank < ranks; ++rank)
      least.back() = std::min(least.back(), ruled_runner::known(room, rank));
  }
  return least;
}

/// What the rule says of a sequence alone.
std::vector<token_id> answer_alone(token_id first, std::uint32_t context, std::size_t tokens) {
  std::vector<token_id> all{first};
  while (all.size() < tokens)
    all.push_back(ruled_runner::next(all.back(), context++));
  return all;
}

/// Which prompt each piece was of, in order; votes are "v".
std::string order_of(const step_company& all) {
  std::string order;
  for (const auto& plan : all.plans)
    order += plan.kind == plan_kind::prefill  ? std::to_string(plan.prefill.request.value)
             : plan.kind == plan_kind::vote   ? "v"
             : plan.kind == plan_kind::decode ? "d"
                                              : "?";
  return order;
}

const std::vector<company_shape> shapes{
    {.ranks = 1}, {.ranks = 4}, {.ranks = 4, .steps_ahead = 1}, {.ranks = 2, .stages = 2}, {.ranks = 4, .stages = 2}};

} // namespace

// ---- votes --------------------------------------------------------------------------------------------------------

TEST_CASE("B15: one vote asks for all requests that wait, and each gets its own part of the minimum") {
  step_company all{{.ranks = 4}};
  all.vote(1, rooms(1, 3));
  all.vote(2, rooms(10, 1));
  all.vote(3, rooms(20, 5));

  all.drain();

  REQUIRE(all.plans.size() == 1);
  CHECK(all.plans[0].rooms.size() == 9);
  CHECK(all.told == machine::effects{machine::voted{request_id{1}, least_of(rooms(1, 3), 4)},
                                     machine::voted{request_id{2}, least_of(rooms(10, 1), 4)},
                                     machine::voted{request_id{3}, least_of(rooms(20, 5), 4)}});
}

TEST_CASE("B15: a vote asks about a bounded number of rooms, and never about part of a request's") {
  step_company all{{.ranks = 2}};
  const auto each = limits::vote_rooms_max / 2 - 1;
  for (std::uint64_t request = 1; request <= 3; ++request)
    all.vote(request, rooms(request * 10'000, each));

  all.drain();

  REQUIRE(all.plans.size() == 2);
  CHECK(all.plans[0].rooms.size() == 2 * each);
  CHECK(all.plans[1].rooms.size() == each);
  CHECK(all.all<machine::voted>().size() == 3);
}

TEST_CASE("B15, F17: two votes have a decode step, or a piece of a prompt, between them") {
  step_company all{{.ranks = 2}};
  SUBCASE("decode") {
    all.join(joining(1, 3, 6));
    for (std::uint64_t request = 10; request < 13; ++request) {
      all.vote(request, rooms(request, 1));
      all.step();
      all.vote(request + 10, rooms(request, 1)); // comes during that
      all.step();
    }
    CHECK(order_of(all) == "vdvdvd");
  }
  SUBCASE("prefill") {
    all.prefill(prompt_of_pieces(1, 3));
    for (std::uint64_t request = 10; request < 13; ++request) {
      all.vote(request, rooms(request, 1));
      all.step();
      all.vote(request + 10, rooms(request, 1));
      all.step();
    }
    CHECK(order_of(all) == "v1v1v1");
  }
  SUBCASE("where nothing is to be computed, votes follow each other") {
    for (std::uint64_t request = 10; request < 13; ++request) {
      all.vote(request, rooms(request, 1));
      all.step();
    }
    CHECK(order_of(all) == "vvv");
  }
}

// ---- prompts ------------------------------------------------------------------------------------------------------

TEST_CASE("K7: of two and three prompts the one with the fewest pieces left goes first, of equals the one that came") {
  step_company all{{.ranks = 4}};
  SUBCASE("a short one behind a long one that has begun") {
    all.prefill(prompt_of_pieces(1, 5));
    all.step();
    all.prefill(prompt_of_pieces(2, 2));
    all.drain();
    CHECK(order_of(all) == "1221111");
  }
  SUBCASE("three lengths at once") {
    all.prefill(prompt_of_pieces(1, 3));
    all.prefill(prompt_of_pieces(2, 2));
    all.prefill(prompt_of_pieces(3, 1));
    all.drain();
    CHECK(order_of(all) == "322111");
  }
  SUBCASE("equals") {
    all.prefill(prompt_of_pieces(1, 2));
    all.prefill(prompt_of_pieces(2, 2));
    all.prefill(prompt_of_pieces(3, 2));
    all.drain();
    CHECK(order_of(all) == "112233");
  }
  SUBCASE("one that came later and has as many left") {
    all.prefill(prompt_of_pieces(1, 3));
    all.step();
    all.prefill(prompt_of_pieces(2, 2));
    all.drain();
    CHECK(order_of(all) == "11122");
  }
}

TEST_CASE("K7: a prompt that has let so many pieces of later ones pass goes first, so none starves") {
  step_company all{{.ranks = 2}};
  all.prefill(prompt_of_pieces(1, 4));
  std::uint64_t request = 2;
  for (std::uint32_t i = 0; i < 4 * (limits::prompt_passes_max + 1); ++i) {
    all.prefill(prompt_of(request++, {5, 6, 7})); // one short prompt after the other, without end
    all.step();
  }

  std::vector<std::size_t> own;
  for (std::size_t i = 0; i < all.plans.size(); ++i)
    if (all.plans[i].prefill.request == request_id{1})
      own.push_back(i);
  const auto every = limits::prompt_passes_max;
  // the last piece is as short as any, and came first
  CHECK(own == std::vector<std::size_t>{every, 2 * every + 1, 3 * every + 2, 3 * every + 3});
}

TEST_CASE("A prompt's pieces, its pictures in them, and its first token with the digest and the time of all of it") {
  step_company all{{.ranks = 2}};
  constexpr std::uint32_t chunk = limits::prefill_chunk_tokens;
  auto order = prompt_of(7, std::vector<token_id>(2 * chunk + 5, token_id{3}));
  // one picture across the first two pieces, one in the last
  order.work.pictures = {picture_in_prompt(chunk - 10, {1, 4, 5}), picture_in_prompt(2 * chunk + 1, {1, 1, 2})};
  order.rows = {slot_index{4}, slot_index{9}};
  const auto prompt = order.work.prompt;
  const auto where = positions_of(prompt, order.work.pictures, 1);
  const auto began = all.now;

  all.prefill(order);
  all.drain();

  REQUIRE(all.plans.size() == 3);
  const prefill_picture first{chunk - 10, 20, slot_index{4}};
  const prefill_picture second{2 * chunk + 1, 2, slot_index{9}};
  for (std::size_t i = 0; i < 3; ++i) {
    const auto& piece = all.plans[i].prefill;
    CHECK(piece.begin == i * chunk);
    CHECK(piece.ids.size() == (i < 2 ? chunk : 5));
    CHECK(piece.last == (i == 2));
    CHECK(piece.pictures == (i < 2 ? std::vector{first} : std::vector{second}));
    CHECK(std::ranges::equal(piece.positions, std::span{where.positions}.subspan(piece.begin, piece.ids.size())));
  }
  std::uint64_t digest = 0;
  for (const auto id : prompt)
    digest = ruled_runner::read(digest, id);
  const auto tokens = all.all<machine::first_token>();
  REQUIRE(tokens.size() == 1);
  CHECK(tokens[0].id == ruled_runner::first_of(digest));
  CHECK(tokens[0].position_delta == where.delta);
  CHECK(tokens[0].digest != 0);
  CHECK(tokens[0].began == began);
  CHECK(tokens[0].ended == all.now);
}

TEST_CASE("K7: a prompt that is wanted no more stops at its next piece, in whatever stage it is") {
  step_company all{{.ranks = 2}};
  const machine::effects given_up{machine::given_up{request_id{1}, {fault::cancelled, {}}, false}};
  all.prefill(prompt_of_pieces(1, 3));
  SUBCASE("it waits") {
    all.leave(1);
    CHECK(all.told == given_up);
    all.drain();
    CHECK(all.plans.empty());
  }
  SUBCASE("between two pieces") {
    all.step();
    all.leave(1);
    CHECK(all.told == given_up);
    all.drain();
    CHECK(all.plans.size() == 1);
  }
  SUBCASE("between two pieces of others") {
    all.prefill(prompt_of_pieces(2, 1));
    all.step();
    all.leave(1);
    all.drain();
    CHECK(order_of(all) == "2");
  }
  SUBCASE("after its last piece") {
    all.drain();
    REQUIRE(all.all<machine::first_token>().size() == 1);
    all.leave(1);
    CHECK(all.told.size() == 1);
  }
  SUBCASE("nobody knows it") {
    all.leave(99);
    CHECK(all.told.empty());
    all.drain();
    CHECK(order_of(all) == "111");
  }
}

TEST_CASE("Pictures run in the order of arrival, and a vote between them") {
  step_company all{{.ranks = 2}};
  for (const std::uint64_t room : {5, 3, 9})
    REQUIRE(all.leader().on_encode(picture(room)));
  all.step();
  all.vote(1, rooms(1, 1));
  all.drain();
  REQUIRE(all.plans.size() == 4);
  CHECK(all.plans[1].kind == plan_kind::vote);
  std::vector<std::uint64_t> order;
  for (const auto& end : all.all<machine::tower_ended>()) {
    order.push_back(end.room.value);
    CHECK(end.ended == end.began + std::chrono::milliseconds{1});
  }
  CHECK(order == std::vector<std::uint64_t>{5, 3, 9});
}

// ---- the batch ----------------------------------------------------------------------------------------------------

TEST_CASE("B18: a first token is emitted when its sequence is handed over, which enters with the next step") {
  step_company all{{.ranks = 4}};
  all.join(joining(1, 9, 3));
  CHECK(all.tokens == std::vector{token_event{request_id{1}, 0, 9, finish_reason::none}});
  CHECK(all.plans.empty());
  all.drain();
  CHECK(all.answer_of(1) == answer_alone(9, 5, 3));
  CHECK(all.tokens.back().finish == finish_reason::length);
  CHECK(all.told == machine::effects{machine::left_batch{request_id{1}}});
}

TEST_CASE("B18: a sequence whose first token ends it never enters the batch") {
  step_company all{{.ranks = 2}};
  auto ends = joining(1, 9, 10);
  SUBCASE("by an end token") {
    ends.end_tokens = {4, 9};
  }
  SUBCASE("by its length") {
    ends.max_tokens = 1;
  }
  const auto finish = ends.max_tokens == 1 ? finish_reason::length : finish_reason::stop;
  all.join(ends);
  CHECK(all.tokens == std::vector{token_event{request_id{1}, 0, 9, finish}});
  CHECK(all.told == machine::effects{machine::left_batch{request_id{1}}});
  CHECK_FALSE(all.step());
}

TEST_CASE("B18: sequences join, leave and reuse places alike on every rank, and each gets its own tokens") {
  for (auto of : shapes) {
    CAPTURE(of.ranks);
    CAPTURE(of.stages);
    CAPTURE(of.steps_ahead);
    of.batch_max = 2;
    step_company all{of};
    all.join(joining(1, 10, 100));
    all.join(joining(2, 20, 4));
    all.join(joining(3, 30, 3)); // waits for a place
    for (int steps = 0; !all.has_left(2); ++steps)
      REQUIRE((steps < step_company::steps_max && all.step()));
    all.join(joining(4, 40, 5));
    for (int steps = 0; !all.has_left(4); ++steps)
      REQUIRE((steps < step_company::steps_max && all.step()));
    all.leave(1);
    all.join(joining(5, 50, 2)); // into the place that comes free with the same plan
    all.drain();

    for (const std::uint64_t request : {1, 2, 3, 4, 5})
      CHECK(all.has_left(request));
    CHECK(all.answer_of(2) == answer_alone(20, 5, 4));
    CHECK(all.answer_of(3) == answer_alone(30, 5, 3));
    CHECK(all.answer_of(4) == answer_alone(40, 5, 5));
    CHECK(all.answer_of(5) == answer_alone(50, 5, 2));
    const auto cut = all.answer_of(1);
    CHECK(cut == answer_alone(10, 5, cut.size()));
    CHECK(all.runners[0].batch_most <= 2);
  }
}

TEST_CASE("B18: a sequence that leaves before it has entered was never in the batch") {
  step_company all{{.ranks = 2, .batch_max = 1}};
  all.join(joining(1, 10, 5));
  all.join(joining(2, 20, 5));
  all.step();
  all.leave(2);
  CHECK(all.told == machine::effects{machine::left_batch{request_id{2}}});
  all.drain();
  CHECK(all.answer_of(2) == std::vector<token_id>{20});
  for (const auto& plan : all.plans)
    CHECK(plan.decode.ids.size() <= 1);
}

TEST_CASE("B18: what is under way when the last sequence leaves is collected with that step") {
  step_company all{{.ranks = 2, .steps_ahead = 1}};
  all.join(joining(1, 10, 3));
  all.drain();
  // Three steps: the second chooses the last token, which is known after the third has begun; the fourth lets it go.
  REQUIRE(all.plans.size() == 4);
  CHECK(all.plans.back().decode.leaves == std::vector{request_id{1}});
  CHECK(all.plans.back().decode.ids.empty());
  CHECK(all.answer_of(1) == answer_alone(10, 5, 3));
  all.join(joining(2, 20, 3)); // nothing of the first is left to be taken for the second's
  all.drain();
  CHECK(all.answer_of(2) == answer_alone(20, 5, 3));
}

TEST_CASE("B18: a token that is still on its way when its place has passed on is nobody's") {
  step_company all{{.ranks = 2, .batch_max = 1, .steps_ahead = 1}};
  all.join(joining(1, 10, 100));
  all.step();
  all.step();
  all.leave(1);
  all.join(joining(2, 20, 4));
  all.step(); // request 2 has the place, and the step of request 1 is collected
  CHECK(all.plans.back().decode.joins.size() == 1);
  all.drain();
  CHECK(all.answer_of(2) == answer_alone(20, 5, 4));
}

TEST_CASE("K8: a sequence whose logits are not finite is given up alone") {
  for (const auto& of : shapes) {
    CAPTURE(of.ranks);
    CAPTURE(of.stages);
    CAPTURE(of.steps_ahead);
    step_company all{of};
    const auto bad = answer_alone(30, 5, 3).back();
    for (auto& each : all.runners)
      each.breaks_at = bad;
    all.join(joining(1, 30, 20));
    all.join(joining(2, 20, 2));
    all.drain();
    const auto chooser = std::to_string(of.stages > 1 ? 10 + of.ranks - of.ranks / of.stages : 10);
    CHECK(all.all<machine::given_up>() ==
          std::vector{
              machine::given_up{request_id{1}, {fault::not_finite, "token 3 of the answer, rank " + chooser}, true}});
    CHECK(all.answer_of(1) == answer_alone(30, 5, 3));
    CHECK(all.answer_of(2) == answer_alone(20, 5, 2));
    CHECK(all.has_left(1));
  }
}

TEST_CASE("K8: a prompt whose logits are not finite is given up when it has run whole") {
  step_company all{{.ranks = 2}};
  for (auto& each : all.runners)
    each.breaks_at = 7;
  all.prefill(prompt_of(1, {3, 5, 7}));
  all.prefill(prompt_of(2, {3, 5, 8}));
  all.drain();
  CHECK(all.all<machine::given_up>() ==
        std::vector{machine::given_up{request_id{1}, {fault::not_finite, "token 0 of the answer, rank 10"}, true}});
  CHECK(all.all<machine::first_token>().size() == 1);
}

TEST_CASE("K8: a token that the model does not have is found before any plan") {
  for (const token_id poison : {tests::words, token_id{-1}}) {
    CAPTURE(poison);
    step_company all{{.ranks = 2}};
    all.prefill(prompt_of(1, {3, poison, 5}));
    all.join(joining(2, poison, 5));
    const auto said = "token " + std::to_string(poison);
    CHECK(all.told ==
          machine::effects{
              machine::given_up{request_id{1}, {fault::invalid_request, said + " at 1; the model has 64"}, false},
              machine::given_up{request_id{2}, {fault::invalid_request, said + " at 0; the model has 64"}, true},
              machine::left_batch{request_id{2}}});
    CHECK(all.tokens.empty());
    CHECK_FALSE(all.step());
  }
}

// ---- followers, the end, bounds -----------------------------------------------------------------------------------

TEST_CASE("G7, B11: a follower whose batch or tokens are others than its leader's refuses the plan by name") {
  step_company all{{.ranks = 2}};
  all.join(joining(1, 10, 100));
  all.step();
  auto plan = *all.leader().next(all.now);
  REQUIRE(plan.decode.ids.size() == 1);
  auto& follower = all.machines[1];
  SUBCASE("another token") {
    const auto own = plan.decode.ids[0]++;
    const auto refused = follower.begin(plan);
    REQUIRE_FALSE(refused);
    CHECK(refused.error() ==
          failure{fault::plan_mismatch, "token " + std::to_string(own) + " of request 1 on this rank, the leader has " +
                                            std::to_string(own + 1)});
  }
  SUBCASE("a row that never joined") {
    plan.decode.ids.push_back(3);
    const auto refused = follower.begin(plan);
    REQUIRE_FALSE(refused);
    CHECK(refused.error() == failure{fault::plan_mismatch, "decode step of 2 rows, this rank has 1 and 0 join"});
  }
  SUBCASE("more than the batch holds") {
    for (std::uint64_t request = 2; request < 6; ++request) {
      plan.decode.joins.push_back(joining(request, 3, 5).sequence);
      plan.decode.ids.push_back(3);
    }
    const auto refused = follower.begin(plan);
    REQUIRE_FALSE(refused);
    CHECK(refused.error().code == fault::plan_mismatch);
  }
  SUBCASE("a leave of somebody who is not there changes nothing") {
    plan.decode.leaves.push_back(request_id{77});
    CHECK(follower.begin(plan));
    CHECK(follower.work().leaves.empty());
  }
}

TEST_CASE("A9: a stop is the next plan and the last, whatever waits or is in the batch") {
  step_company all{{.ranks = 2}};
  all.join(joining(1, 10, 100));
  all.step();
  all.vote(2, rooms(1, 1));
  all.prefill(prompt_of_pieces(3, 2));
  all.leader().on_stop();
  const auto last = all.step();
  REQUIRE(last);
  CHECK(last->kind == plan_kind::stop);
  CHECK_FALSE(all.step());
}

TEST_CASE("Calls are numbered from the first plan on, without a gap") {
  step_company all{{.ranks = 1}};
  const auto warm = all.leader().warm();
  REQUIRE(all.leader().begin(warm));
  CHECK(all.leader().on_done(warm, {}, all.now).empty());
  CHECK(warm.kind == plan_kind::warm);
  CHECK(warm.call == call_id{1});
  all.vote(1, rooms(1, 1));
  all.prefill(prompt_of_pieces(2, 2));
  all.drain();
  for (std::size_t i = 0; i < all.plans.size(); ++i)
    CHECK(all.plans[i].call == call_id{i + 2});
}

TEST_CASE("K7: a machine that holds its bound of orders refuses the next one") {
  step_company all{{.ranks = 1}};
  for (std::size_t i = 0; i < limits::executor_queue_max; ++i)
    REQUIRE(all.leader().on_encode(picture(i)));
  const auto refused = all.leader().on_encode(picture(9'999));
  REQUIRE_FALSE(refused);
  CHECK(refused.error() == failure{fault::queue_full, "executor"});
  CHECK_FALSE(all.leader().on_vote({request_id{1}, rooms(1, 1)}));
}

// ---- what requests say of sampling ----------------------------------------------------------------------------------

TEST_CASE("B18: before min_tokens no token ends the answer, and the one that may is the first after it") {
  for (const std::uint32_t least : {0u, 1u, 2u, 4u}) {
    CAPTURE(least);
    step_company all{{.ranks = 2}};
    auto asked = joining(1, 9, 8);
    const auto alone = answer_alone(9, 5, 8);
    asked.end_tokens = alone; // every token would end it
    asked.sequence.sampling.rules.min_tokens = least;
    all.join(asked);
    all.drain();
    CHECK(all.answer_of(1).size() == least + 1);
    CHECK(all.tokens.back().finish == finish_reason::stop);
  }
}

TEST_CASE("B11: log-probabilities go with their token, from the first on, and to the requests that ask for them") {
  for (const company_shape of : {company_shape{.ranks = 1}, company_shape{.ranks = 2, .steps_ahead = 1},
                                 company_shape{.ranks = 4, .stages = 2}}) {
    CAPTURE(of.stages);
    CAPTURE(of.steps_ahead);
    step_company all{of};
    auto asks = joining(1, 9, 5);
    asks.sequence.sampling.rules = {.logprobs = true, .top_logprobs = 2};
    asks.first_logprobs = {{9, 0.0F}, {10, -1.0F}, {11, -2.0F}};
    auto plain = joining(2, 4, 5);
    plain.first_logprobs = {{4, 0.0F}}; // nobody asked for it
    all.join(plain);
    all.join(asks);
    all.drain();
    REQUIRE(all.logprobs.size() == 5);
    const auto ids = all.answer_of(1);
    for (std::size_t i = 0; i < ids.size(); ++i) {
      CAPTURE(i);
      REQUIRE(all.logprobs[i].values.size() == 3);
      CHECK(all.logprobs[i].values[0] == token_logprob{ids[i], 0.0F});
      CHECK(all.logprobs[i].values[2] == token_logprob{ids[i] + 2, -2.0F});
    }
  }
}

TEST_CASE("A7: the first token of a prompt is chosen by the request's rules, which its last piece brings") {
  step_company all{{.ranks = 2}};
  auto asked = prompt_of_pieces(3, 2);
  asked.work.prompt.back() = 1;
  asked.work.sampling.rules = {.repetition_penalty = 1.5F, .bias = {{7, 2.0F}}, .logprobs = true};
  all.prefill(asked);
  all.drain();
  REQUIRE(all.plans.size() == 2);
  CHECK(all.plans[0].prefill.sampling == sampling_options{}); // chooses nothing
  auto expected = asked.work.sampling;
  expected.rules.prompt_ids = {1, 3};
  CHECK(all.plans[1].prefill.sampling == expected);
  const auto first = all.all<machine::first_token>();
  REQUIRE(first.size() == 1);
  CHECK(first[0].logprobs == std::vector{token_logprob{first[0].id, 0.0F}});
}

TEST_CASE("A7: in a chain of stages every rank knows the answers that penalties count") {
  step_company all{{.ranks = 4, .stages = 2}};
  auto counts = joining(1, 9, 4);
  counts.sequence.sampling.rules.presence_penalty = 1.0F;
  all.join(counts);
  all.join(joining(2, 4, 6));
  all.drain();
  auto expected = answer_alone(9, 5, 3); // when its fourth was chosen
  for (const auto& each : all.runners) {
    CHECK(each.answers.at(9) == expected);
    CHECK_FALSE(each.answers.contains(4)); // nothing is kept of an answer that nobody counts
  }
}

TEST_CASE("K8: rules that name a token which the model does not have are the request's own fault") {
  step_company all{{.ranks = 2}};
  auto prompt = prompt_of(1, {1, 2});
  prompt.work.sampling.rules.bias = {{tests::words, 1.0F}};
  all.prefill(prompt);
  auto sequence = joining(2, 9, 4);
  sequence.sequence.sampling.rules.prompt_ids = {-1};
  all.join(sequence);
  const auto ends = all.all<machine::given_up>();
  REQUIRE(ends.size() == 2);
  for (const auto& each : ends)
    CHECK(each.cause.code == fault::invalid_request);
  CHECK(all.has_left(2));
  CHECK_FALSE(all.step());
}

TEST_CASE("A9: a plan brings as many joins as its frame has room for, and the others come with the next") {
  step_company all{{.ranks = 2}};
  for (std::uint64_t request = 1; request <= 3; ++request) {
    auto long_one = joining(request, 9, 4);
    long_one.sequence.sampling.rules.repetition_penalty = 1.5F;
    long_one.sequence.sampling.rules.prompt_ids.assign(limits::plan_prompt_ids_max / 2 + 1, 1);
    all.join(long_one);
  }
  all.drain();
  std::size_t joins = 0;
  for (const auto& plan : all.plans) {
    CHECK(plan.decode.joins.size() <= 1);
    joins += plan.decode.joins.size();
  }
  CHECK(joins == 3);
}
