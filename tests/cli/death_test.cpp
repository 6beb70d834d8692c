#include <doctest/doctest.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include "tests/cli/golden_pages.hpp"

using namespace troupe::tests;

namespace {

/// Few questions at a time, so that a drain is short however slow the machine is, and bounds that nobody passes who
/// only waits for a processor.
std::string reader(const scratch_folder& here, const std::string& restart = "cell") {
  return here.write("reader.json", reader_spec(R"({"front": {"role": "front"}, "encode": {"role": "encode"},
                                                   "prefill": {"role": "prefill", "tensor_parallel": 2},
                                                   "decode": {"role": "decode"}})",
                                               R"(, "limits": {"in_flight_max": 2}, "timeouts": {
                                                     "suspect_ms": 4000, "kill_ms": 8000, "supervisor_ms": 30000,
                                                     "progress_ms": 60000, "collective_ms": 60000,
                                                     "drain_ms": 60000, "start_ms": 90000},
                                                  "drills": true, "restart": {"encode": ")" +
                                                   restart + R"(", "prefill": ")" + restart + R"(", "decode": ")" +
                                                   restart + R"("})"));
}
constexpr std::size_t reader_ranks = 5;
/// Over the golden pages: while a cell is away nothing is answered, so it is back before the last of them.
constexpr std::size_t rounds = 8;

pid_t pid_of_rank(const std::string& job_directory, const std::string& label) {
  const auto status = nlohmann::json::parse(std::ifstream{job_directory + "/status.json"});
  for (const auto& rank : status.at("ranks"))
    if (rank.at("label") == label)
      return rank.at("pid");
  return 0;
}

/// A run that has much to read: it goes on for as long as a case needs it to.
std::vector<std::string> long_run(const scratch_folder& here, const std::string& restart = "cell") {
  return {"run",     reader(here, restart),     "--job", here.job(), "--run-dir", here / "jobs",
          "--pages", golden_list(here, rounds), "--json"};
}

} // namespace

TEST_CASE("C2, C13: SIGINT and SIGTERM during a run drain it, exit 130, and leave no process") {
  for (const int number : {SIGINT, SIGTERM}) {
    const scratch_folder here;
    command job{long_run(here)};
    REQUIRE(job.prints("token_ids", 20s));
    CHECK_FALSE(ranks_of(job.pid()).empty());
    job.signal(number);
    const auto end = job.finish(20s);
    CAPTURE(end.err);
    CHECK(end.in_time);
    CHECK(end.exit_code == 130);
    CHECK(ranks_of(job.pid()).empty());
  }
}

TEST_CASE("C2, C13: a signal while the ranks start ends them") {
  const scratch_folder here;
  command job{long_run(here)};
  REQUIRE(holds_within(10s, [&] { return !ranks_of(job.pid()).empty(); }));
  job.signal(SIGINT);
  const auto end = job.finish(20s);
  CHECK(end.in_time);
  CHECK(end.exit_code == 130);
  CHECK(ranks_of(job.pid()).empty());
}

TEST_CASE("C45: SIGKILL of the supervisor leaves no process, at whatever moment") {
  enum class moment { first_rank, all_ranks, ready, answering, draining };
  for (const auto when : {moment::first_rank, moment::all_ranks, moment::ready, moment::answering, moment::draining}) {
    CAPTURE(static_cast<int>(when));
    const scratch_folder here;
    const bool serves = when == moment::ready || when == moment::draining;
    command job{serves ? std::vector<std::string>{"up", reader(here), "--job", here.job(), "--run-dir", here / "jobs"}
                       : long_run(here)};
    switch (when) {
    case moment::first_rank:
      REQUIRE(holds_within(20s, [&] { return !ranks_of(job.pid()).empty(); }));
      break;
    case moment::all_ranks:
      REQUIRE(holds_within(20s, [&] { return ranks_of(job.pid()).size() == reader_ranks; }));
      break;
    case moment::ready:
      REQUIRE(job.prints("is ready", 20s));
      break;
    case moment::answering:
      REQUIRE(job.prints("token_ids", 20s));
      break;
    case moment::draining:
      REQUIRE(job.prints("is ready", 20s));
      job.signal(SIGTERM);
      break;
    }
    job.signal(SIGKILL);
    CHECK(holds_within(5s, [&] { return ranks_of(job.pid()).empty(); }));
    job.finish(5s);
  }
}

