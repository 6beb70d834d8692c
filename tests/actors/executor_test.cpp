#include "actors/serve/executor_actor.hpp"

#include <atomic>
#include <future>

#include "protocols/wire/codec.hpp"
#include "runtime/base/clock.hpp"
#include "tests/actors/executor_company.hpp"

using namespace troupe;
using namespace troupe::protocols;
using tests::executor_company;
using namespace std::chrono_literals;

namespace {

std::vector<block_index> blocks_for(std::size_t tokens) {
  std::vector<block_index> blocks;
  for (std::uint32_t i = 0; i * limits::kv_block_tokens < tokens; ++i)
    blocks.emplace_back(i);
  return blocks;
}

/// Of a GPU that waits for member 1; on the host's tensors it carries nothing out.
class waiting_gpu final : public gpu::device_collectives {
  bool capturable() const noexcept override { return false; }
  std::string form() const override { return "nothing"; }
  std::uint32_t awaited() const noexcept override { return 0b10; }
  result<void> all_reduce_sum(gpu::stream&, const gpu::tensor_view&, time_point) override { return {}; }
  result<void> all_reduce_add(gpu::stream&, const gpu::tensor_view&, const gpu::tensor_view&, time_point) override {
    return {};
  }
  result<void> all_gather(gpu::stream&, const gpu::tensor_view&, const gpu::tensor_view&, time_point) override {
    return {};
  }
  result<void> send(gpu::stream&, const gpu::tensor_view&, std::uint32_t, time_point) override { return {}; }
  result<void> receive(gpu::stream&, const gpu::tensor_view&, std::uint32_t, time_point) override { return {}; }
};

decode_leader_machine::join_batch join(std::uint64_t request, token_id first, std::uint32_t max_tokens) {
  return {.sequence = {.request = request_id{request},
                       .context = 5,
                       .position_delta = 0,
                       .blocks = blocks_for(5 + max_tokens),
                       .sampling = {}},
          .first_token = first,
          .max_tokens = max_tokens,
          .end_tokens = {}};
}

/// The answer of one request, by index.
std::vector<token_id> answer_of(const executor_company& all, std::uint64_t request) {
  std::vector<token_id> ids;
  for (const auto& each : all.tokens)
    if (each.request.value == request) {
      CHECK(each.index == ids.size());
      ids.push_back(each.id);
    }
  return ids;
}

std::string words(const std::optional<result<void>>& end) {
  return !end ? "runs" : *end ? "no failure" : to_string(end->error());
}

void check_all_well(const executor_company& all) {
  for (const auto& end : all.ends)
    CHECK(words(end) == "no failure");
}

mesh_plan vote_of(call_id call) {
  mesh_plan plan;
  plan.kind = plan_kind::vote;
  plan.call = call;
  plan.rooms = {room_id{1}};
  return plan;
}

struct shape {
  std::uint32_t tensor_parallel;
  std::uint32_t pipeline_parallel;
  std::uint32_t steps_ahead = 0;
};
constexpr shape shapes[] = {{1, 1}, {2, 1}, {4, 1}, {1, 2}, {2, 2}};

std::vector<shape> with_and_without_a_step_ahead() {
  std::vector<shape> all{std::begin(shapes), std::end(shapes)};
  all.insert(all.end(), {{1, 1, 1}, {2, 1, 1}, {4, 1, 1}});
  return all;
}

} // namespace

TEST_CASE("B15: the mesh votes by its minimum, and a room that one rank does not know has failed") {
  executor_company all{4};
  const room_id whole{1};
  const room_id missing_bytes{2};
  const room_id unknown_to_one{3};
  for (std::uint32_t place = 0; place < all.size; ++place) {
    all.boards[place]->set(whole, admission::done);
    all.boards[place]->set(missing_bytes, place == 2 ? admission::pending : admission::done);
    if (place != 3)
      all.boards[place]->set(unknown_to_one, admission::done);
  }
  all.start();

  all.order(room_vote{request_id{1}, {whole, missing_bytes, unknown_to_one}});

  REQUIRE(all.until([&] { return !all.votes.empty(); }));
  all.finish();
  REQUIRE(all.votes.size() == 1);
  CHECK(all.votes[0] == std::vector{admission::done, admission::pending, admission::failed});
  check_all_well(all);
}

