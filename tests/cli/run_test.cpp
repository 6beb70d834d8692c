#include <doctest/doctest.h>

#include <algorithm>
#include <filesystem>

#include "gpu/models/text_io.hpp"
#include "tests/cli/golden_pages.hpp"

using namespace troupe;
using namespace troupe::tests;

namespace {

std::string reader() {
  return TROUPE_SOURCE_DIR "/deploy/specs/reader.json";
}

std::vector<std::string> run_command(const scratch_folder& here, const std::string& spec,
                                     std::vector<std::string> questions) {
  std::vector<std::string> arguments{"run", spec, "--job", here.job(), "--run-dir", here / "jobs"};
  arguments.insert(arguments.end(), questions.begin(), questions.end());
  return arguments;
}

/// Every golden page once, each with the ids that the independent implementation gave.
void check_golden(const std::vector<nlohmann::json>& answers, std::size_t times) {
  CHECK(answers.size() == times * golden_pages().size());
  for (const auto& page : golden_pages()) {
    const auto same = [&](const auto& answer) { return answer["image"] == page.image; };
    CAPTURE(page.image);
    CHECK(static_cast<std::size_t>(std::ranges::count_if(answers, same)) == times);
    for (const auto& answer : answers)
      if (same(answer)) {
        CHECK(answer["token_ids"] == nlohmann::json(page.ids));
        CHECK(answer["text"] == page.text);
        CHECK(answer["prompt"] == page.prompt);
      }
  }
}

} // namespace

namespace {

/// What `spec explain` says of each spec that is shipped and computes.
std::vector<std::pair<std::string, nlohmann::json>> shipped_readers() {
  std::vector<std::pair<std::string, nlohmann::json>> readers;
  for (const auto& entry : std::filesystem::directory_iterator{TROUPE_SOURCE_DIR "/deploy/specs"}) {
    if (entry.path().extension() != ".json")
      continue;
    const auto described = run_troupe({"spec", "explain", entry.path().string(), "--json"});
    REQUIRE(described.exit_code == 0);
    auto plan = nlohmann::json::parse(described.out);
    if (plan["ranks"][0]["role"] != "stub") // joins and idles: reads no page
      readers.emplace_back(entry.path().string(), std::move(plan));
  }
  return readers;
}

bool has_encode_mesh(const nlohmann::json& plan) {
  return std::ranges::any_of(plan["ranks"], [](const nlohmann::json& rank) { return rank["label"] == "encode.0/t1"; });
}

void check_reads_golden_pages(const std::string& spec) {
  const scratch_folder here;
  CAPTURE(spec);
  const auto end = run_troupe(run_command(here, spec, {"--pages", golden_list(here), "--json"}), 60s);
  CAPTURE(end.err);
  CHECK(end.exit_code == 0);
  check_golden(json_lines(end.out), 1);
}

} // namespace

TEST_CASE("J13: every spec that is shipped reads the golden pages as the independent implementation does") {
  for (const auto& [spec, plan] : shipped_readers())
    if (!has_encode_mesh(plan))
      check_reads_golden_pages(spec);
}

TEST_CASE(
    "J13, K4: encode meshes of two and of four ranks read the golden pages as the independent implementation does") {
  std::size_t seen = 0;
  for (const auto& [spec, plan] : shipped_readers())
    if (has_encode_mesh(plan)) {
      check_reads_golden_pages(spec);
      ++seen;
    }
  CHECK(seen == 2);
}

TEST_CASE("Pages asked together are answered as they are alone") {
  const scratch_folder here;
  const auto together = run_troupe(run_command(here, reader(), {"--pages", golden_list(here, 5), "--json"}), 60s);
  CAPTURE(together.err);
  REQUIRE(together.exit_code == 0);
  check_golden(json_lines(together.out), 5);

  for (const auto& page : {golden_pages().front(), golden_pages().back()}) {
    const scratch_folder there;
    const auto alone =
        run_troupe(run_command(there, reader(), {"--image", page.image, "--prompt", page.prompt, "--json"}));
    REQUIRE(alone.exit_code == 0);
    const auto answers = json_lines(alone.out);
    REQUIRE(answers.size() == 1);
    CHECK(answers[0]["token_ids"] == nlohmann::json(page.ids));
  }
}

