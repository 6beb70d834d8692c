#pragma once

#include <array>
#include <vector>

#include "protocols/ids.hpp"
#include "protocols/serve/serve_message.hpp"

namespace troupe::protocols {

/// The cells with which a message makes its receiver begin something (`validate_epoch`).
/// `encode` names a cell too and is not here: it brings a pixel slot back, which its receiver must learn of even if the
/// rows are wanted by nobody any more (K3). The front's `cancel` ends what it began.
template <class Message>
std::array<cell_id, 0> partners_of(const Message&) {
  return {};
}
inline std::vector<cell_id> partners_of(const submit& what) {
  std::vector<cell_id> all{what.decode_cell};
  for (const auto& each : what.pictures)
    all.push_back(each.encode_cell);
  return all;
}
inline std::array<cell_id, 1> partners_of(const reserve_kv& what) {
  return {what.prefill_cell};
}
inline std::array<cell_id, 1> partners_of(const reserve_rows& what) {
  return {what.encode_cell};
}
inline std::array<cell_id, 1> partners_of(const reserve_blocks& what) {
  return {what.prefill_cell};
}

} // namespace troupe::protocols
