#include "tools/troupe/pages.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cerrno>
#include <cstring>
#include <iterator>
#include <limits>

#include "runtime/base/unique_fd.hpp"
#include "runtime/cluster/json_text.hpp"
#include "tools/troupe/command_line.hpp"

namespace troupe::tools {

using protocols::fail;
using protocols::fault;
using protocols::result;

namespace {

constexpr int pictures_max = 1'000'000; ///< of one command line; the kernel bounds its bytes

} // namespace

void add_ask_options(CLI::App& command, ask_options& options) {
  auto* images = command.add_option("--image", options.images, "picture files (PNG, JPEG or WebP), one question each");
  auto* prompt =
      command.add_option("--prompt", options.prompt,
                         fmt::format("what to ask, of every picture; at most {} KiB", embed::prompt_bytes_max / 1024));
  auto* pages = command.add_option("--pages", options.pages,
                                   fmt::format("a JSON list of {{\"image\", \"prompt\"}}, pictures relative to that "
                                               "file; at most {} MiB",
                                               pages_bytes_max >> 20));
  // Without `allow_extra_args` the library takes a file called [x] as it is, not as a list.
  images->type_name("FILE")->expected(1, pictures_max)->allow_extra_args(false);
  prompt->type_name("TEXT");
  pages->type_name("FILE")->excludes(images)->excludes(prompt);
  command.add_option("--max-tokens", options.max_tokens, "end an answer after this many tokens")
      ->type_name("N")
      ->capture_default_str()
      ->check(CLI::Range(1, 1'000'000).description(""));
  add_sampling_flags(command, options.sampling);
  command.add_option("--timeout-ms", options.timeout_ms, "end an answer after this time; at most timeouts.request_ms")
      ->type_name("MS")
      ->check(CLI::Range(1, std::numeric_limits<std::int32_t>::max()).description(""));
  command.add_option("--priority", options.priority, "the lower, the sooner")->type_name("N")->capture_default_str();
  command.add_option("--request-id", options.name, "how logs call the request; at most 128 printable characters")
      ->type_name("TEXT");
  command.add_flag("--json", options.json, "one JSON object a line for each answer");
}

namespace {

/// "pages.json:3:5: unknown key \"picture\"; valid: image, prompt".
std::string at(const std::string& file, cluster::text_place place, const std::string& what) {
  return fmt::format("{}:{}:{}: {}", base::one_line(file), place.line, place.column, what);
}

result<page> page_of(const std::string& file, const cluster::json_node& node) {
  if (node.kind != cluster::json_kind::object)
    return fail(fault::config_invalid, at(file, node.at, "expected {\"image\", \"prompt\"}, found " + describe(node)));
  page made;
  for (const auto& member : node.members) {
    if (member.key != "image" && member.key != "prompt")
      return fail(
          fault::config_invalid,
          at(file, member.at, fmt::format("unknown key \"{}\"; valid: image, prompt", cluster::shown(member.key))));
    if (member.value.kind != cluster::json_kind::text)
      return fail(
          fault::config_invalid,
          at(file, member.value.at, fmt::format("{} must be a string, found {}", member.key, describe(member.value))));
    (member.key == "image" ? made.image : made.prompt) = member.value.text;
  }
  if (made.prompt.empty())
    return fail(fault::config_invalid,
                at(file, node.at, "no prompt; write {\"image\": \"page.png\", \"prompt\": \"...\"}"));
  if (!made.image.empty())
    made.file = std::filesystem::path{file}.parent_path() / made.image;
  return made;
}

result<std::vector<page>> read_pages(const std::string& file) {
  const auto text = cluster::read_document(file, pages_bytes_max);
  if (!text)
    return fail(fault::config_invalid, fmt::format("{}: {}; --pages takes a JSON file with a list of "
                                                   "{{\"image\", \"prompt\"}}",
                                                   base::one_line(file), text.error().what));
  const auto tree = cluster::read_json(*text, pages_bytes_max);
  if (!tree)
    return fail(fault::config_invalid, fmt::format("{}:{}", base::one_line(file), tree.error().what));
  const bool is_empty_list = tree->kind == cluster::json_kind::list && tree->elements.empty();
  if (tree->kind != cluster::json_kind::list || is_empty_list)
    return fail(fault::config_invalid, at(file, tree->at,
                                          "expected a list of {\"image\", \"prompt\"}, found " +
                                              (is_empty_list ? "an empty one" : describe(*tree))));
  std::vector<page> pages;
  for (const auto& element : tree->elements) {
    auto made = page_of(file, element);
    if (!made)
      return tl::unexpected(made.error());
    pages.push_back(std::move(*made));
  }
  return pages;
}

} // namespace

result<std::vector<page>> pages_of(const ask_options& options) {
  if (!options.pages.empty())
    return read_pages(options.pages);
  if (options.prompt.empty())
    return fail(fault::invalid_request, "no question; write --prompt TEXT, or --pages FILE (see --help)");
  std::vector<page> pages;
  for (const auto& image : options.images)
    pages.push_back({.image = image, .file = image, .prompt = options.prompt});
  if (pages.empty())
    pages.push_back({.image = {}, .file = {}, .prompt = options.prompt});
  return pages;
}

result<void> check_pictures(const std::vector<page>& pages, std::uint64_t picture_bytes_max) {
  for (const auto& each : pages) {
    if (each.image.empty())
      continue;
    const auto complaint = [&](const std::string& what) {
      return fail(fault::bad_picture, each.shown() + ": " + what);
    };
    struct stat found {};
    if (::stat(each.file.c_str(), &found) != 0 || ::access(each.file.c_str(), R_OK) != 0)
      return complaint(std::string{"cannot be read: "} + std::strerror(errno) +
                       "; --image takes a PNG, JPEG or WebP file");
    if (!S_ISREG(found.st_mode))
      return complaint("is no file; --image takes a PNG, JPEG or WebP file");
    if (found.st_size == 0)
      return complaint("0 bytes; --image takes a PNG, JPEG or WebP file");
    if (static_cast<std::uint64_t>(found.st_size) > picture_bytes_max)
      return complaint(
          fmt::format("{} bytes; at most {} (limits.picture_bytes_max of the spec)", found.st_size, picture_bytes_max));
  }
  return {};
}

result<embed::question> load(const page& what, const ask_options& options) {
  embed::question made{.prompt = what.prompt,
                       .pictures = {},
                       .max_tokens = options.max_tokens,
                       .sampling = {},
                       .draws_seed = false,
                       .timeout_ms = options.timeout_ms,
                       .priority = options.priority,
                       .name = options.name};
  apply(options.sampling, made);
  if (what.image.empty())
    return made;
  const base::unique_fd file{::open(what.file.c_str(), O_RDONLY | O_CLOEXEC)};
  struct stat found {};
  if (!file || ::fstat(file.get(), &found) != 0)
    return fail(fault::bad_picture, what.shown() + ": cannot be read: " + std::strerror(errno));
  auto& picture = made.pictures.emplace_back();
  picture.name = what.image;
  picture.bytes.resize(static_cast<std::size_t>(found.st_size));
  std::size_t taken = 0;
  while (taken < picture.bytes.size()) {
    const auto got = ::read(file.get(), picture.bytes.data() + taken, picture.bytes.size() - taken);
    if (got < 0)
      return fail(fault::bad_picture, what.shown() + ": cannot be read: " + std::strerror(errno));
    if (got == 0)
      return fail(fault::bad_picture, what.shown() + ": became shorter while it was read");
    taken += static_cast<std::size_t>(got);
  }
  return made;
}

} // namespace troupe::tools
