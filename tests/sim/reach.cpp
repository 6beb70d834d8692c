#include "tests/sim/reach.hpp"

#include <algorithm>
#include <array>

#include "protocols/cluster/life_machine.hpp"
#include "protocols/cluster/program.hpp"
#include "protocols/fault.hpp"
#include "protocols/serve/decode_machine.hpp"
#include "protocols/serve/encode_machine.hpp"
#include "protocols/serve/front_machine.hpp"
#include "protocols/serve/ingest_machine.hpp"
#include "protocols/serve/prefill_machine.hpp"
#include "protocols/serve/routes.hpp"
#include "protocols/serve/session_machine.hpp"
#include "protocols/serve/step_machine.hpp"
#include "tests/sim/tables.hpp"

namespace troupe::sim {

using namespace protocols;

namespace {

/// "front_machine::emit_token", of this project's types; the same words by every compiler.
template <class T>
std::string type_name() {
  std::string_view all{__PRETTY_FUNCTION__};
  all = all.substr(all.find("T = ") + 4);
  all = all.substr(0, all.find_first_of(";]"));
  constexpr std::string_view space = "troupe::protocols::";
  return std::string{all.starts_with(space) ? all.substr(space.size()) : all};
}

template <class Machine, class... Effects>
void add_effects(std::vector<std::string>& out, const std::variant<Effects...>*) {
  const auto add = [&](std::string name) {
    if (const auto scope = name.find("::"); scope != name.npos)
      name = name.substr(scope + 2);
    out.push_back("effect: " + type_name<Machine>() + ", " + name);
  };
  (add(type_name<Effects>()), ...);
}

/// In the order of their effects in `reachable()`.
template <class Each>
void each_machine(const Each& each) {
  each.template operator()<life_machine>();
  each.template operator()<session_machine>();
  each.template operator()<ingest_machine>();
  each.template operator()<front_machine>();
  each.template operator()<encode_machine>();
  each.template operator()<encode_member_machine>();
  each.template operator()<prefill_leader_machine>();
  each.template operator()<prefill_member_machine>();
  each.template operator()<decode_leader_machine>();
  each.template operator()<decode_member_machine>();
  each.template operator()<step_machine>();
}

std::vector<std::string> effect_words() {
  std::vector<std::string> out;
  each_machine(
      [&]<class Machine>() { add_effects<Machine>(out, static_cast<const typename Machine::effect*>(nullptr)); });
  return out;
}

std::string words_of(const station& at) {
  static constexpr std::array seats{" leader", " worker", " rank"};
  const auto role = std::string{name(at.role)};
  return at.role == serve_role::front ? role : role + seats[static_cast<std::size_t>(at.at)];
}

constexpr std::array<std::string_view, 4> kinds{"transitions", "faults", "effects", "routes"};

std::array<std::size_t, 5> firsts() {
  std::array<std::size_t, 5> at{};
  at[1] = transitions().size();
  at[2] = at[1];
  for (std::uint16_t code = 1; fault_from(code); ++code)
    ++at[2];
  at[3] = at[2] + effect_words().size();
  at[4] = at[3] + serve_routes.size();
  return at;
}

} // namespace

const std::vector<std::string>& reachable() {
  static const auto all = [] {
    std::vector<std::string> out;
    for (const auto& one : transitions())
      out.push_back(words_of(one));
    for (std::uint16_t code = 1; fault_from(code); ++code)
      out.push_back("fault: " + std::string{name(*fault_from(code))});
    for (auto& one : effect_words())
      out.push_back(std::move(one));
    for (const auto& row : serve_routes)
      out.push_back("route: " + std::string{name(row.message)} + ", " + words_of(row.from) + " -> " + words_of(row.to));
    return out;
  }();
  return all;
}

std::vector<reach_sum> sum_reach(std::span<const std::uint64_t> counts) {
  static const auto at = firsts();
  std::vector<reach_sum> out;
  for (std::size_t kind = 0; kind < kinds.size(); ++kind) {
    const auto part = counts.subspan(at[kind], at[kind + 1] - at[kind]);
    out.push_back({kinds[kind], part.size() - static_cast<std::size_t>(std::ranges::count(part, 0u)), part.size()});
  }
  return out;
}

std::string words_of(std::span<const reach_sum> sums) {
  std::string out;
  for (const auto& one : sums)
    out += (out.empty() ? "" : ", ") + std::string{one.kind} + " " + std::to_string(one.reached) + " of " +
           std::to_string(one.all);
  return out;
}

// ---- counting -----------------------------------------------------------------------------------------------------

reach_count& reach_count::mine() {
  static reach_count one;
  return one;
}

reach_count::reach_count()
    : watch_(std::make_unique<table_watch>([this](const std::string& words) { stranger_ = words; })),
      faults_(firsts()[2] - firsts()[1]), effects_(effect_words().size()), routes_(serve_routes.size()) {
  watch_machines(watch_.get());
}

reach_count::~reach_count() {
  watch_machines(nullptr);
}

void reach_count::begin() {
  stranger_.clear();
  watch_->begin();
  for (auto* const counts : {&faults_, &effects_, &routes_})
    std::ranges::fill(*counts, 0);
}

std::vector<std::uint64_t> reach_count::counts() const {
  auto out = watch_->seen();
  for (std::size_t place = 0; place < faults_.size(); ++place)
    out.push_back(faults_[place] + watch_->faults()[place + 1]);
  out.insert(out.end(), effects_.begin(), effects_.end());
  out.insert(out.end(), routes_.begin(), routes_.end());
  return out;
}

void reach_count::on_failure(std::uint16_t code) {
  if (code > 0 && code <= faults_.size())
    ++faults_[code - 1];
}

void reach_count::on_message(const cluster_plan& plan, message_type type, rank_id from, rank_id to, role_kind role) {
  for (std::size_t place = 0; place < serve_routes.size(); ++place) {
    const auto& row = serve_routes[place];
    if (row.message == type && row.to.role == role && stands_at(plan, to, row.to) && stands_at(plan, from, row.from))
      ++routes_[place];
  }
  if (tells_)
    tells_(from, to, role, type);
}

template <class Effect>
std::size_t reach_count::first_effect() {
  static const auto first = [] {
    std::size_t before = 0;
    std::size_t found = 0;
    each_machine([&]<class Each>() {
      if (std::is_same_v<typename Each::effect, Effect>)
        found = before;
      before += std::variant_size_v<typename Each::effect>;
    });
    return found;
  }();
  return first;
}

template std::size_t reach_count::first_effect<life_machine::effect>();
template std::size_t reach_count::first_effect<session_machine::effect>();
template std::size_t reach_count::first_effect<ingest_machine::effect>();
template std::size_t reach_count::first_effect<front_machine::effect>();
template std::size_t reach_count::first_effect<encode_machine::effect>();
template std::size_t reach_count::first_effect<encode_member_machine::effect>();
template std::size_t reach_count::first_effect<prefill_leader_machine::effect>();
template std::size_t reach_count::first_effect<prefill_member_machine::effect>();
template std::size_t reach_count::first_effect<decode_leader_machine::effect>();
template std::size_t reach_count::first_effect<decode_member_machine::effect>();
template std::size_t reach_count::first_effect<step_machine::effect>();

} // namespace troupe::sim
