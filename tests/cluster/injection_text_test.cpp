#include "protocols/serve/message_types.hpp"
#include "protocols/wire/edge_messages.hpp"
#include "runtime/cluster/injection_text.hpp"

#include <doctest/doctest.h>

#include <string>

#include "tests/cluster/run_directory.hpp"

using namespace troupe;
using namespace troupe::protocols;
using cluster::parse_rule;
using cluster::resolve_rule;

namespace {

cluster_plan plan_here() {
  const auto plan = make_plan(tests::spec_of(R"("front": { "role": "front" }, "encode": { "role": "encode" },
                                                "prefill": { "role": "prefill", "tensor_parallel": 2 },
                                                "decode": { "role": "decode" })")
                                  .spec);
  REQUIRE(plan);
  return *plan;
}

result<inject> rule_of(std::string_view text) {
  return parse_rule(text).and_then([](const auto& rule) { return resolve_rule(rule, plan_here()); });
}

std::string problem_of(std::string_view text) {
  const auto rule = rule_of(text);
  return rule ? std::string{} : rule.error().what;
}

} // namespace

TEST_CASE("a rule reads the same as words and as JSON") {
  const auto words = rule_of("rank=prefill.0/t1,action=delay,ms=20,skip=3,times=0,peer=decode.0,channel=control,"
                             "message=kv_sent,point=group.entered");
  const auto json = rule_of(R"({"rank": "prefill.0/t1", "action": "delay", "ms": 20, "skip": 3, "times": 0,
                                "peer": "decode.0", "channel": "control", "message": "kv_sent",
                                "point": "group.entered"})");
  REQUIRE_MESSAGE(words, words.error().what);
  REQUIRE_MESSAGE(json, json.error().what);
  CHECK(*words == *json);
  CHECK(words->rank == rank_id{3});
  CHECK(words->rule.action == drill_action::delay);
  CHECK(words->rule.point == "group.entered");
  CHECK(words->rule.ms == 20);
  CHECK(words->rule.skip == 3);
  CHECK(words->rule.times == 0);
  CHECK(words->rule.peer == rank_id{4});
  CHECK(words->rule.channel == static_cast<std::uint8_t>(channel_kind::control));
  CHECK(words->rule.message == static_cast<std::uint16_t>(serve_type::kv_sent));
}

TEST_CASE("the supervisor can be struck, and a message is delivered from whom it seems to come") {
  const auto own = rule_of("rank=supervisor,action=kill,point=supervisor.idle");
  REQUIRE(own);
  CHECK(own->rank == supervisor_rank);

  const auto message = rule_of("rank=decode.0,action=deliver,message=release,source=front,payload=0500000000000000");
  REQUIRE_MESSAGE(message, message.error().what);
  CHECK(message->rule.source == rank_id{0});
  CHECK(message->rule.payload.size() == 8);
  CHECK(message->rule.payload.front() == std::byte{5});
}

TEST_CASE("a delivered message's fields are typed values: a list or an object, in JSON and in words") {
  const std::vector<std::byte> release_of_5{std::byte{5}, {}, {}, {}, {}, {}, {}, {}};
  const auto ways = {std::string{R"({"rank": "decode.0", "action": "deliver", "message": "release", "fields": [5]})"},
                     std::string{R"({"rank": "decode.0", "action": "deliver", "message": "release",
                                     "fields": {"request": 5}})"},
                     std::string{R"({"rank": "decode.0", "action": "deliver", "message": "release", "fields": "[5]"})"},
                     std::string{"rank=decode.0,action=deliver,message=release,fields=[5]"},
                     std::string{R"(rank=decode.0,action=deliver,message=release,fields={"request": 5})"}};
  for (const auto& text : ways) {
    CAPTURE(text);
    const auto rule = rule_of(text);
    REQUIRE_MESSAGE(rule, rule.error().what);
    CHECK(rule->rule.payload == release_of_5);
  }
  const auto cancelled =
      rule_of(R"(rank=decode.0,action=deliver,message=cancel,fields=[5, "so], he said, \"{"],source=front)");
  REQUIRE_MESSAGE(cancelled, cancelled.error().what);
  CHECK(cancelled->rule.payload.size() == 8 + 4 + 16);

  CHECK(problem_of("rank=decode.0,action=deliver,message=release,fields={\"reqest\": 5}") ==
        "release: unknown field 'reqest'; did you mean 'request'?");
  CHECK(problem_of(R"({"rank": "decode.0", "action": "deliver", "message": "release", "fields": 5})")
            .find("fields is a list or an object, not 5") != std::string::npos);
}

TEST_CASE("what is wrong with a rule is one line that names what was probably meant") {
  CHECK(problem_of("rank=prefill.0/t9,action=kill") ==
        "no rank is called 'prefill.0/t9'; did you mean 'prefill.0/t0'?");
  CHECK(problem_of("rank=front,action=kil").find("did you mean 'kill'?") != std::string::npos);
  CHECK(problem_of("rank=front,action=kill,point=grup.entered").find("did you mean 'group.entered'?") !=
        std::string::npos);
  CHECK(problem_of("rank=front,action=drop,message=relese").find("did you mean 'release'?") != std::string::npos);
  CHECK(problem_of("rank=front,action=kill,pint=rank.idle").find("unknown key 'pint'; did you mean 'point'?") !=
        std::string::npos);
  CHECK(problem_of("rank=front,action=kill,skip=many").find("whole number") != std::string::npos);
  CHECK(problem_of("rank=front,action=delay") == "delay: 'ms' is missing: for how long");
  CHECK(problem_of("rank=front,action=deliver,message=ack,payload=0g").find("hexadecimal") != std::string::npos);
  CHECK(problem_of("action=kill").find("'rank' is missing") != std::string::npos);
  CHECK(problem_of("{\"rank\": ").starts_with("rule:1:"));
  CHECK_FALSE(problem_of("").empty());
  CHECK_FALSE(problem_of(",,,=").empty());
}