TEST_CASE(
    "C1: a rank that is killed and may not be restarted ends the run with exit code 6 and its name in the last line") {
  const scratch_folder here;
  command job{long_run(here, "none")};
  REQUIRE(job.prints("token_ids", 20s));
  const auto ranks = ranks_of(job.pid());
  REQUIRE_FALSE(ranks.empty());
  ::kill(ranks.back(), SIGKILL);
  const auto end = job.finish(20s);
  CAPTURE(end.err);
  CHECK(end.in_time);
  CHECK(end.exit_code == 6);
  REQUIRE(end.err.size() > 1);
  const auto last = end.err.substr(end.err.rfind('\n', end.err.size() - 2) + 1);
  CHECK(last.starts_with("troupe: "));
  CHECK(has(last, "rank"));
  CHECK(has(last, "killed by signal 9"));
  CHECK(ranks_of(job.pid()).empty());
}

TEST_CASE("C11: the front dies while its leaders serve it: every rank leaves, and its death is the cause") {
  const scratch_folder here;
  command job{long_run(here)};
  REQUIRE(job.prints("token_ids", 20s));
  const auto front = pid_of_rank(here / "jobs" + "/" + here.job(), "front");
  REQUIRE(front > 0);
  ::kill(front, SIGKILL);
  const auto end = job.finish(20s);
  CAPTURE(end.err);
  CHECK(end.in_time);
  CHECK(end.exit_code == 6);
  CHECK(has(end.err, "(front)"));
  CHECK(has(end.err, "killed by signal 9"));
  CHECK(ranks_of(job.pid()).empty());
}

TEST_CASE("C46: a rank that is killed costs at most the answers that it was giving, and all others are right") {
  for (const auto* label : {"encode.0", "prefill.0/t0", "prefill.0/t1", "decode.0"}) {
    CAPTURE(label);
    const scratch_folder here;
    command job{long_run(here)};
    REQUIRE(job.prints("token_ids", 20s));
    const auto victim = pid_of_rank(here / "jobs" + "/" + here.job(), label);
    REQUIRE(victim > 0);
    ::kill(victim, SIGKILL);
    const auto end = job.finish(30s);
    CAPTURE(end.err);
    CHECK(end.in_time);
    CHECK((end.exit_code == 0 || end.exit_code == 1));
    const auto answers = json_lines(end.out);
    CHECK(answers.size() == rounds * golden_pages().size());
    std::size_t failed = 0;
    for (const auto& answer : answers) {
      const auto page = std::ranges::find_if(golden_pages(), [&](const golden_page& each) {
        return answer.at("image") == each.image && answer.at("prompt") == each.prompt;
      });
      REQUIRE(page != golden_pages().end());
      const auto ids = answer.at("token_ids").get<std::vector<int>>();
      if (answer.at("finish") == "failed") {
        ++failed;
        CHECK(has(answer.dump(), "killed by signal 9"));
        CHECK(std::equal(ids.begin(), ids.end(), page->ids.begin())); // a beginning of the right answer
      } else {
        CHECK(ids == page->ids);
      }
    }
    CHECK(failed <= 2); // limits.in_flight_max
    CHECK(has(end.err, "ready again after"));
    CHECK(ranks_of(job.pid()).empty());
  }
}

