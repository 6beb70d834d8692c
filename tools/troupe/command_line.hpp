#pragma once

#include <CLI/CLI.hpp>

namespace troupe::tools {

/// Says in one line what is wrong with the command line, names the nearest option or command where a name is unknown,
/// and returns exit_code::usage. Help and version are no error: they go to stdout and 0 is returned.
int report(const CLI::App& troupe, const CLI::ParseError& problem);

} // namespace troupe::tools
