#include <doctest/doctest.h>

#include "protocols/cluster/cluster_plan.hpp"
#include "runtime/base/clock.hpp"
#include "runtime/embed/client.hpp"
#include "tests/cli/golden_pages.hpp"
#include "tests/gpu/cuda_support.hpp"

// One greedy question about several pictures, asked of clusters that do the same work in different ways.

using namespace troupe;
using namespace troupe::tests;

namespace {

struct mode {
  const char* spec; ///< of deploy/specs
  std::vector<std::string> injections;
};

embed::question probe() {
  embed::question asked{.prompt = "What is the difference?", .pictures = {}, .max_tokens = 32, .sampling = {}};
  for (const std::size_t page : {0U, 3U, 7U}) {
    std::ifstream in{golden_pages()[page].image, std::ios::binary};
    const std::string bytes{std::istreambuf_iterator<char>{in}, {}};
    const auto all = std::as_bytes(std::span{bytes});
    asked.pictures.push_back({golden_pages()[page].image, {all.begin(), all.end()}});
  }
  return asked;
}

/// Ids and text, as the front told them.
std::string answer_of(const mode& how, const char* device) {
  const scratch_folder here;
  // Ranks are numbered in the order of pools.
  auto spec = nlohmann::ordered_json::parse(std::ifstream{std::string{TROUPE_SOURCE_DIR "/deploy/specs/"} + how.spec},
                                            nullptr, true, true);
  spec["model"]["path"] = TROUPE_SOURCE_DIR "/deploy/models/reader";
  spec["device"] = device;
  spec["drills"] = true;
  std::vector<std::string> arguments{
      "up", here.write("spec.json", spec.dump()), "--job", here.job(), "--run-dir", here / "jobs"};
  for (const auto& rule : how.injections)
    arguments.insert(arguments.end(), {"--inject", rule});
  command job{arguments};
  REQUIRE_MESSAGE(job.prints("is ready", 90s), job.err());

  auto client = embed::client::connect(here / ("jobs/" + here.job() + "/front.sock"), 0, base::now() + 5s);
  REQUIRE(client);
  REQUIRE(client->ask(probe()));
  std::string said;
  for (bool over = false; !over;) {
    const auto event = client->next_event(base::now() + 30s);
    REQUIRE_MESSAGE(event, event.error().words);
    if (const auto* token = std::get_if<embed::token>(&*event))
      said += std::to_string(token->id) + ' ' + token->text + '\n';
    else if (const auto* end = std::get_if<embed::finished>(&*event); end != nullptr) {
      said += end->text;
      over = true;
    } else if (const auto* no = std::get_if<embed::refused>(&*event))
      FAIL(no->why.words);
  }
  job.signal(SIGINT);
  CHECK(job.finish().in_time);
  return said;
}

void check_all_alike(const std::vector<mode>& modes, const char* device) {
  const auto first = answer_of(modes.front(), device);
  CHECK(std::ranges::count(first, '\n') > 4);
  for (const auto& how : modes) {
    CAPTURE(std::string{how.spec});
    CHECK(answer_of(how, device) == first);
  }
}

} // namespace

TEST_CASE("G12: a greedy question about several pictures is answered with the same bytes however the work is cut") {
  check_all_alike({{"reader-one-rank.json", {}},
                   {"reader-e1p1d1.json", {}},
                   {"reader.json", {}},
                   {"reader-tp2-tp2.json", {}},
                   {"reader-pp2-tp2.json", {}},
                   {"reader-network.json", {}}},
                  "cpu");
}

TEST_CASE("CUDA: a greedy question about several pictures has the same answer captured, not captured and cut (G12)") {
  if (!cuda_or_skip())
    return;
  check_all_alike({{"reader-e1p1d1.json", {}},
                   {"reader-e1p1d1.json", {"rank=decode.0,action=no_capture,point=rank.handshake"}},
                   {"reader-one-rank.json", {}},
                   {"reader-tp2-tp2.json", {}},
                   {"reader-pp2-tp2.json", {}}},
                  "cuda");
}
