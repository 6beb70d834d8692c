#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "protocols/fault.hpp"
#include "runtime/base/one_line.hpp"
#include "runtime/embed/question.hpp"
#include "tools/troupe/sampling_flags.hpp"
#include "tools/troupe/text.hpp"

namespace CLI {
class App;
}

namespace troupe::tools {

/// What `run` and `ask` have in common.
struct ask_options {
  std::vector<std::string> images;
  std::string prompt;
  std::string pages; ///< a JSON file with a list of {"image", "prompt"}
  std::uint32_t max_tokens = 128;
  sampling_flags sampling;
  std::uint32_t timeout_ms = 0;
  std::int32_t priority = 0;
  std::string name; ///< of the request, as others call it
  bool json = false;
};
void add_ask_options(CLI::App& command, ask_options& options);

/// One question to be asked; its place in the list is its identity.
struct page {
  std::string image; ///< as the user wrote it; empty: text only
  std::filesystem::path file;
  std::string prompt;

  /// How lines for people call it.
  std::string shown() const { return image.empty() ? in_short(prompt) : base::one_line(image); }
};

/// Of the file of --pages, which is read whole; a person who has more asks in several runs.
inline constexpr std::size_t pages_bytes_max = 64u << 20;

/// The questions that the options ask for, in order. Errors: invalid_request (no prompt), config_invalid (the file of
/// --pages), with what would be valid.
protocols::result<std::vector<page>> pages_of(const ask_options& options);

/// Looks at the files, not into them, so that a typing error is told before anything is started.
/// Errors: bad_picture (not there, not readable, 0 bytes, more than `picture_bytes_max`), naming the file.
protocols::result<void> check_pictures(const std::vector<page>& pages, std::uint64_t picture_bytes_max);

/// Reads the page's file. Errors: bad_picture.
protocols::result<embed::question> load(const page& what, const ask_options& options);

} // namespace troupe::tools
