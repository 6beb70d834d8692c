#include "runtime/base/log.hpp"

#include <spdlog/sinks/base_sink.h>
#include <spdlog/spdlog.h>

#include <memory>
#include <mutex>
#include <string>

#include "runtime/base/outlet.hpp"

namespace troupe::base {
namespace {

spdlog::level::level_enum to_spdlog(log_level level) noexcept {
  switch (level) {
  case log_level::debug:
    return spdlog::level::debug;
  case log_level::info:
    return spdlog::level::info;
  case log_level::warning:
    return spdlog::level::warn;
  case log_level::error:
    return spdlog::level::err;
  }
  return spdlog::level::off;
}

/// The library's own sink waits for stderr as long as that blocks.
class outlet_sink final : public spdlog::sinks::base_sink<std::mutex> {
  void sink_it_(const spdlog::details::log_msg& message) override {
    spdlog::memory_buf_t line;
    formatter_->format(message, line);
    standard_error().offer({line.data(), line.size()});
  }
  void flush_() override {}
};

std::shared_ptr<spdlog::logger> make_logger(std::string_view label, log_level least) {
  auto logger = std::make_shared<spdlog::logger>(std::string{label}, std::make_shared<outlet_sink>());
  logger->set_pattern(label.empty() ? "%Y-%m-%dT%H:%M:%S.%e %L %v" : "%Y-%m-%dT%H:%M:%S.%e %L %n: %v");
  logger->set_level(to_spdlog(least));
  return logger;
}

std::shared_ptr<spdlog::logger>& logger() {
  static auto instance = make_logger({}, log_level::info);
  return instance;
}

} // namespace

void open_log(std::string_view label, log_level least) {
  logger() = make_logger(label, least);
}

bool logs(log_level level) noexcept {
  return logger()->should_log(to_spdlog(level));
}

void write_log(log_level level, std::string_view line) noexcept {
  logger()->log(to_spdlog(level), spdlog::string_view_t{line.data(), line.size()});
}

} // namespace troupe::base
