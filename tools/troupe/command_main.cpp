#include <exception>
#include <memory>

#include "runtime/base/outlet.hpp"
#include "runtime/base/uncaught.hpp"
#include "tools/troupe/command_line.hpp"
#include "tools/troupe/commands.hpp"
#include "tools/troupe/text.hpp"

namespace {

int run_command(int argc, char** argv) {
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
  1  a request or a command failed, or its    6  a rank died or left; the cluster was ended
     answers could not be written             7  not ready within timeouts.start_ms
  2  the command line is wrong                8  killed what had not left within
  3  spec, model, picture or run directory       timeouts.drain_ms
     cannot be used                         130  interrupted, after an orderly drain
  4  no such job, or it does not answer)");

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
  troupe::tools::add_sim(troupe, chosen);
  troupe::tools::add_rank(troupe, chosen);

  try {
    troupe.parse(argc, argv);
    troupe::tools::refuse_empty_texts(troupe);
  } catch (const CLI::ParseError& problem) {
    return troupe::tools::report(troupe, problem);
  }
  return chosen();
}

/// A library's exception, of the file system or of threads that cannot be had, is one line and an exit code too.
int run_to_the_end(int argc, char** argv) {
  try {
    return run_command(argc, argv);
  } catch (const std::exception& problem) {
    const auto cause = troupe::base::failure_of(problem);
    return troupe::tools::complain(troupe::tools::exit_code_of(cause.code), cause.what);
  }
}

} // namespace

int troupe::tools::command_main(int argc, char** argv) {
  base::hold_standard_descriptors();
  base::name_uncaught_exceptions();
  return end_outputs(run_to_the_end(argc, argv));
}
