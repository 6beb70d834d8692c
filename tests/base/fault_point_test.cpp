#include <doctest/doctest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <fstream>
#include <iterator>
#include <new>
#include <stdexcept>
#include <string>

#include "runtime/base/clock.hpp"
#include "runtime/base/exit_code.hpp"
#include "runtime/base/fault_point.hpp"

using namespace troupe;
using namespace troupe::protocols;

namespace {

injection_rule rule_of(drill_action action, std::string point) {
  injection_rule rule;
  rule.action = action;
  rule.point = std::move(point);
  rule.ms = 20;
  return rule;
}

void pass() {
  TROUPE_FAULT_POINT("rank.idle");
}

/// How a child that suffers the rule at a fault point ends: its wait status.
int end_of_child(drill_action action) {
  const pid_t child = ::fork();
  if (child == 0) {
    ::signal(SIGSEGV, SIG_DFL); // the tests' own handler would report it
    base::fault_injector injector{{rank_id{3}, {}}};
    injector.arm();
    if (!injector.add(rule_of(action, "rank.idle")))
      ::_exit(1);
    pass();
    ::_exit(0);
  }
  int how = 0;
  REQUIRE(::waitpid(child, &how, WUNTRACED) == child);
  if (WIFSTOPPED(how)) {
    ::kill(child, SIGKILL);
    ::waitpid(child, nullptr, 0);
  }
  return how;
}

} // namespace

TEST_CASE("where drills are off a fault point does nothing") {
  CHECK(base::armed_injector() == nullptr);
  pass();
}

TEST_CASE("an injector is found by fault points for as long as it lives") {
  {
    base::fault_injector injector{{rank_id{3}, {}}};
    CHECK(base::armed_injector() == nullptr);
    injector.arm();
    CHECK(base::armed_injector() == &injector);
    pass();
  }
  CHECK(base::armed_injector() == nullptr);
}

TEST_CASE("kill, stop, segfault and abort end the process as their names say") {
  CHECK(WTERMSIG(end_of_child(drill_action::kill)) == SIGKILL);
  CHECK(WTERMSIG(end_of_child(drill_action::segfault)) == SIGSEGV);
  const auto stopped = end_of_child(drill_action::stop);
  CHECK(WIFSTOPPED(stopped));
  CHECK(WSTOPSIG(stopped) == SIGSTOP);
  CHECK(WEXITSTATUS(end_of_child(drill_action::abort)) == static_cast<int>(base::exit_code::invariant));
}

TEST_CASE("throw and bad_alloc leave the fault point as exceptions, slow holds its thread") {
  base::fault_injector injector{{rank_id{3}, {}}};
  injector.arm();
  REQUIRE(injector.add(rule_of(drill_action::throw_error, "rank.idle")));
  CHECK_THROWS_AS(pass(), std::runtime_error);
  pass(); // once
  REQUIRE(injector.add(rule_of(drill_action::bad_alloc, "rank.idle")));
  CHECK_THROWS_AS(pass(), std::bad_alloc);
  REQUIRE(injector.add(rule_of(drill_action::slow, "rank.idle")));
  const auto began = base::now();
  pass();
  CHECK(base::now() - began >= std::chrono::milliseconds{20});
}

TEST_CASE("what strikes is recorded before it strikes, and what is noticed beside it") {
  std::string file = "/tmp/troupe-strikes-XXXXXX";
  REQUIRE(::close(::mkstemp(file.data())) == 0);
  const pid_t child = ::fork();
  if (child == 0) {
    base::fault_injector injector{{rank_id{3}, file}};
    injector.arm();
    injector.notice(rank_id{5});
    (void)injector.add(rule_of(drill_action::kill, {}));
    ::_exit(0);
  }
  int how = 0;
  REQUIRE(::waitpid(child, &how, 0) == child);
  std::ifstream in{file};
  const std::string text{std::istreambuf_iterator<char>{in}, {}};
  CHECK(text.find("\"noticed\": 5") != std::string::npos);
  CHECK(text.find("\"struck\": 3, \"what\": \"kill\"") != std::string::npos);
  ::unlink(file.c_str());
}

TEST_CASE("what a device did not take is not recorded as struck") {
  const auto file = "/tmp/troupe-strikes-" + std::to_string(::getpid());
  {
    base::fault_injector injector{{rank_id{3}, file}};
    injector.arm();
    injector.on_device([](const injection_rule& rule) -> result<void> {
      if (rule.action == drill_action::break_device)
        return fail(fault::config_invalid, "there is no such device");
      return {};
    });
    REQUIRE(injector.add(rule_of(drill_action::break_device, {})));
    REQUIRE(injector.add(rule_of(drill_action::no_capture, {})));
  }
  std::ifstream in{file};
  const std::string text{std::istreambuf_iterator<char>{in}, {}};
  CHECK(text.find("break_device") == std::string::npos);
  CHECK(text.find("\"struck\": 3, \"what\": \"no_capture\"") != std::string::npos);
  ::unlink(file.c_str());
}

TEST_CASE("a delivery is handed to whoever takes it") {
  base::fault_injector injector{{rank_id{3}, {}}};
  injector.arm();
  injection_rule taken;
  injector.on_deliver([&](const injection_rule& rule) { taken = rule; });
  auto rule = rule_of(drill_action::deliver, "rank.idle");
  rule.message = 406;
  rule.source = rank_id{7};
  REQUIRE(injector.add(rule));
  pass();
  CHECK(taken == rule);
}
