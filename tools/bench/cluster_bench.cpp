/// The whole runtime, driven as a user drives it: how long 1 to 64 stub ranks take to be ready and what one costs,
/// idle; and how much slower a page is answered by two encode ranks, a mesh of two and a decode rank than by one rank
/// that does all, run by turns.
///
/// Usage: cluster_bench TROUPE_COMMAND DEPLOY_DIRECTORY [ROUNDS]
#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include <nlohmann/json.hpp>

namespace {

using nlohmann::json;

/// A child whose stdout is read.
class command {
public:
  explicit command(const std::vector<std::string>& words) {
    int ends[2];
    if (::pipe2(ends, O_CLOEXEC) != 0)
      std::exit(1);
    pid_ = ::fork();
    if (pid_ == 0) {
      ::dup2(ends[1], STDOUT_FILENO);
      std::vector<char*> arguments;
      for (const auto& word : words)
        arguments.push_back(const_cast<char*>(word.c_str()));
      arguments.push_back(nullptr);
      ::execv(arguments[0], arguments.data());
      ::_exit(127);
    }
    ::close(ends[1]);
    output_ = ::fdopen(ends[0], "r");
  }
  command(const command&) = delete;
  command& operator=(const command&) = delete;
  ~command() {
    ::kill(pid_, SIGTERM);
    ::waitpid(pid_, nullptr, 0);
    std::fclose(output_);
  }

  json line() {
    char* text = nullptr;
    std::size_t room = 0;
    const auto length = ::getline(&text, &room, output_);
    auto out = length > 0 ? json::parse(text, nullptr, false) : json{};
    std::free(text);
    return out;
  }

private:
  pid_t pid_ = -1;
  std::FILE* output_ = nullptr;
};

/// A number of /proc/PID/status or smaps_rollup, in KiB.
long kibibytes(long pid, const char* file, const std::string& key) {
  std::ifstream in{"/proc/" + std::to_string(pid) + "/" + file};
  for (std::string line; std::getline(in, line);)
    if (line.starts_with(key + ":"))
      return std::atol(line.c_str() + key.size() + 1);
  return 0;
}

double cpu_seconds(long pid) {
  std::ifstream in{"/proc/" + std::to_string(pid) + "/stat"};
  std::string all{std::istreambuf_iterator<char>{in}, {}};
  std::istringstream rest{all.substr(all.rfind(')') + 2)};
  std::string skipped;
  for (int field = 3; field < 14; ++field)
    rest >> skipped;
  double user = 0;
  double system = 0;
  rest >> user >> system;
  return (user + system) / static_cast<double>(::sysconf(_SC_CLK_TCK));
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values.empty() ? 0.0 : values[values.size() / 2];
}

void bench_stubs(const std::string& troupe, int rounds) {
  const auto spec = std::filesystem::temp_directory_path() / ("cluster_bench-" + std::to_string(::getpid()) + ".json");
  constexpr auto idle = std::chrono::seconds{5};
  std::printf("%-12s %10s %12s %12s %12s\n", "stub ranks", "ready ms", "RSS MiB", "private MiB", "idle CPU %");
  for (const int ranks : {1, 4, 16, 64}) {
    std::ofstream{spec} << R"({"troupe": 1, "name": "stub-bench", "pools": {"stub": {"role": "stub", "cells": )"
                        << ranks << "}}}";
    std::vector<double> ready;
    double rss = 0;
    double own = 0;
    double busy = 0;
    for (int round = 0; round < rounds; ++round) {
      command up{{troupe, "up", spec.string(), "--job", "stub-bench-" + std::to_string(::getpid()), "--json"}};
      const auto state = up.line();
      if (!state.contains("launch_ms"))
        std::exit(1);
      ready.push_back(state["launch_ms"].get<double>());
      if (round + 1 < rounds)
        continue;
      double before = 0;
      for (const auto& rank : state["ranks"])
        before += cpu_seconds(rank["pid"].get<long>());
      std::this_thread::sleep_for(idle);
      for (const auto& rank : state["ranks"]) {
        const auto pid = rank["pid"].get<long>();
        busy += cpu_seconds(pid);
        rss += static_cast<double>(kibibytes(pid, "status", "VmRSS")) / 1024;
        own += static_cast<double>(kibibytes(pid, "smaps_rollup", "Private_Dirty")) / 1024;
      }
      busy = (busy - before) * 100 / std::chrono::duration<double>(idle).count();
    }
    std::printf("%-12d %10.1f %12.2f %12.2f %12.3f\n", ranks, median(ready), rss / ranks, own / ranks, busy / ranks);
  }
  std::filesystem::remove(spec);
}

struct page_time {
  std::vector<double> first_token_ms;
  std::vector<double> per_token_ms;
};

void ask_once(const std::string& troupe, const std::string& job, const std::string& page, page_time& times) {
  command ask{{troupe, "ask", "--job", job, "--image", page, "--prompt", "Read the text.", "--json"}};
  const auto answer = ask.line();
  const auto tokens = answer.value("token_ids", json::array()).size();
  if (tokens < 2)
    std::exit(1);
  const auto first = answer["time_to_first_token_ms"].get<double>();
  times.first_token_ms.push_back(first);
  times.per_token_ms.push_back((answer["total_ms"].get<double>() - first) / static_cast<double>(tokens - 1));
}

void bench_reader(const std::string& troupe, const std::filesystem::path& deploy, int rounds) {
  const auto page = (deploy / "pages/golden-06.png").string();
  const auto job = [](const char* name) { return std::string{name} + "-" + std::to_string(::getpid()); };
  command one{
      {troupe, "up", (deploy / "specs/reader-one-rank.json").string(), "--job", job("one"), "--json", "--http", "off"}};
  command many{
      {troupe, "up", (deploy / "specs/reader.json").string(), "--job", job("many"), "--json", "--http", "off"}};
  // The first line says that it is ready.
  (void)one.line();
  (void)many.line(); // likewise
  page_time alone;
  page_time cut;
  for (int round = 0; round < 10 * rounds; ++round) {
    ask_once(troupe, job("one"), page, alone);
    ask_once(troupe, job("many"), page, cut);
  }
  std::printf("\n%-24s %18s %18s\n", "golden-06.png, 47 tokens", "first token ms", "per token ms");
  std::printf("%-24s %18.2f %18.3f\n", "one rank", median(alone.first_token_ms), median(alone.per_token_ms));
  std::printf("%-24s %18.2f %18.3f\n", "E2 P(tp2) D1", median(cut.first_token_ms), median(cut.per_token_ms));
  std::printf("%-24s %18.2f %18.3f\n", "ratio", median(cut.first_token_ms) / median(alone.first_token_ms),
              median(cut.per_token_ms) / median(alone.per_token_ms));
}

} // namespace

int main(int count, char** arguments) {
  if (count < 3) {
    std::fprintf(stderr, "usage: cluster_bench TROUPE_COMMAND DEPLOY_DIRECTORY [ROUNDS]\n");
    return 2;
  }
  const int rounds = count > 3 ? std::atoi(arguments[3]) : 3;
  bench_stubs(arguments[1], rounds);
  bench_reader(arguments[1], arguments[2], rounds);
  return 0;
}
