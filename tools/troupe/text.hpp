#pragma once

#include <unistd.h>

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "protocols/fault.hpp"
#include "runtime/base/exit_code.hpp"

/// How the command speaks: plain and aligned; colour only where a person looks and did not forbid it (NO_COLOR).
namespace troupe::tools {

/// "troupe: ..." on stderr, one line for each line of `what`; returns `code` as the process says it.
int complain(base::exit_code code, std::string_view what);

/// The exit code of a failure before anything ran: 3 for what cannot be used, 4 for a job that is not there, 1
/// otherwise.
base::exit_code exit_code_of(protocols::fault code) noexcept;

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
