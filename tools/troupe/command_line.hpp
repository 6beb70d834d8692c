#pragma once

#include <CLI/CLI.hpp>

namespace troupe::tools {

/// Help without what a reader does not need: an option's name, its value, its default, its sentence.
class plain_formatter : public CLI::Formatter {
public:
  plain_formatter() { column_width(28); }
  std::string make_option_opts(const CLI::Option* option) const override;
};

/// For an option that no `Range` bounds: the library takes -1 for the largest number there is, and cuts what is larger.
CLI::Validator whole_number();

/// An empty text, as a variable gives that is not set, would be taken for an option that was left out. Throws
/// CLI::ValidationError that names the option.
void refuse_empty_texts(const CLI::App& troupe);

/// Says in one line what is wrong with the command line, names the nearest option or command where a name is unknown,
/// and returns exit_code::usage. Help and version are no error: they go to stdout and 0 is returned.
int report(const CLI::App& troupe, const CLI::ParseError& problem);

} // namespace troupe::tools
