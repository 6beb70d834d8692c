#include <doctest/doctest.h>

#include "actors/serve/front_actor.hpp"
#include "protocols/serve/serve_metrics.hpp"
#include "tests/actors/role_rig.hpp"

using namespace troupe;
using namespace troupe::protocols;
using namespace troupe::tests;
using ranks::front;
namespace metric = troupe::protocols::serve_metric;

namespace {

struct counting_front : role_rig {
  counting_front() : role_rig({front}) {}

  std::uint64_t count(metric_number which) { return counted(front, which); }
  void asks(std::uint64_t tag) {
    client_sends(
        ask{.tag = tag, .prompt = "?", .picture_names = {}, .picture_bytes = {}, .max_tokens = 4, .sampling = {}});
  }
  /// Read 100 ms later, and started at once.
  std::pair<rank_id, request_id> starts(std::uint64_t tag) {
    drop_frames(); // of the one before
    asks(tag);
    pass(100ms);
    ingested(expect_ingest(), 20);
    expect<accepted>().from(front).to_client();
    for (const auto leader : {ranks::decode, ranks::other_decode})
      if (role_rig::count(serve_type::reserve_kv, front, leader) > 0)
        return {leader, expect<reserve_kv>().from(front).to(leader).request};
    FAIL("not started");
    return {};
  }
  void answers(const std::pair<rank_id, request_id>& one, std::uint32_t index, finish_reason end) {
    say(one.first, front, tokens{{{one.second, index, 11, end}}});
    expect<answer>().from(front).to_client();
  }
};

constexpr std::uint64_t ms = 1'000'000;

} // namespace

TEST_CASE_FIXTURE(counting_front, "J7: the front counts a request's tokens, and how long each part of it took") {
  const auto one = starts(1);
  CHECK(count(metric::requests_running) == 1);
  CHECK(count(metric::requests_waiting) == 0);
  CHECK(counted_sum(front, metric::queue_time) == 100 * ms);
  CHECK(count(metric::time_to_first_token) == 0);

  pass(200ms);
  answers(one, 0, finish_reason::none);
  pass(10ms);
  answers(one, 1, finish_reason::none);
  pass(20ms);
  answers(one, 2, finish_reason::stop);
  expect<finished>().from(front).to_client();

  CHECK(count(metric::requests_running) == 0);
  CHECK(count(metric::prompt_tokens) == 20);
  CHECK(count(metric::generation_tokens) == 3);
  CHECK(count(metric::time_to_first_token) == 1);
  CHECK(counted_sum(front, metric::time_to_first_token) == 300 * ms);
  CHECK(count(metric::inter_token) == 2);
  CHECK(counted_sum(front, metric::inter_token) == 30 * ms);
  CHECK(counted_sum(front, metric::request_time) == 330 * ms);
  CHECK(counted_sum(front, metric::prefill_time) == 200 * ms);
  CHECK(counted_sum(front, metric::decode_time) == 30 * ms);
  CHECK(counted_sum(front, metric::inference_time) == 230 * ms);
  CHECK(counted_sum(front, metric::prompt_length) == 20);
  CHECK(counted_sum(front, metric::generation_length) == 3);
  CHECK(count(metric::ended_by_stop) == 1);
}

TEST_CASE_FIXTURE(counting_front, "J7: the front counts each end by its reason, once, and times only whole answers") {
  auto one = starts(1);
  answers(one, 0, finish_reason::length);
  expect<finished>().from(front).to_client();

  one = starts(2); // left while it is served
  client_sends(withdraw{2});
  expect<finished>().from(front).to_client();

  asks(3); // left while it is read
  const auto order = expect_ingest();
  CHECK(count(metric::requests_waiting) == 1);
  client_sends(withdraw{3});
  expect<finished>().from(front).to_client();
  ingested(order, 20);

  one = starts(4);
  answers(one, 0, finish_reason::none);
  say(one.first, front,
      error{.code = static_cast<std::uint16_t>(fault::executor_failed),
            .message = "as the script says",
            .origin = one.first,
            .call = {},
            .where = "decode",
            .request = one.second});
  expect<finished>().from(front).to_client();

  CHECK(count(metric::ended_by_stop) == 0);
  CHECK(count(metric::ended_by_length) == 1);
  CHECK(count(metric::ended_by_client) == 2);
  CHECK(count(metric::ended_by_fault) == 1);
  CHECK(count(metric::request_time) == 1);
  CHECK(count(metric::requests_running) == 0);
  CHECK(count(metric::requests_waiting) == 0);
  CHECK(count(metric::requests_refused) == 0);
}

TEST_CASE_FIXTURE(counting_front, "J7: the front counts what it refuses") {
  asks(1);
  asks(1); // the tag is in use
  expect<refused>().from(front).to_client();
  CHECK(count(metric::requests_refused) == 1);
}
