#include <doctest/doctest.h>

#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <termios.h>

#include <functional>
#include <optional>

#include "tests/cli/golden_pages.hpp"

using namespace troupe::tests;

namespace {

using troupe::base::unique_fd;

/// A cell of each role, the prefill cell of two ranks.
std::string reader(const scratch_folder& here) {
  return here.write("reader.json", reader_spec(R"({"front": {"role": "front"}, "encode": {"role": "encode"},
                                                   "prefill": {"role": "prefill", "tensor_parallel": 2},
                                                   "decode": {"role": "decode"}})",
                                               R"(, "restart": {"intensity": 1000})"));
}

/// The command with descriptors and limits of a case's own; `prepare` runs in the child before it becomes the command.
class prepared_command {
public:
  prepared_command(std::vector<std::string> arguments, const std::function<void()>& prepare) {
    arguments.insert(arguments.begin(), TROUPE_BINARY_DIR "/troupe");
    std::vector<char*> argv;
    for (auto& argument : arguments)
      argv.push_back(argument.data());
    argv.push_back(nullptr);
    pid_ = ::fork();
    if (pid_ == 0) {
      ::setsid();
      prepare();
      ::execv(argv[0], argv.data());
      ::_exit(127);
    }
  }
  prepared_command(const prepared_command&) = delete;
  prepared_command& operator=(const prepared_command&) = delete;
  ~prepared_command() {
    if (!status_) {
      ::kill(pid_, SIGKILL);
      ::waitpid(pid_, nullptr, 0);
    }
  }

  pid_t pid() const noexcept { return pid_; }
  bool has_ended() {
    int status = 0;
    if (!status_ && ::waitpid(pid_, &status, WNOHANG) == pid_)
      status_ = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    return status_.has_value();
  }
  /// 128 + signal when a signal ended it, -1 when it goes on.
  int exit_code(std::chrono::milliseconds within = 60s) {
    return holds_within(within, [this] { return has_ended(); }) ? *status_ : -1;
  }

private:
  pid_t pid_ = -1;
  std::optional<int> status_;
};

void becomes(int from, int fd) {
  ::dup2(from, fd);
}
void open_as(const char* path, int fd) {
  becomes(::open(path, O_WRONLY), fd);
}

/// A job's status.json; nothing while there is none.
nlohmann::json status_in(const std::string& directory) {
  auto status = nlohmann::json::parse(content_of(directory + "/status.json"), nullptr, false);
  return status.is_object() ? status : nlohmann::json{};
}

/// The rank's process once the whole job serves and the rank is of this generation or a later one.
std::optional<pid_t> serving(const std::string& directory, const std::string& label, int generation) {
  const auto status = status_in(directory);
  std::optional<pid_t> found;
  if (!status.is_object() || status["state"] != "ready")
    return found;
  for (const auto& rank : status["ranks"]) {
    if (rank["state"] != "ready")
      return std::nullopt;
    if (rank["label"] == label && rank["generation"] >= generation)
      found = rank["pid"].get<pid_t>();
  }
  return found;
}

/// An up whose outputs take nothing brings back a rank that is killed, answers, and ends when it is told to.
void check_serves(const scratch_folder& here, const std::function<void()>& prepare) {
  const auto directory = here / "jobs/" + here.job();
  prepared_command job{{"up", reader(here), "--job", here.job(), "--run-dir", here / "jobs"}, prepare};
  const auto comes = [&](int generation) {
    return holds_within(60s, [&] { return job.has_ended() || serving(directory, "encode.0", generation); }) &&
           !job.has_ended();
  };
  REQUIRE(comes(1));
  for (int generation = 1; generation <= 3; ++generation) { // each is told of in lines
    ::kill(*serving(directory, "encode.0", generation), SIGKILL);
    REQUIRE(comes(generation + 1));
  }
  const auto& page = golden_pages().front();
  const auto asked = run_troupe({"ask", "--run-dir", here / "jobs", "--image", page.image, "--prompt", page.prompt});
  CAPTURE(asked.err);
  CHECK(asked.out == page.text + "\n");

  const auto supervisor = nlohmann::json::parse(content_of(directory + "/job.json"))["supervisor_pid"].get<pid_t>();
  ::kill(supervisor, SIGTERM);
  CHECK(job.exit_code() == 0);
  CHECK(has(content_of(directory + "/logs/all.log"), "encode.0 ready again after"));
}

} // namespace

