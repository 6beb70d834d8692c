#include "runtime/cluster/thread_state.hpp"

#include <filesystem>
#include <string>

#include "runtime/base/regular_file.hpp"

namespace troupe::cluster {

namespace {

constexpr std::size_t proc_bytes_max = 4096;

/// Empty of a thread that ends meanwhile. Not by a stream's iterator, which answers that with an exception.
std::string content_of(const std::filesystem::path& file) {
  return base::read_regular(file, proc_bytes_max).value_or(std::string{});
}

/// The letter stands behind the thread's name, which is in brackets and may hold any character.
std::optional<thread_state> read_state(const std::string& stat) {
  const auto end_of_name = stat.rfind(')');
  if (end_of_name == std::string::npos || end_of_name + 2 >= stat.size())
    return std::nullopt;
  const char letter = stat[end_of_name + 2];
  if (letter == 'R')
    return thread_state::runnable;
  return letter == 'T' || letter == 't' ? thread_state::stopped : thread_state::other;
}

} // namespace

std::optional<thread_state> state_of_thread(pid_t pid, std::string_view name) {
  std::error_code gone;
  std::filesystem::directory_iterator threads{"/proc/" + std::to_string(pid) + "/task", gone};
  for (; !gone && threads != std::filesystem::directory_iterator{}; threads.increment(gone)) {
    auto called = content_of(threads->path() / "comm");
    if (!called.empty() && called.back() == '\n')
      called.pop_back();
    if (called == name)
      return read_state(content_of(threads->path() / "stat"));
  }
  return std::nullopt;
}

} // namespace troupe::cluster
