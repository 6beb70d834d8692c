#pragma once

#include <string_view>

#include <fmt/format.h>

/// Lines for a person who looks for a fault: one form, on stderr, which is the supervisor's pipe in a rank.
/// "2026-11-21T02:25:14.123 W prefill.0/t1: text"
namespace troupe::base {

enum class log_level { debug, info, warning, error };

/// Once, before other threads are started; without it lines carry no label and begin at `info`.
void open_log(std::string_view label, log_level least = log_level::info);

bool logs(log_level level) noexcept;
/// Any thread. Waits for stderr as `standard_error()` does: in ranks and supervisors never (K6).
void write_log(log_level level, std::string_view line) noexcept;

template <class... Arguments>
void log(log_level level, fmt::format_string<Arguments...> form, Arguments&&... arguments) {
  if (logs(level))
    write_log(level, fmt::format(form, std::forward<Arguments>(arguments)...));
}

template <class... Arguments>
void log_debug(fmt::format_string<Arguments...> form, Arguments&&... arguments) {
  log(log_level::debug, form, std::forward<Arguments>(arguments)...);
}
template <class... Arguments>
void log_info(fmt::format_string<Arguments...> form, Arguments&&... arguments) {
  log(log_level::info, form, std::forward<Arguments>(arguments)...);
}
template <class... Arguments>
void log_warning(fmt::format_string<Arguments...> form, Arguments&&... arguments) {
  log(log_level::warning, form, std::forward<Arguments>(arguments)...);
}
template <class... Arguments>
void log_error(fmt::format_string<Arguments...> form, Arguments&&... arguments) {
  log(log_level::error, form, std::forward<Arguments>(arguments)...);
}

} // namespace troupe::base
