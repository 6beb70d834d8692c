#include <csignal>
#include <memory>

#include "tools/troupe/command_line.hpp"
#include "tools/troupe/commands.hpp"

int main(int argc, char** argv) {
  // A reader that left (`troupe run ... | head`) is a failed write here, not the end of the process that must tidy up.
  std::signal(SIGPIPE, SIG_IGN);

  CLI::App troupe{"Runs a model across many processes as a company of actors, from one cluster spec.", "troupe"};
  troupe.formatter(std::make_shared<troupe::tools::plain_formatter>());
  troupe.set_help_flag("-h,--help", "print this and leave");
  troupe.set_version_flag("--version", "troupe " TROUPE_VERSION, "print the version and leave");
  troupe.require_subcommand(1);
  troupe.footer(R"(Examples:
  troupe run deploy/specs/reader.json --image page.png --prompt "Read the text."
  troupe up deploy/specs/reader.json          serve until Ctrl-C; then, elsewhere:
  troupe ask --image page.png --prompt "Read the text."

Exit codes:
  0  done                                     5  the cluster refused the request
  1  a request or a command failed            6  a rank died or left; the cluster was ended
  2  the command line is wrong                7  not ready within timeouts.start_ms
  3  spec, model, picture or run directory    8  killed what had not left within
     cannot be used                              timeouts.drain_ms
  4  no such job, or it does not answer     130  interrupted, after an orderly drain)");

  troupe::tools::action chosen;
  troupe::tools::add_run(troupe, chosen);
  troupe::tools::add_up(troupe, chosen);
  troupe::tools::add_ask(troupe, chosen);
  troupe::tools::add_ps(troupe, chosen);
  troupe::tools::add_logs(troupe, chosen);
  troupe::tools::add_trace(troupe, chosen);
  troupe::tools::add_down(troupe, chosen);
  troupe::tools::add_spec(troupe, chosen);
  troupe::tools::add_inject(troupe, chosen);
  troupe::tools::add_drill(troupe, chosen);
  troupe::tools::add_rank(troupe, chosen);

  try {
    troupe.parse(argc, argv);
  } catch (const CLI::ParseError& problem) {
    return troupe::tools::report(troupe, problem);
  }
  return chosen();
}
