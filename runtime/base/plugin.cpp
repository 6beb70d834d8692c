#include "runtime/base/plugin.hpp"

#include <dlfcn.h>
#include <fmt/format.h>

#include <csignal>
#include <filesystem>
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

} // namespace

protocols::result<void*> plugin_symbol(const std::string& name, const char* symbol) {
  const auto file = "libtroupe_" + name + ".so";
  std::error_code error;
  const auto home = std::filesystem::read_symlink("/proc/self/exe", error).parent_path();
  std::string words;
  for (const auto& path : {home / file, home.parent_path() / "lib/troupe" / file}) {
    if (!std::filesystem::exists(path, error)) {
      words += (words.empty() ? "" : ", ") + path.string() + ": not there";
      continue;
    }
    const kept_signals keep;
    auto* const module = ::dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (module == nullptr)
      return protocols::fail(protocols::fault::config_invalid, std::string{"plug-in "} + ::dlerror());
    const auto build = reinterpret_cast<const char* (*)()>(::dlsym(module, plugin_build_symbol));
    const std::string_view theirs = build == nullptr ? "unknown" : build();
    if (theirs != build_stamp())
      return protocols::fail(protocols::fault::config_invalid, fmt::format("{}: a plug-in of build {}; this is {}",
                                                                           path.string(), theirs, build_stamp()));
    if (auto* const found = ::dlsym(module, symbol))
      return found;
    return protocols::fail(protocols::fault::config_invalid, path.string() + ": has no " + symbol);
  }
  return protocols::fail(protocols::fault::config_invalid, "plug-in " + name + ": " + words);
}

} // namespace troupe::base
