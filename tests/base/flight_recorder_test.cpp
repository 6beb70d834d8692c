#include "runtime/base/flight_recorder.hpp"

#include <doctest/doctest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <fstream>
#include <map>
#include <random>
#include <thread>

#include "protocols/mesh/collective_kind.hpp"
#include "protocols/serve/flight_names.hpp"
#include "runtime/base/clock.hpp"
#include "runtime/base/flight_files.hpp"

using namespace troupe;
using namespace troupe::protocols;
using base::flight_recorder;
using base::flight_span;

namespace {

class flight_folder {
public:
  flight_folder() {
    std::string name = (std::filesystem::temp_directory_path() / "troupe-flight-XXXXXX").string();
    REQUIRE(::mkdtemp(name.data()) != nullptr);
    path_ = name;
  }
  ~flight_folder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  flight_folder(const flight_folder&) = delete;
  flight_folder& operator=(const flight_folder&) = delete;
  const std::filesystem::path& path() const { return path_; }
  std::filesystem::path file() const { return base::flight_file(path_, rank_id{2}, generation{1}); }

private:
  std::filesystem::path path_;
};

flight_recorder::identity somebody() {
  return {.rank = rank_id{2},
          .born = generation{1},
          .label = "prefill.0/t1",
          .groups = {{group_id{4}, "prefill.0"}, {group_id{5}, "prefill.0.stage1"}}};
}

flight_record sum(std::uint32_t number, call_id call = call_id{17}) {
  return {.call = call,
          .amount = 64,
          .number = number,
          .group = group_id{4},
          .operation = static_cast<std::uint16_t>(collective_kind::all_reduce_sum),
          .action = flight_action::collective,
          .phase = serve_phase::prefill};
}

flight_story story_of(const std::filesystem::path& file) {
  auto story = base::read_flight_file(file);
  REQUIRE_MESSAGE(story, to_string(story.error()));
  return *std::move(story);
}

} // namespace

TEST_CASE("C8: what a rank notes stands in its file with who, when and what") {
  const flight_folder folder;
  flight_recorder recorder;
  const auto before = base::now().time_since_epoch().count();
  REQUIRE(recorder.open(folder.file(), somebody()));
  {
    flight_span inside{sum(3), recorder};
    recorder.note({.item = 9, .amount = 4096, .peer = client_rank, .action = flight_action::transfer});
  }
  recorder.reached(life_state::ready);

  const auto story = story_of(folder.file());
  CHECK(story.rank == rank_id{2});
  CHECK(story.born == generation{1});
  CHECK(story.label == "prefill.0/t1");
  std::array<char, 256> host{};
  REQUIRE(::gethostname(host.data(), host.size() - 1) == 0);
  CHECK(story.host == std::string_view{host.data()}.substr(0, 63));
  CHECK(story.pid == static_cast<std::uint64_t>(::getpid()));
  CHECK(story.life == life_state::ready);
  CHECK(story.groups ==
        std::vector<flight_story::group>{{group_id{4}, "prefill.0", 3}, {group_id{5}, "prefill.0.stage1", 0}});
  REQUIRE(story.records.size() == 4);
  CHECK(story.lost == 0);
  auto begun = story.records[0];
  CHECK(begun.time_ns >= before);
  CHECK(begun.time_ns <= base::now().time_since_epoch().count());
  begun.time_ns = 0;
  auto expected = sum(3);
  expected.moment = flight_moment::begin;
  CHECK(begun == expected);
  CHECK(story.records[1].peer == client_rank);
  CHECK(story.records[1].group == no_group);
  CHECK(story.records[2].moment == flight_moment::end);
  CHECK(story.records[3].operation == static_cast<std::uint16_t>(life_state::ready));
}

TEST_CASE("A recorder that is not open takes everything and does nothing") {
  flight_recorder recorder;
  recorder.note(sum(1));
  recorder.beat();
  recorder.tick();
  recorder.reached(life_state::warm);
  recorder.note_fault({fault::peer_gone, "rank 1"}, "edge");
  const flight_span inside{sum(1), recorder};
  CHECK(recorder.live().threads_count == 0);
}

TEST_CASE("C8: the ring keeps the newest records and counts those it wrote over") {
  const flight_folder folder;
  flight_recorder recorder;
  REQUIRE(recorder.open(folder.file(), somebody(), 64));
  for (std::uint64_t i = 0; i < 1000; ++i)
    recorder.note({.item = i, .action = flight_action::arrived});

  const auto story = story_of(folder.file());
  REQUIRE(story.records.size() == 64);
  CHECK(story.lost == 1000 - 64);
  for (std::size_t i = 0; i < 64; ++i)
    CHECK(story.records[i].item == 1000 - 64 + i);
}

