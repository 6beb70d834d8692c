#pragma once

#include <doctest/doctest.h>
#include <sys/socket.h>

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "fabric/lanes/connect.hpp"
#include "fabric/socket_address.hpp"
#include "protocols/wire/codec.hpp"
#include "runtime/base/clock.hpp"
#include "runtime/base/unique_fd.hpp"
#include "tests/tally/tally_job.hpp"
#include "tests/tally/tally_messages.hpp"

namespace troupe::tests {

/// A client of a teller.
class tally_client {
public:
  explicit tally_client(const std::string& socket) {
    know_tally();
    base::unique_fd connected{::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)};
    const auto address = fabric::unix_address(socket);
    REQUIRE(address);
    REQUIRE(::connect(connected.get(), address->get(), address->size) == 0);
    lane_ = fabric::make_stream_lane(connected.release(), protocols::client_rank, protocols::generation{1},
                                     protocols::rank_id{0}, protocols::generation{1}, {});
  }

  /// `more`: bytes behind those that are known, as from a build to come.
  void ask(std::uint64_t tag, std::uint32_t first, std::uint32_t amount, std::size_t more = 0,
           std::uint32_t flags = 0) {
    const tally::count question{tag, first, amount};
    std::vector<std::byte> payload;
    protocols::encode_payload(question, payload);
    payload.resize(payload.size() + more);
    REQUIRE(fabric::send(*lane_, {.type = tally::count::type, .flags = flags}, payload, base::now() + deadline));
    REQUIRE(lane_->flush());
  }
  /// Nothing: the deadline passed, or the teller has hung up.
  std::optional<tally::counted> hear() {
    const auto frame = fabric::receive(*lane_, base::now() + deadline);
    if (!frame)
      return std::nullopt;
    tally::counted word;
    REQUIRE(frame->header.type == tally::counted::type);
    REQUIRE(protocols::decode_payload(frame->payload, word));
    lane_->pop();
    return word;
  }

  static constexpr std::chrono::seconds deadline{60}; ///< far above what any machine needs

private:
  std::unique_ptr<fabric::lane> lane_;
};

} // namespace troupe::tests
