#include <doctest/doctest.h>

#include <filesystem>

#include "tests/cli/golden_pages.hpp"

using namespace troupe::tests;

namespace {

std::string one_rank_spec(const scratch_folder& here) {
  return here.write("one.json", reader_spec(one_rank()));
}

std::vector<std::string> run_of(const scratch_folder& here, const std::string& spec, std::vector<std::string> more) {
  std::vector<std::string> arguments{"run", spec, "--run-dir", here / "jobs"};
  arguments.insert(arguments.end(), more.begin(), more.end());
  return arguments;
}

/// With a byte that is no UTF-8.
constexpr std::string_view strange = "caf\xe9";

} // namespace

TEST_CASE("A JSON answer says which question it answers, by its place in the list") {
  const scratch_folder here;
  // given: questions of which two have equal words, the first with the longest answer
  const auto& pages = golden_pages();
  auto list = nlohmann::json::array();
  std::vector<std::size_t> asked{6, 3, 6, 2};
  for (const auto place : asked)
    list.push_back({{"image", pages.at(place).image}, {"prompt", pages.at(place).prompt}});

  const auto end = run_troupe(run_of(here, TROUPE_SOURCE_DIR "/deploy/specs/reader.json",
                                     {"--pages", here.write("pages.json", list.dump()), "--json"}),
                              60s);

  CAPTURE(end.err);
  REQUIRE(end.exit_code == 0);
  std::vector<std::size_t> answered;
  for (const auto& answer : json_lines(end.out)) {
    const auto index = answer["index"].get<std::size_t>();
    REQUIRE(index < asked.size());
    CHECK(answer["token_ids"] == nlohmann::json(pages.at(asked[index]).ids));
    answered.push_back(index);
  }
  std::ranges::sort(answered);
  CHECK(answered == std::vector<std::size_t>{0, 1, 2, 3});
}

TEST_CASE("A picture's file may have brackets in its name") {
  const scratch_folder here;
  const auto& page = golden_pages().front();
  for (const auto* name : {"[x]", "[a,b].png"}) {
    std::filesystem::copy_file(page.image, here / name);
    std::filesystem::current_path(here / "");
    const auto end = run_troupe(run_of(here, one_rank_spec(here), {"--image", name, "--prompt", page.prompt}));
    std::filesystem::current_path("/");
    CAPTURE(end.err);
    CHECK(end.exit_code == 0);
    CHECK(end.out == page.text + "\n");
  }
}