TEST_CASE("J1: spans nest, and what a thread is in shows while it is in it") {
  const flight_folder folder;
  flight_recorder recorder;
  REQUIRE(recorder.open(folder.file(), somebody()));
  const auto now_in = [&] {
    const auto live = recorder.live();
    REQUIRE(live.threads_count == 1);
    return live.threads[0].what.action;
  };
  {
    flight_span step{{.call = call_id{17}, .action = flight_action::step, .phase = serve_phase::prefill}, recorder};
    CHECK(now_in() == flight_action::step);
    {
      flight_span inside{sum(1), recorder};
      CHECK(now_in() == flight_action::collective);
      CHECK(recorder.live().threads[0].what.group == group_id{4});
    }
    CHECK(now_in() == flight_action::step);
    CHECK(recorder.live().progress() == 1);
  }
  CHECK(now_in() == flight_action::none);
  recorder.tick();
  CHECK(recorder.live().progress() == 3);
}

TEST_CASE("J1: a span that ends by a fault stays what its thread was in until the thread begins another") {
  const flight_folder folder;
  flight_recorder recorder;
  REQUIRE(recorder.open(folder.file(), somebody()));
  const auto broken = [&]() -> result<void> {
    flight_span step{{.call = call_id{17}, .action = flight_action::step}, recorder};
    flight_span inside{sum(5), recorder};
    return step.ends(inside.ends(result<void>{fail(fault::peer_gone)}));
  };
  REQUIRE_FALSE(broken());
  recorder.note_fault({fault::peer_gone, "rank 1\nhas left"}, "prefill");

  const auto story = story_of(folder.file());
  REQUIRE(story.activities.size() == 1);
  const auto& last = story.activities[0];
  CHECK(last.what.action == flight_action::collective);
  CHECK(last.what.number == 5);
  CHECK(last.what.outcome == static_cast<std::uint16_t>(fault::peer_gone));
  CHECK(last.until_ns >= last.what.time_ns);
  CHECK(last.progress == 0);
  CHECK(story.words == "prefill: peer_gone (rank 1 has left)");
  CHECK(story.records.back().action == flight_action::fault);

  { const flight_span next{sum(6), recorder}; }
  CHECK(recorder.live().threads[0].what.action == flight_action::none);
}

TEST_CASE("C8: records of a process that was killed while it wrote are readable") {
  const flight_folder folder;
  const pid_t child = ::fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    flight_recorder recorder;
    if (!recorder.open(folder.file(), somebody(), 256))
      ::_exit(1);
    const flight_span inside{sum(1), recorder};
    for (std::uint64_t i = 0;; ++i) // until it is killed
      recorder.note({.item = i, .amount = ~i, .action = flight_action::arrived});
  }
  const auto view = [&] {
    const auto deadline = base::now() + std::chrono::seconds{20};
    for (;;) {
      if (auto opened = base::flight_view::open(folder.file()); opened && opened->live().threads_count == 1)
        return *std::move(opened);
      REQUIRE(base::now() < deadline);
      std::this_thread::yield();
    }
  }();
  for (int i = 0; i < 200; ++i) // while it writes: what is there is whole
    for (const auto& record : story_of(folder.file()).records)
      if (record.action == flight_action::arrived)
        REQUIRE(record.amount == ~record.item);
  ::kill(child, SIGKILL);
  REQUIRE(::waitpid(child, nullptr, 0) == child);

  const auto story = story_of(folder.file());
  CHECK(story.records.size() >= 255); // all but the one that it was writing
  CHECK(std::ranges::is_sorted(story.records, {}, &flight_record::time_ns));
  CHECK(story.activities.at(0).what.action == flight_action::collective);
  CHECK(view.live().threads[0].what.action == flight_action::collective);
}

TEST_CASE("C8: many threads write at once, and every record is whole") {
  const flight_folder folder;
  flight_recorder recorder;
  constexpr std::uint64_t each = 20'000;
  constexpr std::uint64_t writers = 8;
  REQUIRE(recorder.open(folder.file(), somebody(), 1024));
  std::vector<std::thread> threads;
  for (std::uint64_t who = 0; who < writers; ++who)
    threads.emplace_back([&, who] {
      for (std::uint64_t i = 0; i < each; ++i) {
        const flight_span inside{
            {.call = call_id{who}, .item = i, .amount = who << 32 ^ ~i, .action = flight_action::step}, recorder};
      }
    });
  for (auto& thread : threads)
    thread.join();

  const auto story = story_of(folder.file());
  CHECK(story.records.size() + story.lost == 2 * each * writers);
  CHECK(story.records.size() > 512);
  std::map<std::uint64_t, std::uint64_t> newest;
  for (const auto& record : story.records) {
    REQUIRE(record.amount == (record.call.value << 32 ^ ~record.item));
    CHECK(record.item >= newest[record.call.value]);
    newest[record.call.value] = record.item;
  }
  CHECK(story.activities.size() == writers);
  CHECK(recorder.live().progress() == each * writers);
}

TEST_CASE("C4: the live state shows beat and progress, from inside and through the file") {
  const flight_folder folder;
  flight_recorder recorder;
  REQUIRE(recorder.open(folder.file(), somebody()));
  const auto view = base::flight_view::open(folder.file());
  REQUIRE(view);
  CHECK(view->live().pulse_ns == 0);
  recorder.beat();
  recorder.tick();
  recorder.reached(life_state::warm);
  const auto live = view->live();
  CHECK(live.pulse_ns > 0);
  CHECK(live.pulse_ns == recorder.live().pulse_ns);
  CHECK(live.progress() == 1);
  CHECK(live.life == life_state::warm);
}

