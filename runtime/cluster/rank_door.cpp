#include <fmt/format.h>

#include <cstdlib>

#include "runtime/base/log.hpp"
#include "runtime/base/split.hpp"
#include "runtime/cluster/rank_runtime.hpp"

/// The front's door: who opens it, and where.
namespace troupe::cluster {

using namespace protocols;

result<void> rank_runtime::open_door() {
  const auto& http = context_.spec.http;
  if (!context_.plan.is_front(context_.self) || http.listen.empty() || !program_->has_routes())
    return {};
  const auto colon = http.listen.rfind(':');
  auto address = http.listen.substr(0, colon);
  if (address.starts_with('['))
    address = address.substr(1, address.size() - 2);
  const auto origins = base::split(http.origins, ',');
  auto opened = door::open_door({.address = std::move(address),
                                 .port = static_cast<std::uint16_t>(std::stoul(http.listen.substr(colon + 1))),
                                 .key_file = http.key_file,
                                 .certificate_file = http.certificate_file,
                                 .private_key_file = http.private_key_file,
                                 .origins = {origins.begin(), origins.end()},
                                 .connections_max = http.connections_max,
                                 .body_bytes_max = http.body_bytes_max,
                                 .watch = {context_.turns.get(), nap()}});
  if (!opened)
    return tl::unexpected<failure>{opened.error()};
  door_ = *std::move(opened);
  door_->serve(program_->routes(*door_));
  base::log_info("answers HTTP at {}", http_address());
  return {};
}

std::string rank_runtime::http_address() const {
  const auto& listen = context_.spec.http.listen;
  return door_ ? fmt::format("{}:{}", listen.substr(0, listen.rfind(':')), door_->port()) : std::string{};
}

} // namespace troupe::cluster
