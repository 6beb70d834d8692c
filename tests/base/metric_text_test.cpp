#include "runtime/base/metric_text.hpp"

#include <doctest/doctest.h>
#include <stdlib.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <optional>
#include <regex>
#include <set>
#include <string>

#include "protocols/serve/roles.hpp"

using namespace troupe;
using namespace troupe::protocols;
using namespace std::chrono_literals;

namespace {

/// As a front shows it whose ranks have all counted something.
std::vector<metric_family> shown(bool known_too) {
  cluster_spec spec;
  spec.pools = {{"front", serve_role::front},
                {"encode", serve_role::encode, 2},
                {"prefill", serve_role::prefill, 1, 2},
                {"decode", serve_role::decode}};
  const auto plan = make_plan(spec).value();
  cluster_view page{.number = 1, .stage = cluster_stage::ready, .epoch = cache_epoch{1}};
  for (const auto& rank : plan.ranks) {
    rank_view one{.rank = rank.id, .born = generation{1}, .state = life_state::ready, .host = "a\"b\\c\nd"};
    for (const auto& row : metrics_at(plan, rank.id))
      if (row.kind == metric_kind::histogram)
        one.histograms.push_back({row.number, 5, std::vector<std::uint64_t>(row.bounds.size() + 1, 2)});
      else
        one.values.push_back({row.number, row.about_peers ? rank_id{0} : about_nobody, 3});
    page.ranks.push_back(std::move(one));
  }
  view_board board{plan};
  REQUIRE(board.on_view(std::move(page), time_point{0s}));
  return metric_families(board, {.model = "m", .known_too = known_too}, {true, {}}, time_point{1s});
}

std::string text_of(const std::vector<metric_family>& families) {
  auto text = base::metric_text(families);
  REQUIRE_MESSAGE(text, (text ? std::string{} : to_string(text.error())));
  return *std::move(text);
}

std::string read(const std::string& path) {
  std::ifstream in{std::string{TROUPE_SOURCE_DIR} + '/' + path};
  REQUIRE(in);
  return {std::istreambuf_iterator<char>{in}, {}};
}

/// What promtool says; nothing: it is not there.
std::optional<int> promtool(const std::string& arguments) {
  if (::system("command -v promtool >/dev/null 2>&1") != 0)
    return std::nullopt;
  return ::system(("promtool " + arguments + " >&2").c_str());
}

} // namespace

TEST_CASE("J7: metrics are written as Prometheus reads them") {
  const auto text = text_of(shown(true));
  CHECK(text.find("# TYPE troupe_num_requests_running gauge\n") != text.npos);
  CHECK(text.find("\ntroupe_num_requests_running{model_name=\"m\",engine=\"0\",rank=\"0\",label=\"front\",role="
                  "\"front\"} 3\n") != text.npos);
  CHECK(text.find("\nvllm:num_requests_running{model_name=\"m\",engine=\"0\"") != text.npos);
  CHECK(text.find("# TYPE troupe_time_to_first_token_seconds histogram\n") != text.npos);
  CHECK(text.find("role=\"front\",le=\"0.001\"} 2\n") != text.npos);
  CHECK(text.find("role=\"front\",le=\"+Inf\"} 46\n") != text.npos);
  CHECK(text.find("host=\"a\\\"b\\\\c\\nd\"") != text.npos);
}

TEST_CASE("J7: promtool finds nothing wrong with the metrics") {
  // Its style rules ask for no other endings than its own; names under `vllm:` are vLLM's.
  const auto path = std::filesystem::temp_directory_path() / ("troupe-metrics-" + std::to_string(::getpid()));
  std::ofstream{path} << text_of(shown(false));
  const auto said = promtool("check metrics < " + path.string());
  std::filesystem::remove(path);
  if (!said) {
    MESSAGE("skipped: no promtool");
    return;
  }
  CHECK((*said == 0 || *said == 3 << 8)); // 3: readable, with remarks on style
}

TEST_CASE("J7: promtool finds nothing wrong with the alerts") {
  const auto said = promtool("check rules " TROUPE_SOURCE_DIR "/deploy/metrics/alerts.yml");
  if (!said) {
    MESSAGE("skipped: no promtool");
    return;
  }
  CHECK(*said == 0);
}

TEST_CASE("J7: the board and the alerts ask for metrics that there are") {
  std::set<std::string> names;
  for (const auto& family : shown(false)) {
    names.insert(family.name);
    if (family.kind == metric_kind::histogram)
      for (const auto* ending : {"_bucket", "_sum", "_count"})
        names.insert(family.name + ending);
  }
  for (const auto* file : {"deploy/metrics/alerts.yml", "deploy/metrics/board.json"}) {
    const auto text = read(file);
    static const std::regex asked{R"(\btroupe_[a-z0-9_]+)"};
    std::size_t found = 0;
    for (std::sregex_iterator each{text.begin(), text.end(), asked}; each != std::sregex_iterator{}; ++each, ++found)
      CHECK_MESSAGE(names.contains(each->str()), file, ": ", each->str());
    CHECK(found > 5);
  }
}