TEST_CASE("C8: of each rank the newest few records stay, however far apart their generations are") {
  const flight_folder folder;
  // One counter numbers the generations of a whole job, so those of one rank have gaps; 100 is not before 9.
  for (const std::uint32_t born : {1u, 9u, 30u, 31u, 100u})
    std::ofstream{base::flight_file(folder.path(), rank_id{2}, generation{born})} << "old";
  std::ofstream{base::flight_file(folder.path(), rank_id{3}, generation{2})} << "another rank";
  std::ofstream{base::flight_file(folder.path(), rank_id{22}, generation{1})} << "another rank";
  std::ofstream{folder.path() / "r2.gx.ring"} << "nobody's";
  auto who = somebody();
  who.born = generation{207};
  REQUIRE(base::open_flight(folder.path(), who)); // the process's own recorder stays open until it ends
  CHECK(base::flight().is_open());
  static_assert(protocols::flight_generations_kept == 4);
  for (const std::uint32_t born : {1u, 9u})
    CHECK_FALSE(std::filesystem::exists(base::flight_file(folder.path(), rank_id{2}, generation{born})));
  for (const std::uint32_t born : {30u, 31u, 100u, 207u})
    CHECK(std::filesystem::exists(base::flight_file(folder.path(), rank_id{2}, generation{born})));
  CHECK(std::filesystem::exists(base::flight_file(folder.path(), rank_id{3}, generation{2})));
  CHECK(std::filesystem::exists(base::flight_file(folder.path(), rank_id{22}, generation{1})));

  std::vector<std::string> problems;
  const auto stories = base::read_flights(folder.path(), problems);
  REQUIRE(stories);
  CHECK(stories->size() == 1);
  CHECK(problems.size() == 6);
  CHECK_FALSE(base::read_flights(folder.path() / "none", problems));
}

TEST_CASE("K6: a record that is cut while it is written and watched costs records, and ends nobody") {
  const flight_folder folder;
  flight_recorder recorder;
  REQUIRE(recorder.open(folder.file(), somebody(), 64));
  const auto view = base::flight_view::open(folder.file());
  REQUIRE(view);
  recorder.beat();
  CHECK(view->live().pulse_ns > 0);
  std::filesystem::resize_file(folder.file(), 0);
  for (std::uint32_t i = 0; i < 200; ++i) {
    const flight_span span{sum(i), recorder};
    recorder.note(sum(i));
    recorder.beat();
    recorder.tick();
  }
  recorder.say("words");
  recorder.reached(life_state::ready);
  CHECK(view->live().pulse_ns == 0);
  CHECK_FALSE(base::read_flight_file(folder.file()));
}

TEST_CASE(
    "K6: whatever others write over a record, its writer writes within it, and readers refuse it or understand it") {
  const flight_folder folder;
  flight_recorder recorder;
  REQUIRE(recorder.open(folder.file(), somebody(), 64));
  const auto view = base::flight_view::open(folder.file());
  REQUIRE(view);
  const auto bytes = std::filesystem::file_size(folder.file());
  for (std::uint32_t seed = 1; seed <= 200; ++seed) {
    CAPTURE(seed);
    std::mt19937 random{seed};
    std::fstream file{folder.file(), std::ios::in | std::ios::out | std::ios::binary};
    for (int i = 0; i < 64; ++i) {
      file.seekp(static_cast<std::streamoff>(random() % (seed % 2 == 0 ? sizeof(flight_header) : bytes)));
      file.put(static_cast<char>(random()));
    }
    file.close();
    {
      const flight_span span{sum(seed), recorder};
      recorder.note(sum(seed));
      recorder.say("words");
      recorder.complain_of(rank_id{3}, generation{1});
      recorder.beat();
    }
    CHECK(view->live().threads_count <= flight_threads_max);
    (void)base::read_flight_file(folder.file());
  }
}

TEST_CASE("C43: a complaint is counted, and says which peer and which generation of it is silent") {
  complaint_word said;
  CHECK(said.count() == 0);
  for (const std::uint32_t born : {1u, 1u, 0xffff'fffeu}) {
    const auto before = said.count();
    said = said.next(rank_id{0xfffe}, generation{born});
    CHECK(said.count() == before + 1);
    CHECK(said.peer() == rank_id{0xfffe});
    CHECK(said.born() == generation{born});
  }
  said.bits |= std::uint64_t{0xffff} << 48;
  CHECK(said.next(rank_id{3}, generation{2}).count() == 1); // 0 would be no complaint
}

TEST_CASE("A file that cannot be made or mapped is said with its name") {
  flight_recorder recorder;
  const auto opened = recorder.open("/proc/troupe/r0.g1.ring", somebody());
  REQUIRE_FALSE(opened);
  CHECK(opened.error().code == fault::config_invalid);
  CHECK(opened.error().what.find("/proc/troupe/r0.g1.ring") != std::string::npos);
  CHECK_FALSE(base::flight_view::open("/proc/self/status"));
  CHECK_FALSE(base::read_flight_file("/proc/self"));
}
