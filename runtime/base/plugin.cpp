#include "runtime/base/plugin.hpp"

#include <dlfcn.h>
#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <csignal>
#include <map>
#include <string_view>

namespace troupe::base {

namespace {

/// Libraries that set signal handlers in their constructors (libinfinipath, below libfabric) print and call exit()
/// from them, which deadlocks when it interrupts exit() and hides from the supervisor which signal ended a rank.
class kept_signals {
public:
  kept_signals() noexcept {
    for (int number = 1; number < NSIG; ++number)
      kept_[number] = ::sigaction(number, nullptr, &before_[number]) == 0;
  }
  ~kept_signals() {
    for (int number = 1; number < NSIG; ++number)
      if (kept_[number])
        ::sigaction(number, &before_[number], nullptr);
  }
  kept_signals(const kept_signals&) = delete;
  kept_signals& operator=(const kept_signals&) = delete;

private:
  bool kept_[NSIG] = {};
  struct sigaction before_[NSIG] = {};
};

using namespace protocols;

constexpr std::string_view prefix = "libtroupe_";
constexpr std::string_view suffix = ".so";

std::array<std::filesystem::path, 2> folders_of(const std::filesystem::path& program) {
  const auto home = program.parent_path();
  return {home, home.parent_path() / "lib/troupe"};
}

std::map<std::string, int>& given() {
  static std::map<std::string, int> files;
  return files;
}

bool is_same_file(const std::filesystem::path& path, const std::string& held) {
  struct stat named {};
  struct stat open {};
  return ::stat(path.c_str(), &named) == 0 && ::stat(held.c_str(), &open) == 0 && named.st_dev == open.st_dev &&
         named.st_ino == open.st_ino;
}

/// What to load and what to call it: the path for as long as it names the file that is held, which is what debuggers
/// and profilers know it by.
struct place {
  std::string load;
  std::filesystem::path path;
};

result<place> find_plugin(const std::string& name) {
  std::error_code error;
  const auto file = std::string{prefix} + name + std::string{suffix};
  const auto folders = folders_of(std::filesystem::read_symlink("/proc/self/exe", error));
  const auto held = given().find(name);
  const auto by_descriptor = held == given().end() ? std::string{} : fmt::format("/proc/self/fd/{}", held->second);
  std::string words;
  for (const auto& folder : folders) {
    const auto path = folder / file;
    if (held == given().end() ? std::filesystem::exists(path, error) : is_same_file(path, by_descriptor))
      return place{path.string(), path};
    words += (words.empty() ? "" : ", ") + path.string() + ": not there";
  }
  if (held != given().end())
    return place{by_descriptor, folders[0] / file};
  return fail(fault::config_invalid, "plug-in " + name + ": " + words);
}

result<void*> load(const place& from, const char* symbol) {
  const kept_signals keep;
  auto* const module = ::dlopen(from.load.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (module == nullptr)
    return fail(fault::config_invalid, std::string{"plug-in "} + ::dlerror());
  const auto build = reinterpret_cast<const char* (*)()>(::dlsym(module, plugin_build_symbol));
  const std::string_view theirs = build == nullptr ? "unknown" : build();
  if (theirs != build_stamp())
    return fail(
        fault::config_invalid,
        fmt::format("{}: a plug-in of build {}; this is {}; while a job runs a new build is to be moved over the "
                    "old files (mv, install), not written into them",
                    from.path.string(), theirs, build_stamp()));
  if (auto* const found = ::dlsym(module, symbol))
    return found;
  return fail(fault::config_invalid, from.path.string() + ": has no " + symbol);
}

} // namespace

result<void*> plugin_symbol(const std::string& name, const char* symbol) {
  return find_plugin(name).and_then([&](const place& from) { return load(from, symbol); });
}

std::vector<std::pair<std::string, std::filesystem::path>> plugins_of(const std::filesystem::path& program) {
  std::vector<std::pair<std::string, std::filesystem::path>> found;
  const auto is_known = [&](const std::string& name) {
    return std::ranges::any_of(found, [&](const auto& each) { return each.first == name; });
  };
  for (const auto& folder : folders_of(program)) {
    std::error_code problem;
    for (std::filesystem::directory_iterator each{folder, problem}, end; !problem && each != end;
         each.increment(problem)) {
      const auto file = each->path().filename().string();
      if (!file.starts_with(prefix) || !file.ends_with(suffix))
        continue;
      const auto name = file.substr(prefix.size(), file.size() - prefix.size() - suffix.size());
      if (!is_known(name))
        found.emplace_back(name, each->path());
    }
  }
  std::ranges::sort(found);
  return found;
}

void give_plugin(const std::string& name, int file) {
  given()[name] = file;
}

} // namespace troupe::base
