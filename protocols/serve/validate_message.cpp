#include "protocols/serve/validate_message.hpp"

#include "protocols/serve/roles.hpp"
#include <algorithm>
#include <limits>

namespace troupe::protocols {

namespace {

template <class... Messages>
constexpr bool all_have_routes(std::variant<Messages...>*) {
  return (has_route(Messages::type) && ...);
}
static_assert(all_have_routes(static_cast<serve_message*>(nullptr)),
              "a message that ranks exchange has no row in protocols/serve/routes.hpp: who sends it to whom?");

/// Asks the plan, in the words of the rules below.
class asker {
public:
  asker(const cluster_plan& plan, rank_id from) : plan_(plan), from_(from) {}

  bool is_cell(cell_id id, role_kind role) const {
    return id.value < plan_.cells.size() && plan_.cell(id).role == role;
  }
  bool from_place(role_kind role, std::uint32_t place, std::uint32_t places) const {
    return std::ranges::any_of(plan_.cells, [&](const cell_plan& cell) {
      return cell.role == role && cell.ranks.size() == places && place < places && cell.ranks[place] == from_;
    });
  }

private:
  const cluster_plan& plan_;
  rank_id from_;
};

/// C42: whether the sender stands where it says that it does.
struct stands_where_it_says {
  const asker& ask;

  bool operator()(const grant_rows& m) const { return ask.from_place(serve_role::prefill, m.part, m.parts); }
  bool operator()(const grant_blocks& m) const { return ask.from_place(serve_role::decode, m.part, m.parts); }

  template <class Message>
  bool operator()(const Message&) const {
    return true;
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

/// What a cell carries out for a request. Ids beyond the vocabulary are found where the model is (`step_machine`).
result<void> says_what_is_valid(const sampling_options& sampling, const request_trace& trace) {
  if (auto problem = find_invalid(
          sampling, {.vocabulary = std::numeric_limits<std::int32_t>::max(), .stop_ids_max = limits::ending_ids_max}))
    return bad(*std::move(problem));
  if (auto problem = find_invalid(trace))
    return bad(*std::move(problem));
  return {};
}

result<void> are_bounded(const std::vector<token_logprob>& values) {
  if (values.size() > limits::top_logprobs_max + 1)
    return bad(std::to_string(values.size()) + " log-probabilities of one token; at most " +
               std::to_string(limits::top_logprobs_max + 1));
  return {};
}

/// What each type names.
struct names_the_plan {
  const asker& ask;

  result<void> operator()(const submit& m) const {
    if (m.prompt.empty() || m.pictures.size() > limits::pictures_per_request_max)
      return bad(std::to_string(m.prompt.size()) + " prompt tokens and " + std::to_string(m.pictures.size()) +
                 " pictures; at least 1, at most " + std::to_string(limits::pictures_per_request_max));
    for (const auto& each : m.pictures) {
      if (auto known = cell_is(ask, each.encode_cell, serve_role::encode); !known)
        return known;
      if (each.tokens == 0 || std::uint64_t{each.first_token} + each.tokens > m.prompt.size())
        return bad("a picture's tokens " + std::to_string(each.first_token) + " + " + std::to_string(each.tokens) +
                   " lie outside the prompt");
    }
    return says_what_is_valid(m.sampling, m.trace).and_then([&] {
      return cell_is(ask, m.decode_cell, serve_role::decode);
    });
  }
  result<void> operator()(const encode& m) const {
    if (m.height == 0 || m.width == 0 || m.tokens == 0)
      return bad("a picture of " + std::to_string(m.height) + " x " + std::to_string(m.width) + " pixels, " +
                 std::to_string(m.tokens) + " tokens");
    return says_what_is_valid({}, m.trace).and_then([&] { return cell_is(ask, m.prefill_cell, serve_role::prefill); });
  }
  result<void> operator()(const reserve_kv& m) const {
    if (m.prompt_tokens == 0 || m.max_tokens == 0)
      return bad("room for " + std::to_string(m.prompt_tokens) + " + " + std::to_string(m.max_tokens) + " tokens");
    return says_what_is_valid(m.sampling, m.trace).and_then([&] {
      return cell_is(ask, m.prefill_cell, serve_role::prefill);
    });
  }
  result<void> operator()(const handover& m) const { return are_bounded(m.logprobs); }
  result<void> operator()(const tokens& m) const {
    for (const auto& each : m.logprobs) {
      if (each.event >= m.events.size())
        return bad("log-probabilities of event " + std::to_string(each.event) + " of " +
                   std::to_string(m.events.size()));
      if (auto fine = are_bounded(each.values); !fine)
        return fine;
    }
    return {};
  }
  result<void> operator()(const reserve_rows& m) const { return cell_is(ask, m.encode_cell, serve_role::encode); }
  result<void> operator()(const reserve_blocks& m) const { return cell_is(ask, m.prefill_cell, serve_role::prefill); }

  template <class Message>
  result<void> operator()(const Message&) const {
    return {};
  }
};

} // namespace

result<role_set> validate_message(const cluster_plan& plan, rank_id self, rank_id from, const serve_message& message,
                                  std::optional<role_kind> as) {
  const asker ask{plan, from};
  const auto type = std::visit([](const auto& m) { return m.type; }, message);
  const auto takers = takers_of(plan, type, from, self, as);
  if (takers.empty() || !std::visit(stands_where_it_says{ask}, message))
    return fail(fault::wrong_rank, std::string{name(type)} + " from rank " + std::to_string(from.value) + " to rank " +
                                       std::to_string(self.value));
  return std::visit(names_the_plan{ask}, message).map([&] { return takers; });
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
