#include "tools/troupe/text.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdlib>
#include <cstring>

#include "runtime/base/clock.hpp"
#include "runtime/base/one_line.hpp"

namespace troupe::tools {

namespace {

/// What a reader that stands still can keep a command that has ended from leaving.
constexpr std::chrono::seconds output_grace{1};

} // namespace

void speak_from_threads() noexcept {
  std::signal(SIGTTOU, SIG_IGN);
  base::standard_output().become(base::outlet::manner::thread);
  base::standard_error().become(base::outlet::manner::thread);
}

int end_outputs(int code) {
  base::standard_output().flush(base::now() + output_grace);
  if (const int problem = base::standard_output().problem(); problem != 0) {
    complain(base::exit_code::failed, fmt::format("cannot write to stdout: {}", std::strerror(problem)));
    code = code == static_cast<int>(base::exit_code::done) ? static_cast<int>(base::exit_code::failed) : code;
  }
  base::standard_error().flush(base::now() + output_grace);
  return code;
}

int complain(base::exit_code code, std::string_view what) {
  std::string text;
  while (!what.empty()) {
    const auto end = std::min(what.find('\n'), what.size());
    if (end > 0)
      fmt::format_to(std::back_inserter(text), "troupe: {}\n", base::one_line(what.substr(0, end)));
    what.remove_prefix(std::min(end + 1, what.size()));
  }
  base::standard_error().offer(text); // one call, so that lines of other processes do not fall between
  return static_cast<int>(code);
}

base::exit_code exit_code_of(protocols::fault code) noexcept {
  using protocols::fault;
  if (code == fault::config_invalid || code == fault::bad_picture)
    return base::exit_code::config;
  if (code == fault::invalid_request)
    return base::exit_code::usage;
  if (code == fault::peer_gone || code == fault::timeout)
    return base::exit_code::not_running;
  return base::exit_code::failed;
}

base::exit_code exit_code_of(embed::reason why) noexcept {
  return exit_code_of(failure_of({.why = why, .what = {}, .words = {}}).code);
}

protocols::failure failure_of(const embed::error& problem) {
  using protocols::fault;
  switch (problem.why) {
  case embed::reason::invalid:
    return {fault::invalid_request, problem.what};
  case embed::reason::overloaded:
    return {fault::queue_full, problem.what};
  case embed::reason::shutting_down:
    return {fault::shutting_down, problem.what};
  case embed::reason::timeout:
    return {fault::timeout, problem.what};
  case embed::reason::cancelled:
    return {fault::cancelled, problem.what};
  case embed::reason::gone:
    return {fault::peer_gone, problem.what};
  case embed::reason::bad_reply:
    return {fault::bad_value, problem.words};
  case embed::reason::resources:
    return {fault::no_memory, problem.what};
  case embed::reason::other:
    break;
  }
  return {fault::executor_failed, problem.words};
}

bool is_terminal(int fd) {
  return ::isatty(fd) == 1;
}

palette::palette(int fd) {
  const char* forbidden = std::getenv("NO_COLOR");
  const char* terminal = std::getenv("TERM");
  colours_ = is_terminal(fd) && (forbidden == nullptr || *forbidden == '\0') &&
             (terminal == nullptr || std::string_view{terminal} != "dumb");
}

std::string palette::paint(std::string_view escape, std::string_view text) const {
  return colours_ ? fmt::format("{}{}\033[0m", escape, text) : std::string{text};
}

namespace {

/// Code points, not bytes: what a cell takes on the screen.
std::size_t width_of(std::string_view text) {
  return static_cast<std::size_t>(
      std::ranges::count_if(text, [](char byte) { return (static_cast<unsigned char>(byte) & 0xC0) != 0x80; }));
}

} // namespace

std::string table::text(const palette& colours) const {
  std::vector<std::size_t> widths;
  for (std::size_t place = 0; place < columns_.size(); ++place) {
    widths.push_back(width_of(columns_[place].title));
    for (const auto& row : rows_)
      widths[place] = std::max(widths[place], width_of(row.at(place)));
  }
  const auto line_of = [&](const auto& cell_of) {
    std::string line;
    for (std::size_t place = 0; place < columns_.size(); ++place) {
      const std::string& cell = cell_of(place);
      const std::string padding(widths[place] - width_of(cell), ' ');
      line += place == 0 ? "" : "  ";
      line += columns_[place].align == side::right ? padding + cell : cell + padding;
    }
    line.erase(line.find_last_not_of(' ') + 1);
    return line;
  };
  std::string text =
      colours.dim(line_of([&](std::size_t place) -> const std::string& { return columns_[place].title; })) + '\n';
  for (const auto& row : rows_)
    text += line_of([&](std::size_t place) -> const std::string& { return row[place]; }) + '\n';
  return text;
}

std::string in_short(std::string_view words) {
  constexpr std::size_t bytes_max = 60;
  return base::one_line(words, bytes_max);
}

std::string in_words(std::chrono::nanoseconds span) {
  const double milliseconds = std::chrono::duration<double, std::milli>(span).count();
  if (milliseconds >= 1000.0)
    return fmt::format("{:.2f} s", milliseconds / 1000.0);
  return fmt::format("{:.1f} ms", milliseconds);
}

void progress_line::show(std::string_view text) {
  if (text == shown_)
    return;
  shown_ = text;
  if (terminal_)
    say("\r\033[K{}", text);
  else
    say("{}\n", text);
}

void progress_line::clear() {
  if (terminal_ && !shown_.empty())
    say("\r\033[K");
  shown_.clear();
}

} // namespace troupe::tools
