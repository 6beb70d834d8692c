#include <doctest/doctest.h>

#include "tests/cli/golden_pages.hpp"

using namespace troupe::tests;

namespace {

constexpr const char* built = TROUPE_BINARY_DIR;

/// The command and its plug-ins, as an installation of their own that may be changed.
std::string install(const scratch_folder& here) {
  const std::filesystem::path to = here / "bin";
  std::filesystem::create_directory(to);
  for (const auto* file : {"troupe", "libtroupe_cpu.so"})
    std::filesystem::copy_file(std::filesystem::path{built} / file, to / file);
  return to;
}

/// As an installer does it: written beside, moved over.
void replace(const std::filesystem::path& file, std::string_view tail) {
  auto fresh = file;
  fresh += ".new";
  if (tail.empty())
    std::ofstream{fresh} << "no program at all";
  else {
    std::filesystem::copy_file(file, fresh);
    std::ofstream{fresh, std::ios::app | std::ios::binary} << tail;
  }
  std::filesystem::rename(fresh, file);
}

} // namespace

TEST_CASE(
    "K18: another build is moved over the command and its plug-ins while a job runs: it restarts what it began with") {
  const scratch_folder here;
  const auto bin = install(here);
  const auto spec = here.write("reader.json", reader_spec(R"({"front": {"role": "front"}, "encode": {"role": "encode"},
                                                              "prefill": {"role": "prefill"}, "decode": {"role": "decode"}})"));
  command job{{"up", spec, "--job", here.job(), "--run-dir", here / "jobs"}, {}, RLIM_INFINITY, bin + "/troupe"};
  REQUIRE(job.prints("is ready", 60s));
  replace(bin + "/troupe", "a later build");
  replace(bin + "/libtroupe_cpu.so", "");

  const auto status = nlohmann::json::parse(std::ifstream{here / "jobs" + "/" + here.job() + "/status.json"});
  for (const auto& rank : status.at("ranks"))
    if (rank.at("label") == "decode.0")
      ::kill(rank.at("pid").get<pid_t>(), SIGKILL);
  CHECK(job.prints("ready again after", 60s));

  const auto& page = golden_pages().front();
  const auto answer = run_troupe(
      {"ask", "--job", here.job(), "--run-dir", here / "jobs", "--image", page.image, "--prompt", page.prompt}, 60s);
  CAPTURE(answer.err);
  CHECK(answer.out == page.text + "\n");
  job.signal(SIGTERM);
  const auto end = job.finish(60s);
  CAPTURE(end.err);
  CHECK(end.exit_code == 0);
}