TEST_CASE("C43: a rank that is stopped is put down within timeouts.kill_ms, and its cell serves again") {
  const scratch_folder here;
  command job{long_run(here)};
  REQUIRE(job.prints("token_ids", 20s));
  const auto victim = pid_of_rank(here / "jobs" + "/" + here.job(), "prefill.0/t1");
  REQUIRE(victim > 0);
  ::kill(victim, SIGSTOP); // its leader waits for it in a collective, and nothing closes a socket
  const auto end = job.finish(40s);
  CAPTURE(end.err);
  CHECK(end.in_time);
  CHECK(has(end.err, "rank 3 (prefill.0/t1)"));
  CHECK(has(end.err, "gave no sign of life for"));
  CHECK(has(end.err, "ready again after"));
  CHECK(json_lines(end.out).size() == rounds * golden_pages().size());
  CHECK(ranks_of(job.pid()).empty());
}

TEST_CASE("C46, A13: while an encode cell is stopped and not yet given up, the other one answers for it") {
  const scratch_folder here;
  // given: a spec that leaves a stopped rank alone for nearly as long as a question may take
  const auto spec = here.write("patient.json", reader_spec(R"({"front": {"role": "front"},
                                                               "encode": {"role": "encode", "cells": 2},
                                                               "prefill": {"role": "prefill"},
                                                               "decode": {"role": "decode"}})",
                                                           R"(, "timeouts": {
                                                                 "suspect_ms": 1000, "kill_ms": 29000, "drain_ms": 60000,
                                                                 "supervisor_ms": 60000, "start_ms": 150000,
                                                                 "room_ms": 20000, "collective_ms": 20000,
                                                                 "request_ms": 30000})"));
  command job{{"up", spec, "--job", here.job(), "--run-dir", here / "jobs"}};
  REQUIRE(job.prints("is ready", 60s));
  const auto victim = pid_of_rank(here / "jobs" + "/" + here.job(), "encode.0");
  REQUIRE(victim > 0);
  ::kill(victim, SIGSTOP);

  // when: pictures come that its content names, and again once it is known to be silent
  for (int round = 0; round < 2; ++round) {
    const auto end = run_troupe(
        {"ask", "--job", here.job(), "--run-dir", here / "jobs", "--pages", golden_list(here), "--json"}, 60s);
    CAPTURE(end.err);
    CHECK(end.exit_code == 0);
    const auto answers = json_lines(end.out);
    REQUIRE(answers.size() == golden_pages().size());
    for (const auto& answer : answers)
      CHECK(answer["token_ids"] == nlohmann::json(golden_pages().at(answer["index"].get<std::size_t>()).ids));
  }

  // then: nobody was restarted for it, and the cell goes on where it was
  ::kill(victim, SIGCONT);
  CHECK(pid_of_rank(here / "jobs" + "/" + here.job(), "encode.0") == victim);
  CHECK(run_troupe({"down", "--job", here.job(), "--run-dir", here / "jobs"}).exit_code == 0);
  const auto end = job.finish(60s);
  CAPTURE(end.err);
  CHECK_FALSE(has(end.err, "gave no sign of life"));
}

TEST_CASE("K14: a rank that stayed and has lost the socket it listens on is restarted, and the job goes on") {
  for (const auto* socket : {"/r3.sock", "/t3.sock"}) { // of prefill.0/t1
    CAPTURE(socket);
    const scratch_folder here;
    command job{long_run(here)};
    REQUIRE(job.prints("token_ids", 60s));
    const auto directory = here / "jobs" + "/" + here.job();
    const auto victim = pid_of_rank(directory, "encode.0");
    REQUIRE(victim > 0);
    REQUIRE(std::filesystem::remove(directory + socket));
    ::kill(victim, SIGKILL);
    const auto end = job.finish(90s);
    CAPTURE(end.err);
    CHECK(end.in_time);
    CHECK((end.exit_code == 0 || end.exit_code == 1));
    CHECK(has(end.err, "rank 3 (prefill.0/t1)"));
    CHECK(has(end.err, "cannot be used: rank 1 (encode.0)"));
    CHECK(has(end.err, "encode.0, prefill.0/t0, prefill.0/t1 ready again after"));
    CHECK(json_lines(end.out).size() == rounds * golden_pages().size());
  }
}