TEST_CASE("K6: a supervisor whose outputs block, fill, vanish or were never there brings ranks back, serves and ends") {
  const scratch_folder here;
  SUBCASE("a pipe that nobody reads, which is full") {
    int ends[2];
    REQUIRE(::pipe2(ends, O_CLOEXEC | O_NONBLOCK) == 0);
    const unique_fd read{ends[0]};
    const unique_fd write{ends[1]};
    const std::string filling(4096, 'x');
    while (::write(write.get(), filling.data(), filling.size()) > 0) {
    }
    ::fcntl(write.get(), F_SETFL, 0); // as a shell makes it
    check_serves(here, [&] { becomes(write.get(), 1), becomes(write.get(), 2); });
  }
  SUBCASE("a pipe whose reader has left") {
    int ends[2];
    REQUIRE(::pipe2(ends, O_CLOEXEC) == 0);
    ::close(ends[0]);
    const unique_fd write{ends[1]};
    check_serves(here, [&] { becomes(write.get(), 1), becomes(write.get(), 2); });
  }
  SUBCASE("a full disk") {
    check_serves(here, [] { open_as("/dev/full", 1), open_as("/dev/full", 2); });
  }
  SUBCASE("closed, as all three are") {
    check_serves(here, [] { ::close(0), ::close(1), ::close(2); });
  }
}

TEST_CASE("K6: a terminal that is held, or stops those in its background, holds and stops no supervisor") {
  const scratch_folder here;
  const unique_fd master{::posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC)};
  REQUIRE(master);
  REQUIRE(::grantpt(master.get()) == 0);
  REQUIRE(::unlockpt(master.get()) == 0);
  const unique_fd terminal{::open(::ptsname(master.get()), O_RDWR | O_NOCTTY | O_CLOEXEC)};
  REQUIRE(terminal);
  SUBCASE("Ctrl-S") {
    REQUIRE(::tcflow(terminal.get(), TCOOFF) == 0);
    check_serves(here, [&] { becomes(terminal.get(), 1), becomes(terminal.get(), 2); });
    ::tcflow(terminal.get(), TCOON);
  }
  SUBCASE("stty tostop") {
    // The child leads a session that has the terminal; the command is in its background.
    check_serves(here, [&] {
      ::ioctl(terminal.get(), TIOCSCTTY, 0);
      termios settings{};
      ::tcgetattr(terminal.get(), &settings);
      settings.c_lflag |= TOSTOP;
      ::tcsetattr(terminal.get(), TCSANOW, &settings);
      becomes(terminal.get(), 1), becomes(terminal.get(), 2);
      const auto command = ::fork();
      if (command == 0) {
        ::setpgid(0, 0);
        return;
      }
      int status = 0;
      ::waitpid(command, &status, WUNTRACED);
      if (WIFSTOPPED(status))
        ::kill(command, SIGKILL);
      ::_exit(WIFEXITED(status) ? WEXITSTATUS(status) : 99);
    });
  }
}

TEST_CASE("K6: a client that could not write its answers says so and exits 1") {
  const scratch_folder here;
  const auto& page = golden_pages().front();
  const std::vector<std::string> asked{"--run-dir", here / "jobs", "--image", page.image, "--prompt", page.prompt};
  const auto with = [&](std::vector<std::string> command, const std::vector<std::string>& more = {}) {
    command.insert(command.end(), asked.begin(), asked.end());
    command.insert(command.end(), more.begin(), more.end());
    return command;
  };
  command job{{"up", reader(here), "--job", here.job(), "--run-dir", here / "jobs"}};
  REQUIRE(job.prints("is ready"));

  struct way {
    const char* name;
    const char* words;
    std::function<void()> prepare;
  };
  int ends[2];
  REQUIRE(::pipe2(ends, O_CLOEXEC) == 0);
  ::close(ends[0]);
  const unique_fd broken{ends[1]};
  for (const auto& how : {way{"full", "No space left on device", [] { open_as("/dev/full", 1); }},
                          way{"left", "Broken pipe", [&] { becomes(broken.get(), 1); }},
                          way{"closed", "Bad file descriptor", [] { ::close(1); }}})
    for (const auto& arguments :
         {with({"run", reader(here)}, {"--json"}), with({"run", reader(here)}), with({"ask", "--job", here.job()}),
          std::vector<std::string>{"spec", "schema"}, std::vector<std::string>{"--help"},
          std::vector<std::string>{"ps", "--run-dir", here / "jobs"},
          std::vector<std::string>{"logs", "--job", here.job(), "--run-dir", here / "jobs"}}) {
      const auto said = here.write("said", "");
      prepared_command client{arguments, [&] {
                                open_as(said.c_str(), 2);
                                how.prepare();
                              }};
      CAPTURE(how.name);
      CAPTURE(arguments.front());
      CHECK(client.exit_code() == 1);
      CHECK(has(content_of(said), std::string{"troupe: cannot write to stdout: "} + how.words + "\n"));
    }
}

