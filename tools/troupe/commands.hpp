#pragma once

#include <functional>

#include <CLI/CLI.hpp>

/// The subcommands, one source file each. Each adds its options to the command line and, once it has been chosen there,
/// leaves in `chosen` what to do; that returns the exit code (runtime/base/exit_code.hpp).
namespace troupe::tools {

using action = std::function<int()>;

/// The command, to its exit code. A command that knows a program more than those that are built in is a `main` of its
/// own, which adds the program and calls this: ranks are started from the same file (deploy/docs/PROGRAMS.md).
int command_main(int argc, char** argv);

void add_run(CLI::App& troupe, action& chosen);
void add_up(CLI::App& troupe, action& chosen);
void add_ask(CLI::App& troupe, action& chosen);
void add_ps(CLI::App& troupe, action& chosen);
void add_logs(CLI::App& troupe, action& chosen);
void add_trace(CLI::App& troupe, action& chosen);
void add_down(CLI::App& troupe, action& chosen);
void add_spec(CLI::App& troupe, action& chosen);
void add_inject(CLI::App& troupe, action& chosen);
void add_drill(CLI::App& troupe, action& chosen);
void add_sim(CLI::App& troupe, action& chosen);
/// What the supervisor starts; not for people, so not in the help.
void add_rank(CLI::App& troupe, action& chosen);

} // namespace troupe::tools