TEST_CASE("K13: leader and workers of a mesh show that they turn while they wait, and rest once they have left") {
  executor_company company{2, 2};
  base::progress_table signs{company.size};
  for (auto& part : company.parts) {
    part.turn = signs.claim("an executor stands still between two steps");
    part.nap = 5ms;
  }
  company.start();
  for (std::uint32_t place = 0; place < company.size; ++place)
    for (int grown = 0; grown < 3; ++grown) {
      const auto before = signs.at(place).turn;
      while (signs.at(place).turn == before) // the test's own deadline is CTest's
        std::this_thread::yield();
    }
  company.finish();
  for (std::uint32_t place = 0; place < company.size; ++place)
    CHECK_FALSE(signs.at(place).works);
}

TEST_CASE("B20: every rank takes part in one step before the first request") {
  for (const auto& of : shapes) {
    CAPTURE(of.tensor_parallel);
    CAPTURE(of.pipeline_parallel);
    executor_company all{of.tensor_parallel, of.pipeline_parallel};
    all.start();
    all.finish();
    check_all_well(all);
    for (const auto& model : all.models)
      CHECK(model->log == std::vector{tests::counting_model::seen{.step = 1, .ids = 2, .context = 0}});
  }
}

TEST_CASE("A long prompt runs in pieces, each on every rank, and its token is chosen once") {
  for (const auto& of : shapes) {
    CAPTURE(of.tensor_parallel);
    CAPTURE(of.pipeline_parallel);
    executor_company all{of.tensor_parallel, of.pipeline_parallel};
    all.start();
    constexpr std::uint32_t length = 2 * limits::prefill_chunk_tokens + 5;
    submit work;
    work.request = request_id{7};
    work.prompt.assign(length, token_id{3});
    work.prompt.back() = 41;

    all.order(prefill_leader_machine::run_prefill{.work = work, .blocks = blocks_for(length), .rows = {}});

    REQUIRE(all.until([&] { return !all.first_tokens.empty(); }));
    all.finish();
    check_all_well(all);
    CHECK(all.first_tokens == std::vector<token_id>{42});
    using seen = tests::counting_model::seen;
    const std::vector<seen> expected{{1, 2, 0},
                                     {2, limits::prefill_chunk_tokens, 0},
                                     {3, limits::prefill_chunk_tokens, limits::prefill_chunk_tokens},
                                     {4, 5, 2 * limits::prefill_chunk_tokens}};
    for (std::uint32_t place = 0; place < all.size; ++place) {
      CHECK(all.models[place]->log == expected);
      CHECK(all.prefilled[place] == 1);
    }
  }
}

TEST_CASE("E12, E16: keys and values are handed on with their event, before the host waits for anything") {
  struct moment final : gpu::stream_event {};
  executor_company all{2};
  for (const auto& model : all.models)
    model->stands_behind = std::make_shared<moment>();
  all.start();
  submit work;
  work.request = request_id{7};
  work.prompt.assign(2 * limits::prefill_chunk_tokens + 5, token_id{3});
  const auto blocks = blocks_for(work.prompt.size());

  all.order(prefill_leader_machine::run_prefill{.work = work, .blocks = blocks, .rows = {}});

  REQUIRE(all.until([&] { return !all.first_tokens.empty(); }));
  all.finish();
  check_all_well(all);
  for (std::uint32_t place = 0; place < all.size; ++place) {
    CAPTURE(place);
    CHECK(all.moments[place] == all.models[place]->stands_behind);
    CHECK(all.models[place]->finished_when_ready == (place == 0 ? 1 : 0)); // the warm-up's, where the token is chosen
  }
  CHECK(all.models[0]->finished == 2); // of the prompt's three pieces the host wanted something of the last alone
}

TEST_CASE("G14, G4: a rank that alone falls back from capture ends the warm-up, with what each has captured") {
  executor_company all{2};
  all.models[0]->captures = {.graphs = 3, .eager = 0};
  all.models[1]->captures = {.graphs = 0, .eager = 3};
  all.start();
  REQUIRE(all.until([&] { return all.ends[0] && all.ends[1]; }));
  for (const auto& end : all.ends)
    CHECK(words(end).find(
              "plan (rank 11 has captured 0 graphs and 3 runs without, rank 10 3 graphs and 0 runs without)") !=
          std::string::npos);
}

