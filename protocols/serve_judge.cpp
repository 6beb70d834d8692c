#include "protocols/serve_judge.hpp"

#include <algorithm>

namespace troupe::protocols {

namespace {

/// Asks the plan, in the words of the rules below.
class asker {
public:
  asker(const cluster_plan& plan, rank_id self, rank_id from) : plan_(plan), self_(self), from_(from) {}

  bool from_front() const { return from_ == plan_.front(); }
  bool to_front() const { return self_ == plan_.front(); }
  bool leads(rank_id rank, role_kind role) const {
    return any_cell(role, [&](const cell_plan& cell) { return cell.leader() == rank; });
  }
  bool is_in(rank_id rank, role_kind role) const {
    return any_cell(role, [&](const cell_plan& cell) { return cell.place_of(rank).has_value(); });
  }
  /// The sender leads the cell of that role in which this rank is.
  bool from_my_leader(role_kind role) const {
    return any_cell(role, [&](const cell_plan& cell) { return cell.leader() == from_ && cell.place_of(self_); });
  }
  /// This rank leads the cell of that role in which the sender is.
  bool from_my_member(role_kind role) const {
    return any_cell(role, [&](const cell_plan& cell) { return cell.leader() == self_ && cell.place_of(from_); });
  }
  bool from_place(role_kind role, std::uint32_t place, std::uint32_t places) const {
    return any_cell(role, [&](const cell_plan& cell) {
      return cell.ranks.size() == places && place < places && cell.ranks[place] == from_;
    });
  }
  bool is_cell(cell_id id, role_kind role) const {
    return id.value < plan_.cells.size() && plan_.cell(id).role == role;
  }
  bool self_leads(role_kind role) const { return leads(self_, role); }
  bool self_is_in(role_kind role) const { return is_in(self_, role); }
  bool sender_leads(role_kind role) const { return leads(from_, role); }

private:
  template <class Holds>
  bool any_cell(role_kind role, Holds holds) const {
    return std::any_of(plan_.cells.begin(), plan_.cells.end(),
                       [&](const cell_plan& cell) { return cell.role == role && holds(cell); });
  }

  const cluster_plan& plan_;
  rank_id self_;
  rank_id from_;
};

/// Sender and addressee of each type.
struct may_pass {
  const asker& ask;

  bool operator()(const submit&) const { return ask.from_front() && ask.self_leads(role_kind::prefill); }
  /// B17: the leader alone is told, and announces the batch to its cell.
  bool operator()(const encode&) const { return ask.from_front() && ask.self_leads(role_kind::encode); }
  bool operator()(const reserve_kv&) const { return ask.from_front() && ask.self_leads(role_kind::decode); }
  bool operator()(const cancel&) const { return ask.from_front(); }
  bool operator()(const tokens&) const { return ask.to_front() && ask.sender_leads(role_kind::decode); }
  bool operator()(const grant_pixels&) const { return ask.to_front() && ask.sender_leads(role_kind::encode); }
  bool operator()(const timing&) const { return ask.to_front(); }
  bool operator()(const error&) const { return ask.to_front(); }
  bool operator()(const ack&) const { return ask.to_front(); }
  bool operator()(const reserve_rows&) const { return ask.from_my_leader(role_kind::prefill); }
  bool operator()(const reserve_blocks&) const { return ask.from_my_leader(role_kind::decode); }
  bool operator()(const grant_rows& m) const {
    return ask.self_leads(role_kind::encode) && ask.from_place(role_kind::prefill, m.part, m.parts);
  }
  bool operator()(const grant_blocks& m) const {
    return ask.self_is_in(role_kind::prefill) && ask.from_place(role_kind::decode, m.part, m.parts);
  }
  bool operator()(const landed&) const {
    return ask.from_my_member(role_kind::prefill) || ask.from_my_member(role_kind::decode);
  }
  bool operator()(const shipped&) const { return ask.from_my_member(role_kind::prefill); }
  bool operator()(const handover&) const {
    return ask.self_leads(role_kind::decode) && ask.sender_leads(role_kind::prefill);
  }
  bool operator()(const release&) const {
    return ask.from_my_leader(role_kind::encode) || ask.from_my_leader(role_kind::prefill) ||
           ask.from_my_leader(role_kind::decode);
  }
};

result<void> bad(std::string what) {
  return fail(fault::bad_value, std::move(what));
}

result<void> cell_is(const asker& ask, cell_id id, role_kind role) {
  if (ask.is_cell(id, role))
    return {};
  return bad("cell " + std::to_string(id.value) + " is no " + std::string{name(role)} + " cell");
}

/// What each type names.
struct names_the_plan {
  const asker& ask;

  result<void> operator()(const submit& m) const {
    if (m.prompt.empty() || m.pictures.size() > limits::pictures_per_request_max)
      return bad(std::to_string(m.prompt.size()) + " prompt tokens and " + std::to_string(m.pictures.size()) +
                 " pictures; at least 1, at most " + std::to_string(limits::pictures_per_request_max));
    for (const auto& each : m.pictures) {
      if (auto known = cell_is(ask, each.encode_cell, role_kind::encode); !known)
        return known;
      if (each.tokens == 0 || std::uint64_t{each.first_token} + each.tokens > m.prompt.size())
        return bad("a picture's tokens " + std::to_string(each.first_token) + " + " + std::to_string(each.tokens) +
                   " lie outside the prompt");
    }
    return cell_is(ask, m.decode_cell, role_kind::decode);
  }
  result<void> operator()(const encode& m) const {
    if (m.height == 0 || m.width == 0 || m.tokens == 0)
      return bad("a picture of " + std::to_string(m.height) + " x " + std::to_string(m.width) + " pixels, " +
                 std::to_string(m.tokens) + " tokens");
    return cell_is(ask, m.prefill_cell, role_kind::prefill);
  }
  result<void> operator()(const reserve_kv& m) const {
    if (m.prompt_tokens == 0 || m.max_tokens == 0)
      return bad("room for " + std::to_string(m.prompt_tokens) + " + " + std::to_string(m.max_tokens) + " tokens");
    return cell_is(ask, m.prefill_cell, role_kind::prefill);
  }
  result<void> operator()(const reserve_rows& m) const { return cell_is(ask, m.encode_cell, role_kind::encode); }
  result<void> operator()(const reserve_blocks& m) const { return cell_is(ask, m.prefill_cell, role_kind::prefill); }

  template <class Message>
  result<void> operator()(const Message&) const {
    return {};
  }
};

} // namespace

result<void> judge_message(const cluster_plan& plan, rank_id self, rank_id from, const serve_message& message) {
  const asker ask{plan, self, from};
  if (from.value >= plan.ranks.size() || !std::visit(may_pass{ask}, message))
    return fail(fault::wrong_rank, std::visit([](const auto& m) { return std::string{name(m.type)}; }, message) +
                                       " from rank " + std::to_string(from.value) + " to rank " +
                                       std::to_string(self.value));
  return std::visit(names_the_plan{ask}, message);
}

request_id request_of(const serve_message& message) {
  return std::visit(
      [](const auto& m) {
        if constexpr (requires { m.request; })
          return m.request;
        else
          return request_id{};
      },
      message);
}

} // namespace troupe::protocols
