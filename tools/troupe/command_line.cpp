#include "tools/troupe/command_line.hpp"

#include <fmt/format.h>

#include <charconv>
#include <cstdint>
#include <limits>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/base/nearest.hpp"
#include "tools/troupe/text.hpp"

namespace troupe::tools {
namespace {

struct chosen_command {
  const CLI::App* app;
  std::string name; ///< "troupe spec explain"
};

chosen_command deepest(const CLI::App& troupe) {
  chosen_command found{.app = &troupe, .name = troupe.get_name()};
  while (!found.app->get_subcommands().empty()) {
    found.app = found.app->get_subcommands().front();
    found.name += ' ' + found.app->get_name();
  }
  return found;
}

std::vector<std::string> options_of(const CLI::App& command) {
  std::vector<std::string> names;
  for (const auto* option : command.get_options())
    for (const auto& name : option->get_lnames())
      names.push_back("--" + name);
  return names;
}

std::vector<std::string> commands_of(const CLI::App& command) {
  std::vector<std::string> names;
  for (const auto* sub : command.get_subcommands([](const CLI::App* each) { return !each->get_group().empty(); }))
    names.push_back(sub->get_name());
  return names;
}

std::string did_you_mean(const std::string& written, const std::vector<std::string>& names) {
  const auto near = base::nearest(written, {names.begin(), names.end()});
  return near ? fmt::format("; did you mean {}?", *near) : std::string{};
}

std::string describe_unknown(const chosen_command& command, std::string written) {
  if (written.starts_with("-")) {
    written = written.substr(0, written.find('='));
    return fmt::format("unknown option {}{}", written, did_you_mean(written, options_of(*command.app)));
  }
  if (const auto names = commands_of(*command.app); !names.empty())
    return fmt::format("unknown command {}{}", written, did_you_mean(written, names));
  return fmt::format("unexpected argument {}", written);
}

} // namespace

CLI::Validator whole_number() {
  const auto check = [](std::string& written) {
    std::uint64_t number = 0;
    const char* end = written.data() + written.size();
    const auto read = std::from_chars(written.data(), end, number);
    if (read.ec == std::errc{} && read.ptr == end)
      return std::string{};
    return fmt::format("{} is no whole number from 0 to {}", written, std::numeric_limits<std::uint64_t>::max());
  };
  return CLI::Validator{check, ""};
}

std::string plain_formatter::make_option_opts(const CLI::Option* option) const {
  std::string text;
  if (option->get_type_size() != 0 && !option->get_type_name().empty())
    text += ' ' + option->get_type_name();
  if (option->get_expected_max() > 1)
    text += "...";
  if (!option->get_default_str().empty())
    text += " (" + option->get_default_str() + ')';
  return text;
}

void refuse_empty_texts(const CLI::App& troupe) {
  for (const auto* const option : deepest(troupe).app->get_options())
    for (const auto& written : option->results())
      if (written.empty())
        throw CLI::ValidationError{option->get_name(), "an empty text"};
}

namespace {

/// Through the command's own output: the library's stream does not say that it is full.
int say_help(const CLI::App& troupe, const CLI::ParseError& problem) {
  std::ostringstream text;
  const int code = troupe.exit(problem, text, text);
  print("{}", text.str());
  return code;
}

} // namespace

int report(const CLI::App& troupe, const CLI::ParseError& problem) {
  if (problem.get_exit_code() == static_cast<int>(CLI::ExitCodes::Success))
    return say_help(troupe, problem);
  const auto command = deepest(troupe);
  const auto unknown = command.app->remaining();
  const std::string what = unknown.empty() ? problem.what() : describe_unknown(command, unknown.front());
  const std::string shown =
      command.name == "troupe" ? "" : command.name.substr(std::string_view{"troupe "}.size()) + ": ";
  return complain(base::exit_code::usage, fmt::format("{}{} (see {} --help)", shown, what, command.name));
}

} // namespace troupe::tools