TEST_CASE("--pages takes longer lists and prompts than --prompt, and --help says how long") {
  const scratch_folder here;
  auto list = nlohmann::json::array();
  for (int i = 0; i < 1000; ++i)
    list.push_back({{"prompt", "How many words are there in this sentence, which goes on and on for a while?"}});
  list.push_back({{"prompt", std::string(128 * 1024, 'a')}}); // more than the kernel takes as an argument
  const auto file = here.write("pages.json", list.dump());
  REQUIRE(std::filesystem::file_size(file) > 200'000);

  const auto end =
      run_troupe(run_of(here, one_rank_spec(here), {"--pages", file, "--max-tokens", "1", "--json"}), 100s);

  CAPTURE(end.err);
  CHECK(end.exit_code == 5); // the last is refused
  const auto answers = json_lines(end.out);
  REQUIRE(answers.size() == 1001);
  for (const auto& answer : answers)
    CHECK((answer["finish"] == "refused") == (answer["index"] == 1000));
  CHECK(has(end.err, "context_exceeded"));

  const auto help = run_troupe({"ask", "--help"});
  CHECK(has(help.out, "at most 256 KiB"));
  CHECK(has(help.out, "at most 64 MiB"));
}

TEST_CASE("A question that is refused stands cut to one line before its reason") {
  const scratch_folder here;
  const auto question = "one\ntwo\n" + std::string(5000, 'a');
  const auto end = run_troupe(run_of(here, one_rank_spec(here), {"--prompt", question}));
  CHECK(end.exit_code == 5);
  const auto begin = end.err.find("troupe: ");
  REQUIRE(begin != std::string::npos);
  CHECK(end.err.find("troupe: ", begin + 1) == std::string::npos);
  const auto line = end.err.substr(begin);
  CAPTURE(line);
  CHECK(line.starts_with("troupe: one two aaa"));
  CHECK(line.find("...: refused: context_exceeded") < 100);
}

TEST_CASE("A name with a line feed or an escape sequence stays within the one line that says what is wrong with it") {
  const scratch_folder here;
  const std::string name = "a\ntroupe: \x1b[2Jb.png"; // a line of its own would pass for the command's
  const auto spec = one_rank_spec(here);
  const auto list = here.write("p.json", R"([{"image": "a\ntroupe: \u001b[2Jb.png", "prompt": "Read the text."}])");
  for (const auto& question : {std::vector<std::string>{"--image", name, "--prompt", "Read the text."},
                               {"--pages", list},
                               {"--pages", name}}) {
    auto arguments = std::vector<std::string>{"run", spec, "--run-dir", here / "jobs"};
    arguments.insert(arguments.end(), question.begin(), question.end());
    const auto end = run_troupe(arguments);
    CAPTURE(end.err);
    CHECK(end.exit_code == 3);
    CHECK(lines_in(end.err) == 1);
    CHECK(end.err.find('\x1b') == std::string::npos);
  }
}

TEST_CASE("A list of questions that is a folder or empty is refused for that") {
  const scratch_folder here;
  const auto refusal = [&](const std::string& pages) {
    const auto end = run_troupe({"run", one_rank_spec(here), "--run-dir", here / "jobs", "--pages", pages});
    CHECK(end.exit_code == 3);
    return end.err;
  };
  CHECK(has(refusal(here / "."), "it is a directory; --pages takes"));
  CHECK(has(refusal(here.write("p.json", "[]")),
            "p.json:1:1: expected a list of {\"image\", \"prompt\"}, found an empty"));
}

TEST_CASE("A path or a question that is no UTF-8 is used or refused in words, and ends nobody") {
  const scratch_folder here;
  const auto& page = golden_pages().front();
  const auto folder = here / strange;
  std::filesystem::create_directory(folder);
  const auto spec = one_rank_spec(here);
  const std::vector<std::string> question{"--image", page.image, "--prompt", page.prompt};
  const auto with = [&](std::vector<std::string> arguments, const std::vector<std::string>& more) {
    arguments.insert(arguments.end(), more.begin(), more.end());
    return run_troupe(arguments, 60s);
  };
  SUBCASE("run directory") {
    const auto root = folder + "/jobs";
    const auto end = with({"run", spec, "--run-dir", root}, question);
    CAPTURE(end.err);
    CHECK(end.exit_code == 0);
    CHECK(end.out == page.text + "\n");

    command job{{"up", spec, "--run-dir", root, "--json"}};
    REQUIRE(job.prints("\"ready\""));
    CHECK(with({"ps", "--json", "--run-dir", root}, {}).exit_code == 0);
    CHECK(with({"ps", "--run-dir", root}, {}).exit_code == 0);
    CHECK(with({"trace", "--json", "--run-dir", root}, {}).exit_code == 0);
    const auto asked = with({"ask", "--run-dir", root}, question);
    CHECK(asked.out == page.text + "\n");
    CHECK(with({"down", "--run-dir", root}, {}).exit_code == 0);
    CHECK(job.finish().exit_code == 0);
  }
  SUBCASE("spec") {
    const auto there = folder + "/s.json";
    std::filesystem::copy_file(spec, there);
    CHECK(with({"run", there, "--run-dir", here / "jobs"}, question).exit_code == 0);
    CHECK(with({"spec", "validate", "--json", there}, {}).exit_code == 0);
    CHECK(with({"spec", "explain", "--json", there}, {}).exit_code == 0);
  }
  SUBCASE("model") {
    std::filesystem::create_directory_symlink(reader_model(), folder + "/reader");
    std::ofstream{folder + "/s.json"} << R"({"troupe": 1, "name": "m", "model": {"path": "reader"}, "pools": )"
                                      << one_rank() << "}";
    const auto end = with({"run", folder + "/s.json", "--run-dir", here / "jobs"}, question);
    CHECK(end.exit_code == 3);
    CHECK(has(end.err, "UTF-8"));
    CHECK(lines_in(end.err) == 1);
    CHECK(with({"spec", "validate", "--json", folder + "/s.json"}, {}).exit_code == 3);
  }
  SUBCASE("picture") {
    const auto picture = folder + "/p.png";
    std::filesystem::copy_file(page.image, picture);
    const auto end =
        with({"run", spec, "--run-dir", here / "jobs"}, {"--json", "--image", picture, "--prompt", page.prompt});
    CHECK(end.exit_code == 0);
    CHECK(json_lines(end.out).size() == 1);
  }
  SUBCASE("question") {
    const auto end = with({"run", spec, "--run-dir", here / "jobs"},
                          {"--json", "--max-tokens", "2", "--prompt", std::string{strange}});
    CHECK(end.exit_code < 6);
    CHECK(json_lines(end.out).size() == 1);
  }
  SUBCASE("list of questions") {
    const auto list = folder + "/p.json";
    std::filesystem::copy_file(page.image, folder + "/p.png");
    std::ofstream{list} << R"([{"image": "p.png", "prompt": "Read the text."}])";
    CHECK(with({"run", spec, "--run-dir", here / "jobs", "--json", "--pages", list}, {}).exit_code == 0);
  }
}

TEST_CASE("A run that its ranks refuse leaves no directory") {
  const scratch_folder here;
  // given: weights whose table is right and whose numbers end early, which only a rank reads
  const auto model = here / "model";
  std::filesystem::copy(reader_model(), model, std::filesystem::copy_options::recursive);
  const auto spec = here.write("spec.json", R"({"troupe": 1, "name": "m", "model": {"path": "model"}, "device": "cuda",
                                                "pools": )" +
                                                std::string{one_rank()} + "}");
  const auto end = run_troupe(run_of(here, spec, {"--prompt", "a"}));
  CAPTURE(end.err);
  CHECK(end.exit_code == 3);
  CHECK(std::filesystem::is_empty(here / "jobs"));
}

TEST_CASE("A number of records below one is a wrong command line") {
  const auto end = run_troupe({"trace", "--last", "-1"});
  CHECK(end.exit_code == 2);
  CHECK(has(end.err, "--last"));
}

TEST_CASE("A13: a leader that the host lets run too seldom to acknowledge within kill_ms is slow, and its request is "
          "answered") {
  const scratch_folder here;
  const auto& page = golden_pages().front();
  const auto spec = here.write("slow.json", reader_spec(R"({"front": {"role": "front"}, "encode": {"role": "encode"},
                                                            "prefill": {"role": "prefill"},
                                                            "decode": {"role": "decode"}})",
                                                        R"(, "drills": true, "timeouts": {
                                                              "kill_ms": 1500, "progress_ms": 60000,
                                                              "drain_ms": 60000})"));
  command job{{"up", spec, "--job", here.job(), "--run-dir", here / "jobs", "--inject",
               "rank=decode.0,action=slow,point=decode.preflight,times=0,ms=2000"}};
  REQUIRE(job.prints("is ready", 60s));
  const auto end = run_troupe(
      {"ask", "--job", here.job(), "--run-dir", here / "jobs", "--image", page.image, "--prompt", page.prompt});
  CAPTURE(end.err);
  CHECK(end.exit_code == 0);
  CHECK(end.out == page.text + "\n");
  CHECK(run_troupe({"down", "--job", here.job(), "--run-dir", here / "jobs"}).exit_code == 0);
}
