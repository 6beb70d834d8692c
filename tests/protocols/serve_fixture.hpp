#pragma once

#include <algorithm>
#include <variant>
#include <vector>

#include "protocols/cluster/cluster_plan.hpp"
#include "protocols/serve/mesh_plan.hpp"
#include "protocols/serve/roles.hpp"
#include "protocols/serve/serve_message.hpp"
#include "protocols/time.hpp"

namespace troupe::protocols {

inline time_point at(std::chrono::milliseconds since) {
  return time_point{since};
}

/// Front, two encode cells, prefill of tensor parallel 2, decode of one rank: ranks 0, 1, 2, 3 and 4, 5.
inline cluster_plan reader_plan() {
  cluster_spec spec;
  spec.name = "reader";
  spec.pools = {{"front", serve_role::front, 1, 1, 1},
                {"encode", serve_role::encode, 2, 1, 1},
                {"prefill", serve_role::prefill, 1, 2, 1},
                {"decode", serve_role::decode, 1, 1, 1}};
  return make_plan(spec).value();
}

inline constexpr rank_id front_rank{0};
inline constexpr rank_id encode_rank{1};
inline constexpr rank_id prefill_leader{3};
inline constexpr rank_id prefill_worker{4};
inline constexpr rank_id decode_rank{5};

/// The effects of one kind, in order.
template <class Wanted, class Effects>
std::vector<Wanted> only(const Effects& effects) {
  std::vector<Wanted> out;
  for (const auto& each : effects)
    if (const auto* const found = std::get_if<Wanted>(&each))
      out.push_back(*found);
  return out;
}

/// The messages of one type among the effects, with their addressees.
template <class Message, class Effects>
std::vector<std::pair<rank_id, Message>> sent(const Effects& effects) {
  std::vector<std::pair<rank_id, Message>> out;
  for (const auto& each : only<send_message>(effects))
    if (const auto* const found = std::get_if<Message>(&each.body))
      out.emplace_back(each.to, *found);
  return out;
}

} // namespace troupe::protocols
