#pragma once

#include <unistd.h>

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "protocols/fault.hpp"
#include "runtime/base/exit_code.hpp"
#include "runtime/base/outlet.hpp"
#include "runtime/embed/error.hpp"

/// How the command speaks: plain and aligned; colour only where a person looks and did not forbid it (NO_COLOR).
namespace troupe::tools {

/// An answer, on stdout: one that cannot be written is remembered for `end_outputs`.
template <class... Arguments>
void print(fmt::format_string<Arguments...> form, Arguments&&... arguments) {
  base::standard_output().put(fmt::format(form, std::forward<Arguments>(arguments)...));
}
/// For a person, on stderr; never fails.
template <class... Arguments>
void say(fmt::format_string<Arguments...> form, Arguments&&... arguments) {
  base::standard_error().offer(fmt::format(form, std::forward<Arguments>(arguments)...));
}

/// For a command that is a supervisor: from here on neither output makes it wait, not on a terminal either that stops
/// those in its background. Before other threads are started. Contract: K6.
void speak_from_threads() noexcept;
/// The last thing: waits a moment for what is still to be written. An answer that could not be is said, and makes of
/// `done` exit_code::failed. Contract: K6.
int end_outputs(int code);

/// "troupe: ..." on stderr, one line for each line of `what`; returns `code` as the process says it.
int complain(base::exit_code code, std::string_view what);

/// The exit code of a failure before anything ran: 3 for what cannot be used, 4 for a job that is not there, 1
/// otherwise.
base::exit_code exit_code_of(protocols::fault code) noexcept;
base::exit_code exit_code_of(embed::reason why) noexcept;
/// For code that also fails for reasons of its own. The particulars stay.
protocols::failure failure_of(const embed::error& problem);

bool is_terminal(int fd);

/// Escape sequences for one stream; empty where it is no terminal.
class palette {
public:
  explicit palette(int fd);
  std::string bold(std::string_view text) const { return paint("\033[1m", text); }
  std::string dim(std::string_view text) const { return paint("\033[2m", text); }

private:
  std::string paint(std::string_view escape, std::string_view text) const;
  bool colours_ = false;
};

/// Columns as wide as their widest cell, two spaces apart.
class table {
public:
  enum class side { left, right };
  struct column {
    std::string title;
    side align = side::left;
  };

  explicit table(std::vector<column> columns) : columns_(std::move(columns)) {}
  void add(std::vector<std::string> cells) { rows_.push_back(std::move(cells)); }
  /// Titles and rows, each ended by a newline, no trailing spaces.
  std::string text(const palette& colours) const;

private:
  std::vector<column> columns_;
  std::vector<std::vector<std::string>> rows_;
};

/// Words of a user's, to name what a line is about: their first characters, on one line.
std::string in_short(std::string_view words);

/// "41.3 ms", "2.10 s".
std::string in_words(std::chrono::nanoseconds span);

/// One line on stderr that says what is being waited for: rewritten in place on a terminal, a line each time it changes
/// elsewhere. Threads: one at a time.
class progress_line {
public:
  progress_line() : terminal_(is_terminal(STDERR_FILENO)) {}
  ~progress_line() { clear(); }
  progress_line(const progress_line&) = delete;
  progress_line& operator=(const progress_line&) = delete;

  void show(std::string_view text);
  void clear();

private:
  bool terminal_;
  std::string shown_;
};

} // namespace troupe::tools
