#include <doctest/doctest.h>

#include "protocols/limits.hpp"
#include "tests/cli/front_client.hpp"
#include "tests/cli/golden_pages.hpp"

using namespace troupe;
using namespace troupe::protocols;
using namespace troupe::tests;

namespace {

constexpr std::string_view four_ranks = R"({"front": {"role": "front"}, "encode": {"role": "encode"},
                                            "prefill": {"role": "prefill"}, "decode": {"role": "decode"}})";

/// A job of the reader model that is ready, and those who ask it.
class served_job {
public:
  explicit served_job(const std::string& spec, std::vector<std::string> more = {}, rlim_t files_max = RLIM_INFINITY)
      : job_{arguments("up", std::move(more), {spec}), {}, files_max} {
    REQUIRE(job_.prints("is ready", 60s));
  }

  std::string socket() const { return here_ / ("jobs/" + here_.job() + "/front.sock"); }
  command_end troupe(std::string verb, std::vector<std::string> more = {}) const {
    return run_troupe(arguments(std::move(verb), std::move(more), {}), 120s);
  }
  /// As the job's status file has them.
  nlohmann::json ranks() const {
    const auto status =
        nlohmann::json::parse(content_of(here_ / ("jobs/" + here_.job() + "/status.json")), nullptr, false);
    return status.is_object() ? status["ranks"] : nlohmann::json::array();
  }
  bool answers(const golden_page& page) const {
    const auto end = troupe("ask", {"--image", page.image, "--prompt", page.prompt});
    CAPTURE(end.err);
    return end.out == page.text + "\n";
  }
  void end() {
    CHECK(troupe("down").exit_code == 0);
    CHECK(job_.finish(30s).exit_code == 0);
  }

private:
  std::vector<std::string> arguments(std::string verb, std::vector<std::string> more,
                                     std::vector<std::string> first) const {
    std::vector<std::string> all{std::move(verb)};
    all.insert(all.end(), first.begin(), first.end());
    all.insert(all.end(), {"--job", here_.job(), "--run-dir", here_ / "jobs"});
    all.insert(all.end(), more.begin(), more.end());
    return all;
  }

  scratch_folder here_;
  command job_;
};

std::string spec_of(const scratch_folder& here, std::string_view pools, std::string_view more) {
  return here.write("spec.json", reader_spec(pools, more));
}

} // namespace

TEST_CASE("K9: questions whose pictures never come end by name within request_ms, and others are served meanwhile") {
  const scratch_folder here;
  served_job job{spec_of(here, one_rank(),
                         R"(, "limits": {"in_flight_max": 4}, "timeouts": {"request_ms": 12000, "room_ms": 11000})")};
  front_client stopped{job.socket()};
  for (std::uint64_t tag = 1; tag <= 7; ++tag)
    stopped.announce(tag, {1000});

  const auto no = stopped.hear<refused>(); // the seventh at once: one client may have six
  REQUIRE(no);
  CHECK(no->tag == 7);
  CHECK(has(no->message, "the most of one client"));
  CHECK(job.answers(golden_pages().front()));
  for (std::uint64_t tag = 1; tag <= 6; ++tag) {
    const auto late = stopped.hear<refused>();
    REQUIRE(late);
    CHECK(late->tag == tag);
    CHECK(late->code == static_cast<std::uint16_t>(fault::timeout));
  }
  stopped.announce(8, {1000}); // there is room again
  stopped.say(withdraw{8});
  CHECK(stopped.hear<finished>());
  job.end();
}

TEST_CASE("K9, C15: a cancel that follows its question at once finds it, in every stage, and the tag is free") {
  const scratch_folder here;
  served_job job{spec_of(here, one_rank(), "")};
  front_client client{job.socket()};
  const auto expect_cancelled = [&](std::uint64_t tag) {
    const auto end = client.hear<finished>();
    REQUIRE(end);
    CHECK(end->tag == tag);
    CHECK(end->reason == finish_reason::cancelled);
  };
  SUBCASE("arriving") {
    client.announce(1, {1000});
    client.say(withdraw{1});
    expect_cancelled(1);
  }
  SUBCASE("with the ingest, or just behind it") {
    client.announce(1, {}, 128);
    client.say(withdraw{1});
    expect_cancelled(1);
  }
  SUBCASE("accepted") {
    client.announce(1, {}, 128);
    REQUIRE(client.hear<accepted>());
    client.say(withdraw{1});
    expect_cancelled(1);
  }
  client.announce(1, {}, 1);
  const auto next = client.hear<finished>();
  REQUIRE(next);
  CHECK(next->reason != finish_reason::cancelled);
  job.end();
}

TEST_CASE("I27, K3: a write of pixels whose end is told late delays the next picture and ends nothing") {
  const scratch_folder here;
  served_job job{spec_of(here, four_ranks, R"(, "limits": {"pixel_slots": 1}, "drills": true)"),
                 {"--inject", "rank=front,action=delay_completion,peer=encode.0,ms=1500,times=1"}};
  const auto end = job.troupe("ask", {"--pages", golden_list(here), "--json"});
  CAPTURE(end.err);
  CHECK(end.exit_code == 0);
  std::size_t right = 0;
  for (const auto& line : json_lines(end.out))
    for (const auto& page : golden_pages())
      right += line["image"] == page.image && line["token_ids"] == page.ids ? 1 : 0;
  CHECK(right == golden_pages().size());
  job.end();
}

TEST_CASE(
    "K16: requests for which there is no room in decode wait at the front for as long as room_ms and longer, and are "
    "answered") {
  const scratch_folder here;
  served_job job{spec_of(here, four_ranks,
                         R"(, "limits": {"kv_tokens_max": 256}, "drills": true,
                             "timeouts": {"transfer_ms": 2500, "room_ms": 3000})"),
                 {"--inject", "rank=decode.0,action=slow,point=executor.announced,ms=40,times=0"}};
  const auto end = job.troupe("ask", {"--pages", golden_list(here), "--json"});
  CAPTURE(end.err);
  CHECK(end.exit_code == 0);
  job.end();
}

TEST_CASE(
    "K9, C20: a front that may open few files takes so few clients that its ranks come back, and tells the others") {
  const scratch_folder here;
  served_job job{spec_of(here, four_ranks, ""), {}, 100};
  std::vector<base::unique_fd> idle;
  for (int i = 0; i < 90; ++i)
    idle.push_back(connect_to_front(job.socket()));

  front_client next{job.socket()};
  const auto no = next.hear<refused>();
  REQUIRE(no);
  CHECK(no->code == static_cast<std::uint16_t>(fault::queue_full));
  CHECK(has(no->message, "clients are connected"));
  const auto encode = [&] {
    for (const auto& rank : job.ranks())
      if (rank["label"] == "encode.0" && rank["state"] == "ready")
        return std::pair{rank["pid"].get<pid_t>(), rank["generation"].get<int>()};
    return std::pair{pid_t{0}, 0};
  };
  const auto before = encode();
  REQUIRE(before.first > 0);
  ::kill(before.first, SIGKILL);
  CHECK(holds_within(60s, [&] { return encode().second > before.second; })); // with all of them at the door
  idle.clear();
  CHECK(holds_within(30s, [&] { return job.answers(golden_pages().front()); }));
  job.end();
}
