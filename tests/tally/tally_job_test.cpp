#include "tests/tally/tally_job.hpp"

#include <doctest/doctest.h>

#include <algorithm>

#include "tests/tally/tally_client.hpp"

using namespace troupe;
using namespace troupe::tests;

namespace {

/// Of `amount` numbers from `first` on, in closed form; exact in f32 below 2^24.
float sum_of(std::uint32_t first, std::uint32_t amount) {
  return static_cast<float>(amount * first + amount * (amount - 1) / 2);
}

void answers_rightly(tally_client& client, std::uint64_t tag, std::uint32_t rounds) {
  const auto word = client.hear();
  REQUIRE(word);
  CAPTURE(word->message);
  CHECK(word->tag == tag);
  CHECK(word->code == 0);
  CHECK(word->value == sum_of(static_cast<std::uint32_t>(tag), 1000));
  CHECK(word->rounds == rounds);
}

void ends_with_nothing_left(tally_job& job) {
  const auto supervisor = job.up().pid();
  CHECK(job.down().exit_code == 0);
  const auto ended = job.up().finish();
  CAPTURE(ended.err);
  CHECK(ended.exit_code == 0);
  CHECK(ranks_of(supervisor).empty());
}

const std::string small = R"(, "tally": {"numbers_max": 500, "piece_numbers": 64})";
const std::string drilled = small + R"(, "drills": true)";

} // namespace

TEST_CASE("C3, C21: a program that was added starts real ranks from a spec, is ready, and drains with nothing left") {
  tally_job job;
  REQUIRE(job.is_ready());
  CHECK(ranks_of(job.up().pid()).size() == 3);
  ends_with_nothing_left(job);
}

TEST_CASE("a command that speaks to clusters of serve says so to a spec and to a job of another program") {
  const scratch_folder here;
  const auto spec = here.write("tally.json", tally_job::spec_text(""));
  const auto ended =
      command{{"run", spec, "--prompt", "x", "--run-dir", here / "jobs"}, {}, RLIM_INFINITY, tally_job::program()}
          .finish();
  CHECK(ended.exit_code == 3);
  CHECK(has(ended.err, "tally.json runs program tally, and run speaks to clusters of program serve alone"));

  tally_job job;
  REQUIRE(job.is_ready());
  const auto asked = job.run({"ask", "--prompt", "x"});
  CAPTURE(asked.err);
  CHECK(asked.exit_code == 3);
  CHECK(has(asked.err, "runs program tally, and ask speaks to clusters of program serve alone; with every program"));
  for (const char* verb : {"ps", "logs", "trace"}) // as that line says
    CHECK(job.run({verb}).exit_code == 0);
  ends_with_nothing_left(job);
}

TEST_CASE("I23: numbers that were written into a mesh are added up there, and each answer is right") {
  for (const std::string lanes : {"", R"(, "lanes": {"control": "tcp", "bulk": "fabric"})"}) {
    CAPTURE(lanes);
    tally_job job{small + lanes};
    REQUIRE(job.is_ready());
    tally_client client{job.file("front.sock")};
    for (std::uint64_t tag = 1; tag <= 20; ++tag) {
      client.ask(tag, static_cast<std::uint32_t>(tag), 1000);
      answers_rightly(client, tag, 1);
    }
    for (std::uint64_t tag = 21; tag <= 40; ++tag)
      client.ask(tag, static_cast<std::uint32_t>(tag), 1000);
    for (std::uint64_t tag = 21; tag <= 40; ++tag)
      answers_rightly(client, tag, 1);
    client.ask(41, 1, 1001); // the mesh takes 1000
    const auto refused = client.hear();
    REQUIRE(refused);
    CHECK(refused->code == static_cast<std::uint16_t>(protocols::fault::invalid_request));
    ends_with_nothing_left(job);
  }
}