TEST_CASE("K6: a client whose words for people cannot be written gives its answers all the same") {
  const scratch_folder here;
  const auto& page = golden_pages().front();
  const auto said = here.write("said", "");
  for (const auto& prepare : {std::function<void()>{[] { open_as("/dev/full", 2); }}, {[] { ::close(2); }}}) {
    prepared_command run{
        {"run", reader(here), "--run-dir", here / "jobs", "--image", page.image, "--prompt", page.prompt}, [&] {
          open_as(said.c_str(), 1);
          prepare();
        }};
    CHECK(run.exit_code() == 0);
    CHECK(content_of(said) == page.text + "\n");
    ::truncate(said.c_str(), 0);
  }
}

TEST_CASE("K6: a run whose answers nobody reads ends when a person interrupts it") {
  const scratch_folder here;
  int ends[2];
  REQUIRE(::pipe2(ends, O_CLOEXEC | O_NONBLOCK) == 0);
  const unique_fd read{ends[0]};
  const unique_fd write{ends[1]};
  const std::string filling(4096, 'x');
  while (::write(write.get(), filling.data(), filling.size()) > 0) {
  }
  ::fcntl(write.get(), F_SETFL, 0);
  prepared_command run{
      {"run", reader(here), "--job", here.job(), "--run-dir", here / "jobs", "--pages", golden_list(here), "--json"},
      [&] { becomes(write.get(), 1); }};
  const auto status = [&] { return status_in(here / "jobs/" + here.job()); };
  REQUIRE(holds_within(60s, [&] { return run.has_ended() || (status().is_object() && status()["state"] == "ended"); }));
  REQUIRE_FALSE(run.has_ended()); // its answers wait for a reader
  ::kill(run.pid(), SIGINT);
  CHECK(run.exit_code() == 130);
}

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) // which take terabytes of addresses for themselves
constexpr bool addresses_can_be_bounded = false;
#else
constexpr bool addresses_can_be_bounded = true;
#endif

TEST_CASE("no_memory: a rank that gets no thread or no memory says so, and no process dies of a signal" *
          doctest::skip(!addresses_can_be_bounded)) {
  const scratch_folder here;
  for (const auto mib : {200, 250, 300, 350}) {
    const auto said = here.write("said", "");
    prepared_command run{{"run", reader(here), "--run-dir", here / "jobs", "--prompt", "a", "--max-tokens", "1"}, [&] {
                           const auto bytes = static_cast<rlim_t>(mib) << 20;
                           const rlimit bound{.rlim_cur = bytes, .rlim_max = bytes};
                           ::setrlimit(RLIMIT_AS, &bound);
                           open_as("/dev/null", 1);
                           open_as(said.c_str(), 2);
                         }};
    CAPTURE(mib);
    CHECK(run.exit_code() < 128);
    auto text = content_of(said);
    CAPTURE(text);
    CHECK_FALSE(has(text, "terminate called"));
    const std::string_view by_the_supervisor = "by signal 9 of the supervisor"; // a neighbour that was still starting
    for (auto at = text.find(by_the_supervisor); at != text.npos; at = text.find(by_the_supervisor))
      text.erase(at, by_the_supervisor.size());
    CHECK_FALSE(has(text, "signal"));
  }
}