TEST_CASE("K14: of two newcomers a rank that stayed names the one whose edge did not come to be") {
  const scratch_folder here;
  command job{{"up", reader(here), "--job", here.job(), "--run-dir", here / "jobs"}};
  REQUIRE(job.prints("is ready", 60s));
  const auto directory = here / "jobs" + "/" + here.job();
  const auto first = pid_of_rank(directory, "encode.0");
  const auto second = pid_of_rank(directory, "decode.0");
  REQUIRE(first > 0);
  REQUIRE(second > 0);
  // It makes the edge to decode.0 and never reads where that one's memory lies.
  const auto* const deaf = "rank=prefill.0/t0,action=unread,peer=decode.0,channel=control,times=0,ms=600000";
  REQUIRE(run_troupe({"inject", here.job(), deaf, "--run-dir", here / "jobs"}).exit_code == 0);
  ::kill(first, SIGKILL);
  ::kill(second, SIGKILL);
  CHECK(job.prints("rank 2 (prefill.0/t0)", 60s));
  job.signal(SIGKILL);
  const auto end = job.finish(60s);
  CAPTURE(end.err);
  CHECK(has(end.err, "stayed and does not admit decode.0, which others have admitted: no word of region kv.decode"));
}

TEST_CASE("C13: ranks whose supervisor is stopped leave after timeouts.supervisor_ms, and it says so when it goes on") {
  const scratch_folder here;
  const auto spec = here.write("reader.json", reader_spec(one_rank(), R"(, "timeouts": {"supervisor_ms": 2500})"));
  command job{{"up", spec, "--job", here.job(), "--run-dir", here / "jobs"}};
  REQUIRE(job.prints("is ready", 20s));
  REQUIRE(ranks_of(job.pid()).size() == 1);
  ::kill(job.pid(), SIGSTOP);
  CHECK(holds_within(15s, [&] { return ranks_of(job.pid()).empty(); }));
  ::kill(job.pid(), SIGCONT);
  const auto end = job.finish(20s);
  CHECK(end.exit_code == 6);
  CHECK(has(end.err, "left with exit code 71"));
}

TEST_CASE("A port that is taken is said with its number, and nothing stays behind") {
  troupe::base::unique_fd taken{::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  REQUIRE(::bind(taken.get(), reinterpret_cast<const sockaddr*>(&address), size) == 0);
  REQUIRE(::listen(taken.get(), 1) == 0);
  REQUIRE(::getsockname(taken.get(), reinterpret_cast<sockaddr*>(&address), &size) == 0);
  const auto port = std::to_string(ntohs(address.sin_port));

  const scratch_folder here;
  const auto spec =
      here.write("tcp.json", reader_spec(one_rank(), R"(, "lanes": {"control": "tcp", "tcp_port": )" + port + "}"));
  command job{{"run", spec, "--prompt", "a", "--job", here.job(), "--run-dir", here / "jobs"}};
  const auto end = job.finish(20s);
  CAPTURE(end.err);
  CHECK(end.in_time);
  CHECK(end.exit_code != 0);
  CHECK(has(end.err, port));
  CHECK(has(end.err, "in use"));
  CHECK(ranks_of(job.pid()).empty());
}

TEST_CASE("A run directory that cannot be made is said with its path, and nothing stays behind") {
  const scratch_folder here;
  const auto file = here.write("file", "");
  for (const auto& folder : {file + "/job", std::string{"/proc/troupe-job"}}) {
    for (const auto* name : {"run", "up"}) {
      std::vector<std::string> arguments{name, reader(here), "--job", here.job(), "--run-dir", folder};
      if (std::string{name} == "run")
        arguments.insert(arguments.end(), {"--prompt", "a"});
      command job{arguments};
      const auto end = job.finish(20s);
      CAPTURE(end.err);
      CHECK(end.in_time);
      CHECK(end.exit_code == 3);
      CHECK(lines_in(end.err) == 1);
      CHECK(has(end.err, folder));
      CHECK(ranks_of(job.pid()).empty());
    }
  }
}
