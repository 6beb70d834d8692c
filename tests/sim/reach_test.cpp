#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <set>
#include <string>

#include "tests/sim/batch.hpp"
#include "tests/sim/reach.hpp"
#include "tests/sim/schedule.hpp"
#include "tests/sim/sequence.hpp"
#include "tests/sim/tables.hpp"

namespace {

using namespace troupe::sim;

constexpr std::uint64_t fixed_schedules = 1500;

std::string text_of(const std::string& file) {
  std::ifstream in{TROUPE_SOURCE_DIR "/" + file};
  return {std::istreambuf_iterator<char>{in}, {}};
}

/// Of the list; "link_machine: *" and "rank_life_machine: * -> refused" stand for all of that form.
std::vector<std::string> items_of(const std::string& listed) {
  const auto star = listed.find('*');
  const auto begin = listed.substr(0, star);
  const auto end = star == listed.npos ? std::string{} : listed.substr(star + 1);
  std::vector<std::string> out;
  std::ranges::copy_if(reachable(), std::back_inserter(out), [&](const std::string& one) {
    return star == listed.npos
               ? one == listed
               : one.size() >= begin.size() + end.size() && one.starts_with(begin) && one.ends_with(end);
  });
  return out;
}

/// What is not reached stands in `unreached.json` with the reason, and nothing else does. `rare`: the fixed schedules
/// may reach it or not, and a night's run says more (`troupe sim --reach`).
void check_reach(const std::vector<std::uint64_t>& counts) {
  std::set<std::string> never;
  std::set<std::string> rare;
  for (const auto& group : nlohmann::json::parse(text_of("tests/sim/unreached.json"))) {
    CHECK(group.at("why").get<std::string>().size() > 10);
    for (const std::string listed : group.at("what")) {
      const auto items = items_of(listed);
      (group.value("rare", false) ? rare : never).insert(items.begin(), items.end());
      if (items.empty())
        FAIL_CHECK("unreached.json lists what does not exist: " << listed);
    }
  }
  for (std::size_t place = 0; place < counts.size(); ++place) {
    const auto& item = reachable()[place];
    if (counts[place] == 0 && !never.contains(item) && !rare.contains(item))
      FAIL_CHECK("not reached, and unreached.json does not say why: " << item);
    if (counts[place] > 0 && never.contains(item))
      FAIL_CHECK("reached, and unreached.json says that it is not: " << item);
  }
}

} // namespace

TEST_CASE("K1 K3 K7 K14: a fixed set of schedules breaks no check and reaches all that is not listed") {
  const auto all = run_batch({.each = {.seed = 1}, .schedules = fixed_schedules, .lasts = {}, .workers = 2},
                             [](const batch_totals&) {});
  for (const auto& failed : all.failures)
    FAIL_CHECK("seed " << failed.seed << " breaks '" << failed.check << "': " << failed.breach << "; troupe sim --seed "
                       << failed.seed << " --trace");
  CHECK(all.schedules == fixed_schedules);
  CHECK(all.answered > fixed_schedules);
  MESSAGE(words_of(sum_reach(all.reach)));
  check_reach(all.reach);
}

TEST_CASE("protocols/README.md prints the tables of the machines and the messages of one request as they are") {
  const auto readme = text_of("protocols/README.md");
  const auto tables = "```\n" + describe_tables() + "```\n";
  const auto request = "```\n" + describe_request() + "```\n";
  INFO("what `troupe sim --tables` prints now:\n", tables, request);
  CHECK(readme.find(tables) != std::string::npos);
  CHECK(readme.find(request) != std::string::npos);
}

TEST_CASE("The same seed gives the same history with every compiler, in debug and release") {
  std::string now;
  for (std::uint64_t seed = 1; seed <= 24; ++seed) {
    std::array<char, 64> line{};
    std::snprintf(line.data(), line.size(), "%llu %016llx\n", static_cast<unsigned long long>(seed),
                  static_cast<unsigned long long>(run_schedule({.seed = seed}).hash));
    now += line.data();
  }
  INFO("the histories now, for tests/sim/histories.txt where a change of the machines or of what is drawn is meant:\n",
       now);
  CHECK_MESSAGE(text_of("tests/sim/histories.txt") == now, "a history differs");
}

TEST_CASE("Another course of a seed is another history, and the same one each time") {
  const schedule_options one{.seed = 5, .course = 77};
  CHECK(run_schedule(one).hash == run_schedule(one).hash);
  CHECK(run_schedule(one).hash != run_schedule({.seed = 5}).hash);
  CHECK(describe_schedule(one) == describe_schedule({.seed = 5}));
}

TEST_CASE("A corpus goes on where the night before ended, and keeps what reaches something") {
  const std::filesystem::path folder{TROUPE_BINARY_DIR "/corpus_of_test"};
  std::filesystem::remove_all(folder);
  const schedule_options each{.seed = 1};
  const auto night = [&](std::uint64_t schedules) {
    auto kept = corpus::open(folder, each);
    REQUIRE(kept);
    const auto before = kept->kept().size();
    auto first = each;
    first.seed = kept->next_seed();
    const auto all = run_batch({.each = first, .schedules = schedules, .lasts = {}, .workers = 2, .from = &*kept},
                               [](const batch_totals&) {});
    REQUIRE(kept->save(all.kept, first.seed + all.fresh));
    return std::pair{before, sum_reach(all.reach)};
  };
  const auto [none, first_reach] = night(60);
  const auto kept = corpus::open(folder, each)->kept().size();
  const auto next = corpus::open(folder, each)->next_seed();
  CHECK(none == 0);
  CHECK(kept > 5);
  CHECK(kept < 60);
  CHECK(next > 1);
  const auto [before, second_reach] = night(kept + 20);
  CHECK(before == kept);
  CHECK(corpus::open(folder, each)->next_seed() == next + 10);
  for (std::size_t kind = 0; kind < first_reach.size(); ++kind)
    CHECK(second_reach[kind].reached >= first_reach[kind].reached);
  CHECK(corpus::open(folder, {.seed = 1, .ranks_max = 5}).error().code == troupe::protocols::fault::config_invalid);
  std::filesystem::remove_all(folder);
}
