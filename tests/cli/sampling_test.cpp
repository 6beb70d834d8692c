#include <doctest/doctest.h>

#include "tests/cli/golden_pages.hpp"

// What a request may say of sampling, through the processes of a job, of one rank and of cells with two.

using namespace troupe::tests;

namespace {

/// A job that answers one question by different flags.
class asked_job {
public:
  explicit asked_job(const std::string& spec)
      : job_({"up", TROUPE_SOURCE_DIR "/deploy/specs/" + spec, "--job", here_.job(), "--run-dir", here_ / "jobs"}) {
    REQUIRE_MESSAGE(job_.prints("is ready", 90s), job_.err());
  }
  ~asked_job() {
    job_.signal(SIGINT);
    CHECK(job_.finish().in_time);
  }

  command_end run(const std::vector<std::string>& flags) {
    std::vector<std::string> arguments{"ask",      "--job",          here_.job(), "--run-dir",   here_ / "jobs",
                                       "--prompt", "Say something.", "--json",    "--ignore-eos"};
    arguments.insert(arguments.end(), flags.begin(), flags.end());
    return run_troupe(arguments, 60s);
  }
  nlohmann::json ask(const std::vector<std::string>& flags) {
    const auto end = run(flags);
    CAPTURE(end.err);
    REQUIRE(end.exit_code == 0);
    return json_lines(end.out).at(0);
  }

private:
  scratch_folder here_;
  command job_;
};

std::string text_of(int id) {
  return std::to_string(id);
}

} // namespace

TEST_CASE("B11: sampling acts from the first token on, alike on one rank and in cells of several") {
  nlohmann::json penalised; // by the first spec
  for (const auto* const spec : {"reader-one-rank.json", "reader-pp2-tp2.json", "reader-etp2.json"}) {
    CAPTURE(spec);
    asked_job job{spec};
    const auto plain = job.ask({"--max-tokens", "6", "--logprobs", "2"});
    const std::vector<int> ids = plain["token_ids"];
    REQUIRE(ids.size() == 6);
    REQUIRE(plain["logprobs"].size() == 6);
    for (std::size_t i = 0; i < ids.size(); ++i) { // greedy takes the likeliest
      CHECK(plain["logprobs"][i]["id"] == ids[i]);
      REQUIRE(plain["logprobs"][i]["top"].size() == 2);
      CHECK(plain["logprobs"][i]["top"][0]["id"] == ids[i]);
      CHECK(plain["logprobs"][i]["logprob"] <= 0.0);
      CHECK(plain["logprobs"][i]["top"][1]["logprob"] <= plain["logprobs"][i]["top"][0]["logprob"]);
    }
    CHECK(plain["prompt_tokens"] > 0);

    // A bias that leaves no other choice, for the token that prefill chooses too.
    const int other = ids[0] == 40 ? 41 : 40;
    const auto biased = job.ask({"--max-tokens", "3", "--logit-bias", text_of(other) + "=100", "--logprobs", "1"});
    CHECK(biased["token_ids"] == nlohmann::json(std::vector<int>(3, other)));
    CHECK(biased["logprobs"][0]["id"] == other);
    CHECK(biased["logprobs"][0]["top"][0]["id"] == ids[0]); // by the model's own logits

    // A stop id ends the answer, is its last token and none of its text.
    const auto stopped = job.ask({"--max-tokens", "6", "--stop-id", text_of(ids[2])});
    const auto first = static_cast<std::size_t>(std::find(ids.begin(), ids.end(), ids[2]) - ids.begin());
    CHECK(stopped["token_ids"] == nlohmann::json(std::vector<int>(ids.begin(), ids.begin() + first + 1)));
    CHECK(stopped["finish"] == "stop");
    // Not before min_tokens, and then not as the first token either.
    const auto later = job.ask({"--max-tokens", "6", "--stop-id", text_of(ids[0]), "--min-tokens", "2"});
    CHECK(later["token_ids"].size() >= 2);
    CHECK(later["token_ids"][0] != ids[0]);
    CHECK(later["token_ids"][1] != ids[0]);

    // Penalties and what is left out of a draw, the same by the same seed wherever it runs.
    const auto mixed =
        job.ask({"--max-tokens", "10", "--temperature", "1", "--seed", "7", "--top-k", "20", "--min-p", "0.01",
                 "--presence-penalty", "0.5", "--frequency-penalty", "0.5", "--repetition-penalty", "1.3"});
    CHECK(mixed["finish"] == "length");
    CHECK(mixed["seed"] == 7);
    if (penalised.is_null())
      penalised = mixed["token_ids"];
    CHECK(mixed["token_ids"] == penalised);
  }
}

TEST_CASE("G10: without a seed the front draws one, and the answer says which, so that it can be had again") {
  asked_job job{"reader-one-rank.json"};
  const auto first = job.ask({"--max-tokens", "8", "--temperature", "5"});
  const auto second = job.ask({"--max-tokens", "8", "--temperature", "5"});
  CHECK(first["seed"] != second["seed"]);
  CHECK(first["token_ids"] != second["token_ids"]);
  const auto again = job.ask(
      {"--max-tokens", "8", "--temperature", "5", "--seed", std::to_string(first["seed"].get<std::uint64_t>())});
  CHECK(again["token_ids"] == first["token_ids"]);

  const auto strange = job.run({"--logit-bias", "1000000=1"});
  CHECK(strange.exit_code == 5);
  CHECK(has(strange.err, "logit_bias names token 1000000; the model has 0 to "));
  const auto late = job.run({"--max-tokens", "400", "--timeout-ms", "1"});
  CHECK(late.exit_code == 1);
  CHECK(has(late.err, "deadline"));
}

TEST_CASE("a bad value of sampling is named before anything is asked") {
  const auto problem_of = [](const std::vector<std::string>& flags) {
    std::vector<std::string> arguments{"ask", "--prompt", "a"};
    arguments.insert(arguments.end(), flags.begin(), flags.end());
    const auto end = run_troupe(arguments);
    CHECK(end.exit_code == 2);
    return end.err;
  };
  CHECK(has(problem_of({"--logit-bias", "x=1"}), "x=1 is no bias; write ID=X"));
  CHECK(has(problem_of({"--logit-bias", "4=101"}), "4=101 is no bias"));
  CHECK(has(problem_of({"--min-p", "2"}), "--min-p"));
  CHECK(has(problem_of({"--repetition-penalty", "0"}), "--repetition-penalty"));
  CHECK(has(problem_of({"--logprobs", "21"}), "--logprobs"));
  CHECK(has(problem_of({"--stop-id", "-1"}), "--stop-id"));
}
