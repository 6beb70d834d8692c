#include <doctest/doctest.h>

#include <filesystem>
#include <fstream>
#include <functional>

#include <nlohmann/json.hpp>

#include "tests/cli/golden_pages.hpp"

using namespace troupe::tests;
using nlohmann::json;

namespace {

void change(const std::filesystem::path& file, const std::function<void(json&)>& how) {
  std::ifstream in{file};
  json object = json::parse(in);
  how(object);
  std::ofstream{file} << object;
}

/// A spec of a copy of the reader, which may be changed: a front, two encode cells and a rank each for the others.
std::string spec_of(const scratch_folder& here, const std::filesystem::path& model) {
  std::filesystem::copy(reader_model(), model);
  return here.write("copied.json", R"({"troupe": 1, "name": "copied", "program": "serve", "model": {"path": "model"},
    "pools": {"front": {"role": "front"}, "encode": {"role": "encode", "cells": 2}, "prefill": {"role": "prefill"},
              "decode": {"role": "decode"}}})");
}

json rank_of(const scratch_folder& here, const std::string& label) {
  for (const auto& job : json_lines(run_troupe({"ps", "--json", "--run-dir", here / "jobs"}).out))
    for (const auto& rank : job["ranks"])
      if (rank["label"] == label)
        return rank;
  return {};
}

} // namespace

TEST_CASE(
    "K10: a model folder that would be served otherwise than it says is said in one line, before a rank is started") {
  const scratch_folder here;
  struct harm {
    const char* file;
    const char* pointer;
    json value;
    const char* says;
  };
  const std::string turns =
      "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content | wordwrap }}<|im_end|>\n{% endfor %}";
  const std::vector<harm> all{
      {"tokenizer_config.json", "/chat_template", turns,
       "tokenizer_config.json: chat_template, line 2, column 16: the filter wordwrap; understood are trim"},
      {"tokenizer_config.json", "/add_prefix_space", true, "add_prefix_space is true; valid is false"},
      {"tokenizer.json", "/normalizer", {{"type", "Lowercase"}}, "normalizer.type is \"Lowercase\""},
      {"preprocessor_config.json", "/do_resize", false, "preprocessor_config.json: do_resize is false"},
      {"config.json", "/text_config/rope_scaling", {{"rope_type", "yarn"}}, "valid here: the same as rope_parameters"},
      {"config.json", "/text_config/num_hidden_layers", 7,
       "config.json: text_config.num_hidden_layers is 7, and the weights have 8 layers"},
      {"config.json", "/vision_config/depth", 5,
       "config.json: vision_config.depth is 5, and the weights have 6 layers"},
      {"generation_config.json", "/bad_words_ids", json::array({json::array({7})}),
       "generation_config.json: bad_words_ids is [[7]]"},
  };
  for (const harm& one : all) {
    CAPTURE(one.pointer);
    const std::filesystem::path model{here / "model"};
    std::filesystem::remove_all(model);
    std::filesystem::copy(reader_model(), model);
    change(model / one.file, [&](json& object) { object[json::json_pointer{one.pointer}] = one.value; });
    const auto spec = here.write(
        "other.json", R"({"troupe": 1, "name": "x", "model": {"path": "model"}, "pools": {"one": {"role": "all"}}})");
    command run{{"run", spec, "--prompt", "a", "--job", here.job()}};
    const auto end = run.finish();
    CAPTURE(end.err);
    CHECK(end.exit_code == 3);
    CHECK(lines_in(end.err) == 1);
    CHECK(has(end.err, one.says));
    CHECK(ranks_of(run.pid()).empty());
  }
}

TEST_CASE("K11: a rank that starts anew behind a change of the model's files is refused, and the file is named") {
  const scratch_folder here;
  const std::filesystem::path model{here / "model"};
  const auto spec = spec_of(here, model);
  command job{{"up", spec, "--job", here.job(), "--run-dir", here / "jobs"}};
  REQUIRE(job.prints("is ready", 60s));

  // when: another version is laid over the folder, and an encode cell dies
  change(model / "preprocessor_config.json", [](json& object) { object["image_mean"] = {0.1, 0.2, 0.3}; });
  const json cell = rank_of(here, "encode.0");
  REQUIRE(cell.is_object());
  ::kill(cell["pid"].get<pid_t>(), SIGKILL);

  // then
  const bool refused =
      job.prints("the ranks do not agree on model.files", 60s) && job.prints("preprocessor_config.json", 10s);
  CAPTURE(job.out());
  CAPTURE(job.err());
  CHECK(refused);
}

TEST_CASE("K8: a word that the model has no row for is refused at the front, and no rank leaves for it") {
  const scratch_folder here;
  const std::filesystem::path model{here / "model"};
  const auto spec = spec_of(here, model);
  change(model / "tokenizer.json", [](json& object) {
    object["model"]["vocab"]["zq"] = 320;
    object["model"]["merges"].push_back({"z", "q"});
  });
  command job{{"up", spec, "--job", here.job(), "--run-dir", here / "jobs"}};
  REQUIRE(job.prints("is ready", 60s));
  const auto before = ranks_of(job.pid());

  for (int i = 0; i < 3; ++i) {
    const auto refused = run_troupe(
        {"ask", "--job", here.job(), "--run-dir", here / "jobs", "--prompt", "a zq", "--max-tokens", "2"}, 60s);
    CAPTURE(refused.err);
    CHECK(refused.exit_code != 0);
    CHECK(has(refused.err, "token 320 (\"zq\") is beyond the model's vocabulary of 320"));
  }
  const auto& page = golden_pages().front();
  const auto answered = run_troupe(
      {"ask", "--job", here.job(), "--run-dir", here / "jobs", "--image", page.image, "--prompt", page.prompt}, 60s);
  CHECK(answered.exit_code == 0);
  CHECK(answered.out == page.text + "\n");
  CHECK(ranks_of(job.pid()) == before);
}
