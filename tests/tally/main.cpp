#include <cstdio>

#include "tests/tally/tally_program.hpp"
#include "tools/troupe/commands.hpp"

/// The command of a build that knows `tally` too.
int main(int argc, char** argv) {
  if (const auto added = troupe::tally::add_tally(); !added) {
    std::fprintf(stderr, "%s\n", added.error().what.c_str());
    return 1;
  }
  return troupe::tools::command_main(argc, argv);
}