TEST_CASE("K9: a question of very many pieces costs the time that it takes and no rank, and the next one is answered") {
  tally_job job{R"(, "tally": {"numbers_max": 1048576, "piece_numbers": 1})"};
  REQUIRE(job.is_ready());
  const auto before = ranks_of(job.up().pid());
  tally_client client{job.file("front.sock")};
  client.ask(1, 0, 200'000);
  const auto word = client.hear();
  REQUIRE(word);
  CAPTURE(word->message);
  CHECK(word->code == 0);
  CHECK(word->value == doctest::Approx(2e10).epsilon(0.01)); // f32 rounds on the way
  client.ask(2, 2, 1000);
  answers_rightly(client, 2, 1);
  CHECK(ranks_of(job.up().pid()) == before);
  ends_with_nothing_left(job);
}

TEST_CASE("A26: a client of an added program may flag a question as strict, and is let go where it cannot be read so") {
  tally_job job{small};
  REQUIRE(job.is_ready());
  tally_client lenient{job.file("front.sock")};
  lenient.ask(1, 1, 1000, 3);
  answers_rightly(lenient, 1, 1);
  tally_client strict{job.file("front.sock")};
  strict.ask(2, 2, 1000, 0, protocols::strict_payload);
  answers_rightly(strict, 2, 1);
  strict.ask(3, 3, 1000, 3, protocols::strict_payload);
  CHECK_FALSE(strict.hear());
  ends_with_nothing_left(job);
}

TEST_CASE(
    "C1: a rank that is killed in the middle of a transfer or of a sum comes back with its cell, and the question "
    "is answered rightly") {
  struct strike {
    const char* rank;
    const char* point;
    std::uint32_t skip;
  };
  for (const auto& [rank, point, skip] : {strike{"counter.0/t1", "counter.piece", 11},
                                          {"counter.0/t0", "counter.piece", 9},
                                          {"counter.0/t1", "counter.adding", 1},
                                          {"counter.0/t0", "group.entered", 1}}) {
    CAPTURE(rank);
    CAPTURE(point);
    tally_job job{drilled,
                  {std::string{"rank="} + rank + ",action=kill,point=" + point + ",skip=" + std::to_string(skip)}};
    REQUIRE(job.is_ready());
    const auto before = ranks_of(job.up().pid());
    tally_client client{job.file("front.sock")};
    client.ask(1, 1, 1000); // eight pieces a rank, one sum
    answers_rightly(client, 1, 1);
    client.ask(2, 2, 1000);
    client.ask(3, 3, 1000);
    answers_rightly(client, 2, 2);
    answers_rightly(client, 3, 1);
    const auto after = ranks_of(job.up().pid());
    CHECK(after.size() == before.size());
    CHECK(std::ranges::count_if(after, [&](pid_t one) { return std::ranges::find(before, one) != before.end(); }) == 1);
    ends_with_nothing_left(job);
  }
}

TEST_CASE("K4: what a rank of an added program may not say reaches nobody, and what it says too late changes nothing") {
  const auto forged = [](const char* source, const char* round) {
    return std::string{"rank=teller,action=deliver,point=teller.posted,skip=9,message=sum,source="} + source +
           R"(,fields={"round": )" + round + R"(, "value": 1})";
  };
  tally_job job{drilled, {forged("counter.0/t1", "1"), forged("counter.0/t0", "9")}}; // a worker, and of no round
  REQUIRE(job.is_ready());
  tally_client client{job.file("front.sock")};
  for (std::uint64_t tag = 1; tag <= 3; ++tag) {
    client.ask(tag, static_cast<std::uint32_t>(tag), 1000);
    answers_rightly(client, tag, 1);
  }
  const auto strikes = content_of(job.file("strikes"));
  CHECK(lines_in(strikes) == 2);
  CHECK(has(content_of(job.file("logs/0.log")), "sum from rank 2 to rank 0"));
  ends_with_nothing_left(job);
}

TEST_CASE("C1: a rank that is killed by a stranger comes back with its cell, again and again") {
  tally_job job{small};
  REQUIRE(job.is_ready());
  tally_client client{job.file("front.sock")};
  for (std::uint64_t tag = 1; tag <= 3; ++tag) {
    client.ask(tag, static_cast<std::uint32_t>(tag), 1000);
    const auto word = client.hear();
    REQUIRE(word);
    CAPTURE(word->message);
    CHECK(word->value == sum_of(static_cast<std::uint32_t>(tag), 1000));
    CHECK(word->rounds <= 2); // it may have been asked before the loss was known
    if (tag < 3)
      REQUIRE(::kill(job.ready_rank("counter.0/t1", static_cast<std::uint32_t>(tag)), SIGKILL) == 0);
  }
  ends_with_nothing_left(job);
}