TEST_CASE("The text of an answer is that of all its tokens, also where the last ends within a code point") {
  // given: hot sampling, so that this model's tokens, most of which are single bytes, come in any order
  const auto words = gpu::models::tokenizer::open(TROUPE_SOURCE_DIR "/deploy/models/reader");
  REQUIRE(words);
  const scratch_folder here;
  const auto end = run_troupe(run_command(here, reader(),
                                          {"--pages", golden_list(here, 4), "--json", "--temperature", "100", "--seed",
                                           "5", "--max-tokens", "3"}),
                              60s);
  CAPTURE(end.err);
  REQUIRE(end.exit_code == 0);

  std::size_t unfinished = 0;
  for (const auto& answer : json_lines(end.out)) {
    CAPTURE(answer.dump());
    gpu::models::incremental_decoder decoder{*words};
    std::string text;
    for (const auto& id : answer["token_ids"])
      text += decoder.push(id.get<int>());
    const auto rest = decoder.finish();
    unfinished += rest.empty() ? 0 : 1;
    CHECK(answer["text"] == text + rest);
  }
  CHECK(unfinished > 0);
}

TEST_CASE("One page: its text and nothing else on stdout, the phases with their times on stderr") {
  const auto& page = golden_pages().front();
  const scratch_folder here;
  const auto end = run_troupe(run_command(here, reader(), {"--image", page.image, "--prompt", page.prompt}));
  CAPTURE(end.err);
  CHECK(end.exit_code == 0);
  CHECK(end.out == page.text + "\n");
  for (const auto* word : {"tokens", "first token", "total", "encode", "prefill", "decode", "launch", "shutdown"})
    CHECK(has(end.err, word));
}

TEST_CASE("Several pages: a header and the text of each, in the order asked") {
  const scratch_folder here;
  const auto end = run_troupe(run_command(
      here, reader(),
      {"--image", golden("golden-00.png"), golden("golden-01.png"), "--prompt", golden_pages().front().prompt}));
  CAPTURE(end.err);
  CHECK(end.exit_code == 0);
  const auto prompt = golden_pages().front().prompt;
  CHECK(end.out == "== " + golden("golden-00.png") + "  " + prompt + "\n" + golden_pages()[0].text +
                       "\n\n== " + golden("golden-01.png") + "  " + prompt + "\n" + golden_pages()[1].text + "\n");
}

TEST_CASE("A JSON answer has image, prompt, text, ids, times and the reason of its end") {
  const scratch_folder here;
  const auto end = run_troupe(
      run_command(here, reader(),
                  {"--image", golden("golden-04.png"), "--prompt", "Read the text.", "--max-tokens", "5", "--json"}));
  REQUIRE(end.exit_code == 0);
  const auto answers = json_lines(end.out);
  REQUIRE(answers.size() == 1);
  const auto& answer = answers[0];
  CHECK(answer["image"] == golden("golden-04.png"));
  CHECK(answer["finish"] == "length");
  CHECK(answer["tokens"] == 5);
  CHECK(answer["token_ids"].size() == 5);
  CHECK(answer["time_to_first_token_ms"] > 0.0);
  CHECK(answer["total_ms"] >= answer["time_to_first_token_ms"]);
  CHECK(answer["phases_ms"].contains("encode"));
  CHECK(answer["phases_ms"].contains("decode"));
  CHECK_FALSE(answer.contains("error"));
}

TEST_CASE("Equal seeds give equal answers, and a question may have no picture") {
  const scratch_folder here;
  std::vector<nlohmann::json> seen;
  for (int round = 0; round < 2; ++round) {
    const auto end = run_troupe(run_command(
        here, reader(),
        {"--prompt", "Say something.", "--temperature", "1", "--seed", "7", "--max-tokens", "12", "--json"}));
    CAPTURE(end.err);
    REQUIRE(end.exit_code == 0);
    seen.push_back(json_lines(end.out).at(0));
  }
  CHECK(seen[0]["image"].is_null());
  CHECK(seen[0]["token_ids"] == seen[1]["token_ids"]);
}

TEST_CASE("C24: a bad picture fails its own page, by name, and the others are read") {
  const scratch_folder here;
  const auto broken = here.write("broken.png", "\x89PNG\r\n\x1a\n and no more");
  const auto end = run_troupe(run_command(
      here, reader(), {"--image", broken, golden("golden-00.png"), "--prompt", "Read the text.", "--json"}));
  CAPTURE(end.err);
  CHECK(end.exit_code == 5);
  CHECK(has(end.err, broken + ": refused: bad_picture"));
  auto answers = json_lines(end.out);
  REQUIRE(answers.size() == 2);
  std::ranges::sort(answers, {}, [](const auto& each) { return each.contains("error"); });
  CHECK(answers[0]["text"] == golden_pages()[0].text);
  CHECK(answers[1]["finish"] == "refused");
}

TEST_CASE("A prompt that does not fit the context is refused by name") {
  const scratch_folder here;
  const auto end = run_troupe(run_command(here, reader(), {"--prompt", std::string(20'000, 'a')}));
  CHECK(end.exit_code == 5);
  CHECK(has(end.err, "context_exceeded"));
}
