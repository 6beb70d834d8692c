#include <doctest/doctest.h>

#include <cstring>

#include <nlohmann/json.hpp>

#include "tests/cli/golden_pages.hpp"

// Requests that carry their own fault: they fail by name, and whoever asks beside or after them is answered.

using namespace troupe::tests;

namespace {

constexpr std::string_view meshed = R"({"front": {"role": "front"}, "encode": {"role": "encode", "cells": 2},
                                        "prefill": {"role": "prefill", "tensor_parallel": 2},
                                        "decode": {"role": "decode", "tensor_parallel": 2}})";

/// The reader's model with one weight of its tower that is no number: pictures have rows that are not finite.
std::string spoilt_model(const scratch_folder& here) {
  const auto folder = here / "model";
  std::filesystem::copy(reader_model(), folder);
  const auto file = folder + "/model.safetensors";
  auto bytes = content_of(file);
  std::uint64_t header_bytes = 0;
  std::memcpy(&header_bytes, bytes.data(), sizeof header_bytes);
  const auto header = nlohmann::json::parse(bytes.substr(sizeof header_bytes, header_bytes));
  const auto& weight = header.at("model.visual.merger.linear_fc2.bias");
  REQUIRE(weight.at("dtype") == "BF16");
  const auto at = sizeof header_bytes + header_bytes + weight.at("data_offsets")[0].get<std::uint64_t>();
  bytes.replace(at, 2, "\xc0\x7f");
  std::filesystem::permissions(file, std::filesystem::perms::owner_write, std::filesystem::perm_options::add);
  std::ofstream{file, std::ios::binary} << bytes;
  return folder;
}

std::vector<std::string> ask(const scratch_folder& here, std::vector<std::string> more) {
  std::vector<std::string> arguments{"ask", "--job", here.job(), "--run-dir", here / "jobs", "--json"};
  arguments.insert(arguments.end(), more.begin(), more.end());
  return arguments;
}

/// Of a log: ranks that were started again.
bool restarted(const scratch_folder& here) {
  return has(content_of(here / ("jobs/" + here.job() + "/logs/all.log")), "exit code");
}

} // namespace

TEST_CASE("K8: logits that are not finite fail their request by name, on a mesh, and no rank leaves for it") {
  const scratch_folder here;
  const auto spec =
      here.write("spec.json", R"({"troupe": 1, "name": "spoilt", "program": "serve", "model": {"path": ")" +
                                  spoilt_model(here) + R"("}, "pools": )" + std::string{meshed} + "}");
  command job{{"up", spec, "--job", here.job(), "--run-dir", here / "jobs"}};
  REQUIRE(job.prints("is ready"));
  const auto ranks = ranks_of(job.pid());

  for (int again = 0; again < 3; ++again) { // more often than a rank may be started again
    command text{ask(here, {"--prompt", "What is this?", "--max-tokens", "5"})};
    const auto spoilt = run_troupe(ask(here, {"--prompt", "Read the text.", "--image", golden("golden-00.png")}));
    CAPTURE(spoilt.out);
    CAPTURE(spoilt.err);
    CHECK(spoilt.exit_code == 1);
    CHECK(has(spoilt.out + spoilt.err, "not_finite: the model gave logits that are not finite (token 0 of the answer, "
                                       "rank "));
    const auto beside = text.finish();
    CAPTURE(beside.err);
    CHECK(beside.exit_code == 0);
  }
  CHECK(ranks_of(job.pid()) == ranks);
  CHECK_FALSE(restarted(here));
  job.signal(SIGTERM);
  CHECK(job.finish().exit_code == 0);
}

TEST_CASE("K7, K8: a JPEG of many scans is refused by name, whatever its bytes, and the next question is answered") {
  const scratch_folder here;
  command job{
      {"up", here.write("spec.json", reader_spec(one_rank())), "--job", here.job(), "--run-dir", here / "jobs"}};
  REQUIRE(job.prints("is ready"));
  // a page that claims 8192 x 8192 pixels and has its scan 17 times
  auto bytes = content_of(TROUPE_SOURCE_DIR "/deploy/pages/poster.jpg");
  const auto frame = bytes.find("\xff\xc0");
  const auto scan = bytes.find("\xff\xda");
  REQUIRE(frame != std::string::npos);
  REQUIRE(scan != std::string::npos);
  bytes.replace(frame + 5, 4, std::string_view{"\x20\0\x20\0", 4});
  const auto one = bytes.substr(scan, bytes.size() - 2 - scan);
  for (int i = 0; i < 16; ++i)
    bytes.insert(bytes.size() - 2, one);

  const auto refused = run_troupe(ask(here, {"--prompt", "Read the text.", "--image", here.write("bomb.jpg", bytes)}));

  CAPTURE(refused.err);
  CHECK(refused.exit_code == 5);
  CHECK(has(refused.out + refused.err, "bomb.jpg: 17 scans of 67108864 pixels; at most 16 at that size"));
  const auto& page = golden_pages().front();
  const auto answered = run_troupe(ask(here, {"--prompt", page.prompt, "--image", page.image}));
  CHECK(answered.exit_code == 0);
  CHECK(json_lines(answered.out).at(0).at("token_ids").get<std::vector<int>>() == page.ids);
  job.signal(SIGTERM);
  CHECK(job.finish().exit_code == 0);
}

TEST_CASE("K7: a question whose reading stands still holds up no other") {
  const scratch_folder here;
  const auto spec = here.write("spec.json", reader_spec(one_rank(), R"(, "drills": true, "timeouts": {
      "progress_ms": 600000})"));
  command job{{"up", spec, "--job", here.job(), "--run-dir", here / "jobs"}};
  REQUIRE(job.prints("is ready"));
  REQUIRE(run_troupe(
              {"inject", here.job(), "rank=one,action=wedge,point=front.ingesting,times=1", "--run-dir", here / "jobs"})
              .exit_code == 0);
  const command standing{ask(here, {"--prompt", "What is this?"})};

  // its reader has met the fault, so that nobody else does
  REQUIRE(holds_within(20s, [&] {
    return has(run_troupe({"trace", "--run-dir", here / "jobs", "--job", here.job()}).out,
               "a message of its reader actor, question ");
  }));
  const auto& page = golden_pages().front();
  const auto answered = run_troupe(ask(here, {"--prompt", page.prompt, "--image", page.image}));

  CHECK(answered.exit_code == 0);
  CHECK(json_lines(answered.out).at(0).at("token_ids").get<std::vector<int>>() == page.ids);
}
