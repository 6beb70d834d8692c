#pragma once

#include <algorithm>
#include <cctype>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <string_view>
#include <vector>

#include <doctest/doctest.h>

/// The project's own text, as the rules of the house look at it. A rule is a function from one file to its findings,
/// so that each can be shown a planted violation.
namespace troupe::house {

struct source_file {
  std::string path;     ///< from the root of the checkout, with slashes
  std::string text;     ///< as it stands
  std::string code;     ///< `text` with comments and the contents of literals blanked: same offsets, same lines
  std::string comments; ///< `text` with everything but comments blanked

  bool under(std::string_view folder) const { return path.starts_with(folder); }
  bool is_header() const { return path.ends_with(".hpp"); }
  bool is_test() const { return under("tests/"); }
};

/// "fabric/lanes/lane.hpp:12: what is wrong".
using findings = std::vector<std::string>;

inline std::size_t line_of(std::string_view text, std::size_t offset) {
  return 1 +
         static_cast<std::size_t>(std::count(text.begin(), text.begin() + static_cast<std::ptrdiff_t>(offset), '\n'));
}

inline std::string at(const source_file& file, std::size_t offset, std::string_view what) {
  return file.path + ":" + std::to_string(line_of(file.text, offset)) + ": " + std::string(what);
}

inline bool is_word(char c) {
  return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_';
}

/// Parts C++ text into code and comments. Knows comments, strings, raw strings, characters and digit separators.
inline source_file read_cpp(std::string path, std::string text) {
  source_file file{std::move(path), std::move(text), {}, {}};
  const std::string_view in = file.text;
  const auto blank = [&](std::size_t first, std::size_t last, std::string& out) {
    for (auto i = first; i < last; ++i)
      out += in[i] == '\n' ? '\n' : ' ';
  };
  const auto end_of = [&](std::string_view mark, std::size_t from) {
    const auto found = in.find(mark, from);
    return found == std::string_view::npos ? in.size() : found + mark.size();
  };
  const auto end_of_quoted = [&](char quote, std::size_t from) {
    auto i = from + 1;
    while (i < in.size() && in[i] != quote && in[i] != '\n')
      i += in[i] == '\\' ? 2 : 1;
    return std::min(i + 1, in.size());
  };

  std::size_t i = 0;
  while (i < in.size()) {
    const auto rest = in.substr(i);
    auto end = i + 1;
    bool comment = false;
    bool literal = false;
    if (rest.starts_with("//")) {
      comment = true;
      end = std::min(in.find('\n', i), in.size());
    } else if (rest.starts_with("/*")) {
      comment = true;
      end = end_of("*/", i + 2);
    } else if (rest.starts_with("R\"") && (i == 0 || !is_word(in[i - 1]))) {
      literal = true;
      const auto open = in.find('(', i);
      end = end_of(")" + std::string(in.substr(i + 2, open - i - 2)) + "\"", i);
    } else if (in[i] == '"') {
      literal = true;
      end = end_of_quoted('"', i);
    } else if (in[i] == '\'' && (i == 0 || !is_word(in[i - 1]))) {
      literal = true;
      end = end_of_quoted('\'', i);
    }
    if (comment)
      file.comments += in.substr(i, end - i);
    else
      blank(i, end, file.comments);
    if (comment || literal)
      blank(i, end, file.code);
    else
      file.code += in.substr(i, end - i);
    i = end;
  }
  return file;
}

inline std::string read_text(const std::filesystem::path& path) {
  std::ifstream in{path, std::ios::binary};
  REQUIRE_MESSAGE(in.good(), "cannot read ", path.string());
  return {std::istreambuf_iterator<char>(in), {}};
}

inline std::filesystem::path root() {
  return TROUPE_SOURCE_DIR;
}

/// Every file of the checkout that a person wrote, by path; build trees and hidden folders are left out.
inline std::vector<std::string> all_paths() {
  namespace fs = std::filesystem;
  std::vector<std::string> paths;
  for (auto entry = fs::recursive_directory_iterator{root()}; entry != fs::recursive_directory_iterator{}; ++entry) {
    const auto name = entry->path().filename().string();
    if (entry->is_directory() && (name.starts_with("build") || (name.starts_with(".") && name != ".ci")))
      entry.disable_recursion_pending();
    else if (entry->is_regular_file())
      paths.push_back(fs::relative(entry->path(), root()).generic_string());
  }
  std::sort(paths.begin(), paths.end());
  return paths;
}

/// Every C++ file of the project, tests included.
inline const std::vector<source_file>& sources() {
  static const auto files = [] {
    std::vector<source_file> read;
    for (const auto& path : all_paths())
      if (path.ends_with(".hpp") || path.ends_with(".cpp") || path.ends_with(".cu"))
        read.push_back(read_cpp(path, read_text(root() / path)));
    return read;
  }();
  return files;
}

/// Fails with the rule's reason and every place that breaks it.
inline void report(const findings& found, std::string_view reason) {
  std::string lines;
  for (const auto& line : found)
    lines += "\n  " + line;
  CHECK_MESSAGE(found.empty(), reason, lines);
}

/// Applies a rule to every file.
template <class Rule>
findings over_all(Rule rule) {
  findings found;
  for (const auto& file : sources())
    std::ranges::move(rule(file), std::back_inserter(found));
  return found;
}

} // namespace troupe::house
