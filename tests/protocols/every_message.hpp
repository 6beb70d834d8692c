#pragma once

#include <random>
#include <string>
#include <vector>

#include "protocols/cluster/life_messages.hpp"
#include "protocols/drill/drill_messages.hpp"
#include "protocols/metrics/view_messages.hpp"
#include "protocols/serve/client_messages.hpp"
#include "protocols/serve/mesh_plan.hpp"
#include "protocols/serve/request_messages.hpp"
#include "protocols/serve/transfer_messages.hpp"
#include "protocols/wire/codec.hpp"
#include "protocols/wire/edge_messages.hpp"

/// Every message of the wire, for tests that must miss none. `collective` carries bare bytes and has no struct.
namespace troupe::protocols::testing {

template <class... Messages>
struct type_list {};
using every_message =
    type_list<hello, welcome, refuse, joined, roster, agree, verdict, proceed, progress, leave, region, launch, lost,
              rejoin, rejoined, recovered, counters, cluster_view, heartbeat, submit, encode, mesh_plan, tokens, timing,
              reserve_kv, reserve_rows, reserve_blocks, grant_rows, grant_blocks, grant_pixels, arrived, kv_sent,
              handover, release, revoke_rows, revoke_blocks, pixels_returned, rows_returned, blocks_returned,
              rows_quiet, blocks_quiet, shutdown, error, ack, nack, cancel, ask, picture_chunk, accepted, answer,
              finished, refused, withdraw, inject, injected>;

/// Calls `visit` with a default-made message of each type.
template <class Visitor, class... Messages>
void visit_messages(Visitor&& visit, type_list<Messages...>) {
  (visit(Messages{}), ...);
}
template <class Visitor>
void for_each_message(Visitor&& visit) {
  visit_messages(visit, every_message{});
}

/// Fills a message by the same walk over its fields as the codec's.
class random_filler {
public:
  /// `below`: integers stay under it, so that ids meet; 0: any.
  explicit random_filler(std::uint64_t seed, std::uint64_t below = 0) : random_(seed), below_(below) {}

  template <class... Fields>
  void required(Fields&... values) {
    (fill(values), ...);
  }
  template <class... Fields>
  void appended(Fields&... values) {
    (fill(values), ...);
  }

private:
  template <class T>
  void fill(T& value) {
    if constexpr (std::is_same_v<T, bool>) {
      value = random_() % 2 == 0;
    } else if constexpr (std::is_same_v<T, std::byte>) {
      value = static_cast<std::byte>(random_());
    } else if constexpr (std::is_enum_v<T>) {
      do
        value = static_cast<T>(random_() % 16);
      while (!is_valid(value));
    } else if constexpr (std::is_floating_point_v<T>) {
      value = static_cast<T>(random_() % 1000) / T{8};
    } else if constexpr (std::is_integral_v<T>) {
      value = static_cast<T>(below_ == 0 ? random_() : random_() % below_);
    } else if constexpr (detail::is_strong_id<T>::value) {
      fill(value.value);
    } else if constexpr (std::is_same_v<T, std::string>) {
      value.resize(random_() % 20);
      for (auto& letter : value)
        letter = static_cast<char>(random_());
    } else if constexpr (detail::is_vector<T>::value) {
      value.resize(random_() % 5);
      for (auto& element : value)
        fill(element);
    } else if constexpr (detail::is_array<T>::value) {
      for (auto& element : value)
        fill(element);
    } else {
      T::fields(value, *this);
    }
  }

  std::mt19937_64 random_;
  std::uint64_t below_;
};

template <class Message>
Message random_message(std::uint64_t seed, std::uint64_t below = 0) {
  Message message;
  random_filler filler{seed, below};
  Message::fields(message, filler);
  return message;
}

template <class Message>
std::vector<std::byte> bytes_of(const Message& message) {
  std::vector<std::byte> bytes;
  encode_payload(message, bytes);
  return bytes;
}

} // namespace troupe::protocols::testing
