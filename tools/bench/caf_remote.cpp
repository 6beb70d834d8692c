#include "tools/bench/caf_remote.hpp"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>

#include <caf/all.hpp>
#include <caf/io/all.hpp>

namespace troupe::bench {

namespace {

struct middleman_config : caf::actor_system_config {
  middleman_config() {
    load<caf::io::middleman>();
    set("scheduler.policy", caf::atom("sharing"));
    set("scheduler.max-threads", 2);
  }
};

caf::behavior echo(caf::event_based_actor*) {
  return {[](const std::string& bytes) { return bytes; }};
}

using clock = std::chrono::steady_clock;

/// Sends, and on each answer notes the time and sends again.
caf::behavior caller(caf::event_based_actor* self, caf::actor to, std::string bytes, std::size_t warm_up,
                     std::vector<double>* times) {
  auto began = std::make_shared<clock::time_point>(clock::now());
  auto left_to_warm = std::make_shared<std::size_t>(warm_up);
  self->send(to, bytes);
  return {[=](const std::string& answer) {
    const auto now = clock::now();
    if (*left_to_warm > 0)
      --*left_to_warm;
    else
      times->push_back(std::chrono::duration<double, std::micro>(now - *began).count());
    if (times->size() == times->capacity()) {
      self->quit();
      return;
    }
    *began = clock::now();
    self->send(to, answer);
  }};
}

} // namespace

samples caf_round_trips(std::size_t rounds, std::size_t bytes) {
  samples taken{.name = "CAF middleman, two processes", .microseconds = {}};
  taken.microseconds.reserve(rounds);
  int port_pipe[2];
  if (::pipe(port_pipe) != 0)
    return taken;
  const pid_t child = ::fork();
  if (child == 0) {
    middleman_config config;
    caf::actor_system system{config};
    const auto published = system.middleman().publish(system.spawn(echo), 0, "127.0.0.1");
    const std::uint16_t port = published ? *published : 0;
    if (::write(port_pipe[1], &port, sizeof port) != sizeof port)
      ::_exit(1);
    ::pause(); // until killed
    ::_exit(0);
  }
  std::uint16_t port = 0;
  if (::read(port_pipe[0], &port, sizeof port) == sizeof port && port != 0) {
    middleman_config config;
    caf::actor_system system{config};
    if (const auto remote = system.middleman().remote_actor("127.0.0.1", port)) {
      system.spawn(caller, *remote, std::string(bytes, 'x'), rounds / 10, &taken.microseconds);
      system.await_all_actors_done();
    }
  }
  ::close(port_pipe[0]);
  ::close(port_pipe[1]);
  ::kill(child, SIGKILL);
  ::waitpid(child, nullptr, 0);
  return taken;
}

} // namespace troupe::bench
