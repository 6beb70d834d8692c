#include <doctest/doctest.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "runtime/base/exit_code.hpp"
#include "tests/cli/golden_pages.hpp"
#include "tests/gpu/cuda_support.hpp"

// The shipped clusters with GPUs in place of CPUs, through the front door. With fewer GPUs than ranks they share.

using namespace troupe;
using namespace troupe::tests;

namespace {

/// A shipped spec on GPUs, written where the test may. `bulk`: the lane of what ranks write for each other.
std::string on_gpus(const scratch_folder& here, const std::string& name, const std::string& dtype,
                    const std::string& bulk = "auto") {
  auto spec = nlohmann::json::parse(std::ifstream{TROUPE_SOURCE_DIR "/deploy/" + name}, nullptr, true, true);
  spec["device"] = "cuda";
  spec["lanes"]["bulk"] = bulk;
  spec["model"]["path"] = TROUPE_SOURCE_DIR "/deploy/models/reader";
  spec["model"]["dtype"] = dtype;
  return here.write(std::filesystem::path{name}.filename().string(), spec.dump());
}

std::vector<nlohmann::json> read_golden_pages(const std::string& name, const std::string& dtype,
                                              const std::string& bulk = "auto") {
  const scratch_folder here;
  const auto end = run_troupe({"run", on_gpus(here, "specs/" + name, dtype, bulk), "--job", here.job(), "--run-dir",
                               here / "jobs", "--pages", golden_list(here), "--json"},
                              90s);
  CAPTURE(name);
  CAPTURE(end.err);
  CHECK(end.exit_code == 0);
  return json_lines(end.out);
}

/// Every golden page was read, with the ids of the independent implementation.
void check_golden(const std::vector<nlohmann::json>& answers) {
  CHECK(answers.size() == golden_pages().size());
  for (const auto& answer : answers)
    for (const auto& page : golden_pages())
      if (answer["image"] == page.image)
        CHECK(answer["token_ids"] == nlohmann::json(page.ids));
}

constexpr const char* layouts[]{"reader-one-rank.json", "reader-e1p1d1.json",  "reader.json",
                                "reader-tp2-tp2.json",  "reader-pp2-tp2.json", "reader-tp4-tp2.json"};

} // namespace

TEST_CASE("CUDA: clusters on GPUs read the golden pages with the ids of the independent implementation, in f32") {
  if (!cuda_or_skip())
    return;
  for (const auto* name : layouts)
    check_golden(read_golden_pages(name, "f32"));
}

TEST_CASE("CUDA: I31, J18: what GPUs hand over by libfabric, by way of the host's memory, gives the same ids") {
  if (!cuda_or_skip())
    return;
  for (const auto* name : {"reader-network.json", "reader-one-rank.json", "reader-e1p1d1.json", "reader-tp2-tp2.json",
                           "reader-pp2-tp2.json"})
    check_golden(read_golden_pages(name, "f32", "fabric"));
}

TEST_CASE("CUDA: C18: GPU ranks that write by libfabric lose a prefill rank, or news of a write, and go on") {
  if (!cuda_or_skip())
    return;
  const scratch_folder here;
  const auto spec = on_gpus(here, "drills/cuda/cluster.json", "f32", "fabric");
  for (const auto* name : {"prefill-worker-killed.json", "write-repeated.json", "completion-lost.json"}) {
    const auto end =
        run_troupe({"drill", TROUPE_SOURCE_DIR "/deploy/drills/" + std::string{name}, "--spec", spec, "--json"}, 120s);
    CAPTURE(name);
    CAPTURE(end.out);
    CAPTURE(end.err);
    CHECK(end.exit_code == 0);
  }
}

TEST_CASE("CUDA: clusters on GPUs read the golden pages in bf16, each beginning as in f32") {
  if (!cuda_or_skip())
    return;
  for (const auto* name : {"reader.json", "reader-pp2-tp2.json"}) {
    const auto answers = read_golden_pages(name, "bf16");
    CHECK(answers.size() == golden_pages().size());
    for (const auto& answer : answers)
      for (const auto& page : golden_pages())
        if (answer["image"] == page.image)
          CHECK(answer["token_ids"][0] == page.ids.front());
  }
}

TEST_CASE("CUDA: GPUs that do not reach each other's memory are served by way of the host, with the same ids") {
  if (!cuda_or_skip())
    return;
  ::setenv("NCCL_P2P_DISABLE", "1", 1);
  const auto answers = read_golden_pages("reader-tp2-tp2.json", "f32");
  ::unsetenv("NCCL_P2P_DISABLE");
  check_golden(answers);
}

TEST_CASE("CUDA: too little device memory is said before anything is loaded, with the sum") {
  if (!cuda_or_skip())
    return;
  const scratch_folder here;
  auto spec = nlohmann::json::parse(std::ifstream{on_gpus(here, "specs/reader-one-rank.json", "f32")});
  spec["limits"]["kv_tokens_max"] = 1u << 30;
  const auto end = run_troupe({"run", here.write("large.json", spec.dump()), "--job", here.job(), "--run-dir",
                               here / "jobs", "--prompt", "What is this?"},
                              60s);
  CAPTURE(end.err);
  CHECK(end.exit_code == static_cast<int>(base::exit_code::config));
  CHECK(std::ranges::count(end.err, '\n') == 1);
  for (const auto* words : {"cuda:0 has ", " GiB free of ", "weights (prefill) ", "kv.prefill 8192.0", "kv.decode"})
    CHECK(has(end.err, words));
}

TEST_CASE("CUDA: a GPU that is not there ends the start with one line that says which are") {
  const scratch_folder here;
  auto spec = nlohmann::json::parse(std::ifstream{on_gpus(here, "specs/reader-one-rank.json", "f32")});
  spec["device"] = "cuda:64";
  const auto end = run_troupe({"run", here.write("far.json", spec.dump()), "--job", here.job(), "--run-dir",
                               here / "jobs", "--prompt", "What is this?"},
                              60s);
  CAPTURE(end.err);
  CHECK(end.exit_code == static_cast<int>(base::exit_code::config));
  CHECK(std::ranges::count(end.err, '\n') == 1);
  CHECK((has(end.err, "device cuda:64") || has(end.err, "libtroupe_cuda.so: not there")));
}

TEST_CASE("CUDA: C7, C18: a rank whose peer is struck in a captured step or a sum ends with its process, and the cell "
          "comes back") {
  if (!cuda_or_skip())
    return;
  const std::string folder = TROUPE_SOURCE_DIR "/deploy/drills/";
  for (const auto* name : {"prefill-worker-killed.json", "cuda/device-hangs.json", "cuda/device-broken.json"}) {
    const auto end = run_troupe({"drill", folder + name, "--spec", folder + "cuda/cluster.json", "--json"}, 120s);
    CAPTURE(name);
    CAPTURE(end.out);
    CAPTURE(end.err);
    CHECK(end.exit_code == 0);
  }
}