TEST_CASE("G1, G14: a rank that was told alone to capture nothing ends the warm-up, by name") {
  executor_company all{2};
  const std::atomic<bool> nothing = false;
  all.parts[1].runs.captures = &nothing;
  all.start();
  REQUIRE(all.until([&] { return all.ends[0] && all.ends[1]; }));
  for (const auto& end : all.ends)
    CHECK(words(end).find("rank 11 has captured 0 graphs and 0 runs without, told to capture nothing, rank 10") !=
          std::string::npos);
}

TEST_CASE("B18, F17: sequences join and leave the batch alike on every rank, one token a step and nothing else in it") {
  for (const auto& of : with_and_without_a_step_ahead()) {
    CAPTURE(of.tensor_parallel);
    CAPTURE(of.pipeline_parallel);
    CAPTURE(of.steps_ahead);
    executor_company all{of.tensor_parallel, of.pipeline_parallel};
    for (auto& part : all.parts)
      part.runs.steps_ahead = of.steps_ahead;
    all.start();

    // one goes on until it is told to leave; others come and go beside it
    all.order(join(1, 10, 100'000));
    all.order(join(2, 20, 4));
    REQUIRE(all.until_left(2));
    all.order(join(3, 62, 3));
    REQUIRE(all.until_left(3));
    all.order(decode_leader_machine::leave_batch{request_id{1}});
    REQUIRE(all.until_left(1));
    all.finish();

    check_all_well(all);
    CHECK(answer_of(all, 2) == std::vector<token_id>{20, 21, 22, 23});
    CHECK(answer_of(all, 3) == std::vector<token_id>{62, 63, 0});
    const auto long_one = answer_of(all, 1);
    REQUIRE(long_one.size() > 4);
    for (std::size_t i = 0; i < long_one.size(); ++i)
      REQUIRE(long_one[i] == static_cast<token_id>((10 + i) % tests::vocabulary));
    for (const auto& model : all.models) {
      CHECK(model->log == all.models[0]->log);
      CHECK(std::all_of(model->log.begin() + 1, model->log.end(), [](const auto& each) { return each.ids == 1; }));
    }
  }
}

TEST_CASE("B11, G7: a rank that chooses another token than its leader ends the next step, and is told both") {
  executor_company all{2};
  all.models[1]->change_choice = [steps = 0](token_id& id) mutable { id += ++steps == 3 ? 1 : 0; };
  all.start();

  all.order(join(1, 10, 100'000));

  REQUIRE(all.until([&] { return all.ends[1].has_value(); }));
  REQUIRE_FALSE(*all.ends[1]);
  CHECK(all.ends[1]->error() == failure{fault::plan_mismatch, "token 14 of request 1 on this rank, the leader has 13"});
}

TEST_CASE(
    "G9: a rank that holds other rows or another state than its mesh ends the prompt, by name and before its token") {
  for (const auto& of : {shape{2, 1}, shape{4, 1}, shape{2, 2}}) {
    CAPTURE(of.tensor_parallel);
    CAPTURE(of.pipeline_parallel);
    executor_company all{of.tensor_parallel, of.pipeline_parallel};
    for (const auto& model : all.models)
      model->holds = {.rows = 5, .hidden = {1.0F, 2.0F}};
    const auto last = all.size - 1;
    all.models[last]->holds.hidden[1] = 2.5F;
    all.start();
    submit work;
    work.request = request_id{7};
    work.prompt.assign(5, token_id{3});

    all.order(prefill_leader_machine::run_prefill{.work = work, .blocks = blocks_for(5), .rows = {}});

    const auto judge = all.size - of.tensor_parallel; // the leader of the last stage
    REQUIRE(all.until([&] { return all.ends[judge].has_value(); }));
    REQUIRE_FALSE(*all.ends[judge]);
    CHECK(all.ends[judge]->error().code == fault::replica_mismatch);
    const auto& said = all.ends[judge]->error().what;
    CAPTURE(said);
    CHECK(said.find("element 1 of the last token's state: rank " + std::to_string(10 + last) + " 2.5") !=
          std::string::npos);
    CHECK(all.first_tokens.empty());
  }
}

TEST_CASE("A sequence whose first token ends it never enters the batch") {
  executor_company all{2};
  all.start();
  auto ended = join(1, 9, 10);
  ended.end_tokens = {9};

  all.order(ended);

  REQUIRE(all.until([&] { return !all.left.empty(); }));
  all.finish();
  REQUIRE(all.tokens.size() == 1);
  CHECK(all.tokens[0].finish == finish_reason::stop);
  CHECK(all.models[0]->log.size() == 1); // the warm step alone
}

TEST_CASE(
    "K8: a sequence whose logits are not finite fails by name, and those beside it go on with the right answers") {
  for (const auto& of : with_and_without_a_step_ahead()) {
    CAPTURE(of.tensor_parallel);
    CAPTURE(of.pipeline_parallel);
    CAPTURE(of.steps_ahead);
    executor_company all{of.tensor_parallel, of.pipeline_parallel};
    for (auto& part : all.parts)
      part.runs.steps_ahead = of.steps_ahead;
    all.models.back()->breaks_at = [](token_id id) { return id == 32; }; // on one rank, of whose sums all take part
    all.start();

    all.order(join(1, 10, 6));
    all.order(join(2, 30, 20)); // 30, 31, 32
    all.order(join(3, 50, 6));
    for (const std::uint64_t request : {1, 2, 3})
      REQUIRE(all.until_left(request));
    all.order(join(4, 5, 4)); // the place is another's again
    REQUIRE(all.until_left(4));
    all.finish();

    check_all_well(all);
    const auto chooser = std::to_string(10 + all.size - of.tensor_parallel);
    CHECK(all.given_up_ones ==
          std::vector{step_machine::given_up{
              request_id{2}, {fault::not_finite, "token 3 of the answer, rank " + chooser}, true}});
    CHECK(answer_of(all, 1) == std::vector<token_id>{10, 11, 12, 13, 14, 15});
    CHECK(answer_of(all, 2) == std::vector<token_id>{30, 31, 32});
    CHECK(answer_of(all, 3) == std::vector<token_id>{50, 51, 52, 53, 54, 55});
    CHECK(answer_of(all, 4) == std::vector<token_id>{5, 6, 7, 8});
  }
}

namespace {

prefill_leader_machine::run_prefill prompt_of(std::uint64_t request, std::vector<token_id> ids) {
  submit work;
  work.request = request_id{request};
  work.prompt = std::move(ids);
  const auto blocks = blocks_for(work.prompt.size());
  return {.work = std::move(work), .blocks = blocks, .rows = {}};
}

} // namespace

TEST_CASE("K8: a prompt whose logits are not finite fails by name, and the next one is answered") {
  for (const auto& of : shapes) {
    CAPTURE(of.tensor_parallel);
    CAPTURE(of.pipeline_parallel);
    executor_company all{of.tensor_parallel, of.pipeline_parallel};
    all.models.back()->breaks_at = [](token_id id) { return id == 7; };
    all.start();
    all.order(prompt_of(1, {3, 5, 7}));
    all.order(prompt_of(2, {3, 5, 8}));
    REQUIRE(all.until([&] { return !all.first_tokens.empty(); }));
    all.finish();
    check_all_well(all);
    const auto chooser = std::to_string(10 + all.size - of.tensor_parallel);
    CHECK(all.given_up_ones ==
          std::vector{step_machine::given_up{
              request_id{1}, {fault::not_finite, "token 0 of the answer, rank " + chooser}, true}});
    CHECK(all.first_tokens == std::vector<token_id>{9});
  }
}

TEST_CASE("K8: a token that the model does not have fails its request before any rank computes with it") {
  for (const token_id poison : {static_cast<token_id>(tests::vocabulary), token_id{-1}}) {
    CAPTURE(poison);
    executor_company all{2};
    all.start();
    all.order(prompt_of(1, {3, poison, 5}));
    all.order(join(2, poison, 5));
    all.order(prompt_of(3, {3, 5}));
    REQUIRE(all.until([&] { return !all.first_tokens.empty(); }));
    all.finish();
    check_all_well(all);
    REQUIRE(all.given_up_ones.size() == 2);
    const auto words = "token " + std::to_string(poison) + " at 1; the model has 64";
    CHECK(all.given_up_ones[0] == step_machine::given_up{request_id{1}, {fault::invalid_request, words}, false});
    CHECK(all.given_up_ones[1].request == request_id{2});
    CHECK(all.given_up_ones[1].cause.code == fault::invalid_request);
    CHECK(all.left == std::vector{request_id{2}});
    CHECK(all.first_tokens == std::vector<token_id>{6});
    CHECK(all.models[1]->log.size() == 2); // the warm step, and the good prompt
  }
}

TEST_CASE("K7: a prompt that is wanted no more stops at its next piece, on every rank") {
  executor_company all{2};
  std::promise<void> entered;
  std::promise<void> go_on;
  all.models[1]->before_forward = [&, steps = 0]() mutable -> result<void> {
    if (++steps == 2) { // the first piece
      entered.set_value();
      go_on.get_future().wait();
    }
    return {};
  };
  all.start();
  all.order(prompt_of(1, std::vector<token_id>(4 * limits::prefill_chunk_tokens, token_id{3})));
  REQUIRE(entered.get_future().wait_for(20s) == std::future_status::ready);

  all.order(decode_leader_machine::leave_batch{request_id{1}});
  all.order(prompt_of(2, {3, 5}));
  go_on.set_value();

  REQUIRE(all.until([&] { return !all.first_tokens.empty(); }));
  all.finish();
  check_all_well(all);
  CHECK(all.given_up_ones == std::vector{step_machine::given_up{request_id{1}, {fault::cancelled, {}}, false}});
  CHECK(all.first_tokens == std::vector<token_id>{6});
  CHECK(all.prefilled == std::vector<std::uint32_t>{1, 1});
  for (const auto& model : all.models)
    CHECK(model->log.size() == 3); // the warm step, one piece of the four, and the other prompt
}

TEST_CASE("D7: a first token that cannot be handed on ends the rank, as any other does") {
  executor_company all{1};
  all.sink_says = fail(fault::timeout, "the front does not read");
  all.start();
  all.order(join(1, 10, 5));
  REQUIRE(all.until([&] { return all.ends[0].has_value(); }));
  CHECK(words(all.ends[0]) == to_string(failure{fault::timeout, "the front does not read"}));
  CHECK(all.tokens.size() == 1);
}

TEST_CASE("A24, A25, G6: a model that issues other collectives than planned fails before a peer waits for it") {
  for (const int more : {1, -1}) {
    CAPTURE(more);
    executor_company all{2};
    struct miscounting final : gpu::models::text_model {
      explicit miscounting(std::shared_ptr<text_model> of, int by) : model(std::move(of)), difference(by) {}
      const gpu::models::kv_layout& kv() const noexcept override { return model->kv(); }
      std::uint32_t mesh_collectives(bool any) const noexcept override {
        return static_cast<std::uint32_t>(static_cast<int>(model->mesh_collectives(any)) - difference);
      }
      result<void> begin(std::span<const sequence> batch, gpu::models::stage_hops* hops, std::span<float> logits,
                         gpu::group* mesh) override {
        return model->begin(batch, hops, logits, mesh);
      }
      result<void> gather_replicas(gpu::group& mesh, std::span<replica> all) override {
        return model->gather_replicas(mesh, all);
      }
      std::shared_ptr<text_model> model;
      int difference;
    };
    for (std::uint32_t place = 0; place < all.size; ++place)
      all.parts[place].runs.text = std::make_shared<miscounting>(all.models[place], more);
    const auto began = base::now();
    all.start();
    REQUIRE(all.until([&] { return all.ends[0] && all.ends[1]; }));
    all.finish();
    CHECK(base::now() - began < 9s); // the deadline of a collective is 10 s
    bool named = false;
    for (const auto& end : all.ends) {
      CAPTURE(words(end));
      REQUIRE_FALSE(*end);
      named = named || end->error().code == fault::plan_mismatch;
    }
    CHECK(named);
  }
}

TEST_CASE("B23: a leader takes orders while its executor is in a collective, and carries them out after it") {
  executor_company all{2};
  std::promise<void> entered;
  std::promise<void> go_on;
  auto& member = *all.models[1];
  member.before_forward = [&, steps = 0]() mutable -> result<void> {
    if (++steps == 2) { // the first step after the warm-up: the leader waits in its all-reduce for this rank
      entered.set_value();
      go_on.get_future().wait();
    }
    return {};
  };
  all.start();
  all.order(join(1, 10, 3));
  REQUIRE(entered.get_future().wait_for(20s) == std::future_status::ready);

  all.order(join(2, 20, 3)); // comes back, though the step cannot end

  go_on.set_value();
  REQUIRE(all.until_left(1));
  REQUIRE(all.until_left(2));
  all.finish();
  check_all_well(all);
  CHECK(answer_of(all, 2) == std::vector<token_id>{20, 21, 22});
}

namespace {

/// Notes which collective of which group a rank is in, and how many it is in at once.
class witnessed final : public gpu::collective_backend {
public:
  struct diary {
    std::atomic<int> inside = 0;
    std::atomic<int> most = 0;
    std::vector<std::string> entries; ///< the executor's thread
  };
  witnessed(std::unique_ptr<collective_backend> with, std::string group, diary& in)
      : with_(std::move(with)), group_(std::move(group)), in_(in) {}

  void begin_call(call_id call) noexcept override { with_->begin_call(call); }
  result<void> all_reduce_sum(std::span<float> values, time_point deadline) override {
    return noted("sum", [&] { return with_->all_reduce_sum(values, deadline); });
  }
  result<void> all_reduce_min(std::span<std::int32_t> values, time_point deadline) override {
    return noted("min", [&] { return with_->all_reduce_min(values, deadline); });
  }
  result<void> all_gather(std::span<const float> mine, std::span<float> all, time_point deadline) override {
    return noted("gather", [&] { return with_->all_gather(mine, all, deadline); });
  }
  result<void> broadcast(std::span<std::byte> bytes, std::uint32_t root, time_point deadline) override {
    return noted("broadcast", [&] { return with_->broadcast(bytes, root, deadline); });
  }
  result<void> send(std::uint32_t to, std::span<const std::byte> bytes, time_point deadline) override {
    return noted("send", [&] { return with_->send(to, bytes, deadline); });
  }
  result<void> receive(std::uint32_t from, std::span<std::byte> bytes, time_point deadline) override {
    return noted("receive", [&] { return with_->receive(from, bytes, deadline); });
  }

private:
  template <class Act>
  result<void> noted(const std::string& kind, Act act) {
    in_.most = std::max(in_.most.load(), ++in_.inside);
    in_.entries.push_back(group_ + " " + kind);
    auto done = act();
    --in_.inside;
    return done;
  }
  std::unique_ptr<collective_backend> with_;
  std::string group_;
  diary& in_;
};

} // namespace

TEST_CASE("B21, B22: a rank is in one collective or hop at a time, and ranks of a mesh enter theirs in one order") {
  executor_company all{2, 2};
  std::vector<witnessed::diary> diaries(all.size);
  for (std::uint32_t place = 0; place < all.size; ++place) {
    const auto watched = [&](const std::shared_ptr<gpu::group_lanes>& lanes) {
      return std::make_shared<gpu::group>(
          lanes->plan, lanes->self,
          std::make_unique<witnessed>(gpu::make_host_backend(lanes), lanes->plan.name, diaries[place]), 10s);
    };
    all.parts[place].runs.cell_group = watched(all.lanes[place]);
    all.parts[place].runs.mesh = watched(all.mesh_lanes[place]);
  }
  all.start();
  all.order(join(1, 10, 5));
  all.order(join(2, 20, 5));
  REQUIRE(all.until([&] { return all.left.size() == 2; }));
  all.finish();
  check_all_well(all);

  for (const auto& of : diaries) {
    CHECK(of.most == 1);
    CHECK(of.entries.size() > 10);
  }
  const auto of_mesh = [&](std::uint32_t place) {
    auto entries = diaries[place].entries;
    std::erase_if(entries,
                  [&](const std::string& entry) { return !entry.starts_with(all.mesh_lanes[place]->plan.name); });
    return entries;
  };
  CHECK(of_mesh(0) == of_mesh(1)); // the first stage
  CHECK(of_mesh(2) == of_mesh(3)); // the second
}

TEST_CASE("C15: a member that dies in a step ends it for every rank at once") {
  for (const auto& of : {shape{2, 1}, shape{4, 1}, shape{1, 2}, shape{2, 2}}) {
    CAPTURE(of.tensor_parallel);
    CAPTURE(of.pipeline_parallel);
    executor_company all{of.tensor_parallel, of.pipeline_parallel};
    auto& last = *all.models.back();
    last.before_forward = [&last]() -> result<void> {
      return last.log.size() < 3 ? result<void>{} : fail(fault::executor_failed, "planted");
    };
    all.start();
    const auto began = base::now();

    all.order(join(1, 0, 100'000));

    REQUIRE(all.until([&] { return std::ranges::all_of(all.ends, [](const auto& end) { return end.has_value(); }); }));
    CHECK(base::now() - began < 9s); // the deadline of a collective is 10 s
    all.finish();
    CHECK(words(all.ends.back()) == to_string({fault::executor_failed, "decode, call 4: planted"}));
    for (std::uint32_t place = 0; place + 1 < all.size; ++place) {
      CAPTURE(words(all.ends[place]));
      REQUIRE_FALSE(*all.ends[place]);
      CHECK(all.ends[place]->error().code == fault::peer_gone);
    }
  }
}

TEST_CASE("C15: a member that never comes ends the step at its deadline") {
  executor_company all{2, 1, 200ms};
  all.start({1});
  REQUIRE(all.until([&] { return all.ends[0].has_value(); }));
  CAPTURE(words(all.ends[0]));
  REQUIRE_FALSE(*all.ends[0]);
  CHECK(all.ends[0]->error().code == fault::timeout);
}

TEST_CASE("C8: a step that is late because a peer's GPU has not come ends by the name of that one") {
  executor_company all{2, 1, 200ms};
  all.parts[0].runs.cell_group->give_device(std::make_unique<waiting_gpu>());
  all.start({1});
  REQUIRE(all.until([&] { return all.ends[0].has_value(); }));
  CAPTURE(words(all.ends[0]));
  REQUIRE_FALSE(*all.ends[0]);
  CHECK(all.ends[0]->error().code == fault::peer_gone);
  CHECK(words(all.ends[0]).find("for rank " + std::to_string(all.cell.ranks[1].value)) != std::string::npos);
}

TEST_CASE("A9, C9: a leader that stops takes its members out of their loops, and one that dies leaves none waiting") {
  SUBCASE("stops, with a sequence in the batch") {
    executor_company all{4};
    all.start();
    all.order(join(1, 0, 100'000));
    REQUIRE(all.until([&] { return all.tokens.size() > 3; }));
    all.finish();
    check_all_well(all);
  }
  SUBCASE("dies between two steps") {
    executor_company all{4};
    all.start({0});
    all.leave(0);
    REQUIRE(all.until([&] { return all.ends[1] && all.ends[2] && all.ends[3]; }));
    for (std::uint32_t place = 1; place < all.size; ++place) {
      REQUIRE_FALSE(*all.ends[place]);
      CHECK(all.ends[place]->error().code == fault::peer_gone);
    }
  }
}

TEST_CASE("A25, B12: a plan of an older call is refused by the member, and so is one for another batch") {
  executor_company all{2};
  all.assemble();
  gpu::plan_channel plans{all.lanes[0]};
  auto& group = *all.parts[0].runs.cell_group;
  const auto announce = [&](const mesh_plan& plan) {
    std::vector<std::byte> bytes;
    encode_payload(plan, bytes);
    REQUIRE(plans.announce(plan.call, bytes, base::now() + 5s));
  };
  caf::anon_send(all.executors[1], actors::run_atom::value);
  std::array<std::int32_t, 1> vote{static_cast<std::int32_t>(admission::done)};
  announce(vote_of(call_id{5}));
  REQUIRE(group.begin(call_id{5}, "vote", 1));
  REQUIRE(group.all_reduce_min(vote));
  REQUIRE(group.end());
  CHECK(vote[0] == static_cast<std::int32_t>(admission::failed)); // the member knows no such room

  SUBCASE("an older call") {
    announce(vote_of(call_id{4}));
  }
  SUBCASE("a decode step of a row that never joined") {
    mesh_plan plan;
    plan.kind = plan_kind::decode;
    plan.call = call_id{6};
    plan.decode.ids = {1};
    announce(plan);
  }

  REQUIRE(all.until([&] { return all.ends[1].has_value(); }));
  CAPTURE(words(all.ends[1]));
  REQUIRE_FALSE(*all.ends[1]);
  CHECK(all.ends[1]->error().code == fault::plan_mismatch);
}

TEST_CASE("K7: an executor with more orders than its bound ends the rank by name") {
  executor_company all{1};
  all.assemble();
  for (std::uint64_t i = 0; i <= limits::executor_queue_max; ++i)
    all.order(room_vote{request_id{i}, {room_id{i}}});
  caf::anon_send(all.executors[0], actors::run_atom::value);
  REQUIRE(all.until([&] { return all.ends[0].has_value(); }));
  CHECK(words(all.ends[0]) == to_string(failure{fault::queue_full, "executor"}));
}

namespace {

/// Holds one rank in the middle of its step of that number, the warm-up's being the first.
struct held_step {
  held_step(tests::counting_model& model, int number) {
    model.before_forward = [this, number, steps = 0]() mutable -> result<void> {
      if (++steps == number) {
        entered.set_value();
        go_on.get_future().wait();
      }
      return {};
    };
  }
  void wait() { REQUIRE(entered.get_future().wait_for(20s) == std::future_status::ready); }

  std::promise<void> entered;
  std::promise<void> go_on;
};

} // namespace

TEST_CASE("K7, B15: votes and short prompts come between the pieces of a long prompt, on every rank") {
  executor_company all{2};
  for (const auto& board : all.boards)
    board->set(room_id{5}, admission::done);
  held_step held{*all.models[1], 2};
  all.start();
  all.order(prompt_of(1, std::vector<token_id>(3 * limits::prefill_chunk_tokens, token_id{3})));
  held.wait();

  all.order(room_vote{request_id{2}, {room_id{5}}});
  all.order(prompt_of(3, {3, 5}));
  held.go_on.set_value();

  REQUIRE(all.until([&] { return all.first_tokens.size() == 2; }));
  CHECK(all.votes == std::vector<std::vector<admission>>{{admission::done}});
  CHECK(all.first_tokens == std::vector<token_id>{6, 4}); // the short one's first
  all.finish();
  check_all_well(all);
  for (const auto& model : all.models) {
    REQUIRE(model->log.size() == 5);
    CHECK(model->log[2].ids == 2);
  }
}

TEST_CASE("C9: a stop that comes in the middle of a step waits for its end") {
  executor_company all{2};
  held_step held{*all.models[1], 2};
  all.start();
  all.order(prompt_of(1, std::vector<token_id>(3 * limits::prefill_chunk_tokens, token_id{3})));
  held.wait();
  all.order(actors::stop_atom::value);
  held.go_on.set_value();
  all.finish();
  check_all_well(all);
  for (const auto& model : all.models)
    CHECK(model->log.size() == 2); // the warm step, and the piece that was under way
}

TEST_CASE("C1, C15: an exception in a step ends the rank with its words, whoever leads") {
  for (const std::uint32_t place : {0, 1}) {
    CAPTURE(place);
    executor_company all{2};
    all.models[place]->before_forward = [steps = 0]() mutable -> result<void> {
      if (++steps == 2)
        throw std::bad_alloc{};
      return {};
    };
    all.start();
    all.order(join(1, 10, 5));
    REQUIRE(all.until([&] { return all.ends[0] && all.ends[1]; }));
    REQUIRE_FALSE(*all.ends[place]);
    CHECK(all.ends[place]->error().code == fault::no_memory);
    REQUIRE_FALSE(*all.ends[1 - place]);
    CHECK(all.ends[1 - place]->error().code == fault::peer_gone);
  }
}

TEST_CASE("B11: a prompt's first token is chosen by the rules of its request, on whichever rank chooses, and told of") {
  for (const auto& of : shapes) {
    CAPTURE(of.tensor_parallel);
    CAPTURE(of.pipeline_parallel);
    executor_company all{of.tensor_parallel, of.pipeline_parallel};
    all.start();
    submit work;
    work.request = request_id{7};
    work.prompt = {3, 4, 5};
    work.sampling.rules = {.bias = {{20, 50.0F}}, .logprobs = true, .top_logprobs = 1};

    all.order(prefill_leader_machine::run_prefill{.work = work, .blocks = blocks_for(3), .rows = {}});

    REQUIRE(all.until([&] { return !all.first_tokens.empty(); }));
    all.finish();
    check_all_well(all);
    CHECK(all.first_tokens == std::vector<token_id>{20}); // 6 without the bias
    REQUIRE(all.first_logprobs.size() == 2);
    CHECK(all.first_logprobs[0].id == 20);
    CHECK(all.first_logprobs[1].id == 6); // the model's likeliest
    CHECK(all.first_logprobs[1].value > all.first_logprobs[0].value);
  }
}

TEST_CASE("B11: in a chain of stages penalties count the answer, on the rank that chooses") {
  executor_company all{1, 2};
  all.start();
  auto asked = join(1, 9, 5);
  asked.sequence.sampling.rules = {.presence_penalty = 2.0F, .bias = {{30, 1.5F}}, .logprobs = true};
  asked.first_logprobs = {{9, -1.0F}};
  all.order(asked);
  REQUIRE(all.until([&] { return answer_of(all, 1).size() == 5; }));
  all.finish();
  check_all_well(all);
  // 30 has more than the logit of the next token, 1, until it is in the answer.
  CHECK(answer_of(all, 1) == std::vector<token_id>{9, 30, 31, 32, 33});
  CHECK(all.logprobs.size() == 5);
  for (const auto& each : all.logprobs)
    CHECK(each.values.size() == 1);
}
