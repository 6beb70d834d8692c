#include "tests/sim/tables.hpp"

#include <algorithm>
#include <set>

#include "protocols/invariant.hpp"
#include "runtime/base/split.hpp"

namespace troupe::sim {

using namespace protocols;

namespace {

constexpr std::string_view refused_state = "refused";

std::vector<std::string_view> words_in(std::string_view text) {
  return base::split(text, ' ');
}

/// Of a template some compilers state the arguments too.
std::string_view name_of(const char* event) {
  const std::string_view all{event};
  return all.substr(0, all.find('<'));
}

std::string head_of(const state_table& of) {
  return std::string{of.machine} + (of.of.empty() ? "" : ", " + std::string{of.of});
}

} // namespace

const std::vector<transition>& transitions() {
  static const auto all = [] {
    std::vector<transition> out;
    for (const auto* const table : state_tables())
      for (const auto& row : table->rows)
        for (const auto event : words_in(row.events))
          for (const auto to : words_in(row.to))
            out.push_back({table, row.from, event, to});
    return out;
  }();
  return all;
}

std::string words_of(const transition& one) {
  return head_of(*one.of) + ": " + std::string{one.from} + ", " + std::string{one.event} + " -> " + std::string{one.to};
}

/// One table, made fast to look up.
struct table_watch::compiled {
  const state_table* of = nullptr;
  std::vector<std::string_view> states;
  std::size_t refused = 0; ///< the column of what is refused
  struct moves {
    std::vector<std::size_t> places; ///< from * (states + 1) + to; `npos`: not allowed
  };
  std::map<std::string_view, moves> events;
  std::unordered_map<const char*, const moves*> by_address; ///< the same name may stand at several addresses
  std::set<std::string> strangers;
  static constexpr std::size_t npos = static_cast<std::size_t>(-1);
};

table_watch::table_watch(std::function<void(const std::string&)> stranger, bool strict)
    : stranger_(std::move(stranger)), strict_(strict) {
  seen_.assign(transitions().size(), 0);
  for (const auto* const each : state_tables()) {
    auto made = std::make_unique<compiled>();
    made->of = each;
    made->states = words_in(each->states);
    made->refused = made->states.size();
    compiled_.push_back(std::move(made));
  }
  for (std::size_t place = 0; place < transitions().size(); ++place) {
    const auto& one = transitions()[place];
    auto& in = table(*one.of);
    auto& moves = in.events[one.event];
    const auto width = in.states.size() + 1;
    if (moves.places.empty())
      moves.places.assign(in.states.size() * width, compiled::npos);
    const auto state = [&](std::string_view name) {
      const auto found = std::ranges::find(in.states, name);
      TROUPE_ASSERT("tables", found != in.states.end());
      return static_cast<std::size_t>(found - in.states.begin());
    };
    const auto to = one.to == refused_state ? in.refused : state(one.to);
    moves.places[state(one.from) * width + to] = place;
  }
}

table_watch::~table_watch() = default;

void table_watch::begin() {
  std::ranges::fill(seen_, 0);
  faults_.fill(0);
  depth_ = 0;
}

table_watch::compiled& table_watch::table(const state_table& of) {
  const auto found = std::ranges::find(compiled_, &of, [](const auto& one) { return one->of; });
  TROUPE_ASSERT("tables", found != compiled_.end());
  return **found;
}

struct table_watch::view final : state_view {
  view(table_watch& of, std::vector<shown>& into, std::vector<std::pair<compiled*, const void*>>* follows)
      : of_(of), into_(into), follows_(follows) {}
  using state_view::follow;
  void follow(const state_table& table, const void* kind) override {
    if (follows_ != nullptr)
      follows_->emplace_back(&of_.table(table), kind);
  }
  void show(const state_table& table, subject which, std::size_t state) override {
    into_.push_back({&of_.table(table), which, state});
  }

private:
  table_watch& of_;
  std::vector<shown>& into_;
  std::vector<std::pair<compiled*, const void*>>* follows_;
};

void table_watch::on_event(const void* machine, show_states show, const char* event, std::optional<subject> about) {
  if (depth_ == frames_.size())
    frames_.emplace_back();
  auto& one = frames_[depth_++];
  one.machine = machine;
  one.show = show;
  one.event = event;
  one.about = about;
  one.refused = false;
  one.before.clear();
  one.follows.clear();
  view of{*this, one.before, &one.follows};
  show(machine, of);
}

void table_watch::on_fault(fault code) {
  ++faults_[static_cast<std::size_t>(code)];
  if (code == fault::illegal_transition && depth_ > 0)
    frames_[depth_ - 1].refused = true;
}

void table_watch::on_event_done() {
  auto& one = frames_[--depth_];
  after_.clear();
  view of{*this, after_, nullptr};
  one.show(one.machine, of);

  const auto counts_unmoved = [&](const subject& which) {
    return which.kind == nullptr || !one.about || *one.about == which;
  };
  const auto find = [](const std::vector<shown>& in, const shown& like) -> const shown* {
    const auto found = std::ranges::find_if(
        in, [&](const shown& each) { return each.table == like.table && each.which == like.which; });
    return found == in.end() ? nullptr : &*found;
  };
  const bool same = one.before == after_;
  for (const auto& was : one.before) {
    const auto* const is = same ? &was : find(after_, was);
    const auto to = is == nullptr ? 0 : is->state; // "none" stands first
    const bool named = one.about ? *one.about == was.which : was.which.kind == nullptr;
    if (to != was.state || counts_unmoved(was.which))
      count(*was.table, one.event, was.state, to, one.refused && named, true);
  }
  if (!same)
    for (const auto& is : after_)
      if (find(one.before, is) == nullptr)
        count(*is.table, one.event, 0, is.state, false, true);
  if (one.about)
    for (const auto& [table, kind] : one.follows) {
      if (kind != one.about->kind)
        continue;
      const shown nobody{table, *one.about, 0};
      if (find(one.before, nobody) == nullptr && (same || find(after_, nobody) == nullptr))
        count(*table, one.event, 0, 0, one.refused, false);
    }
}

/// `must`: it is a breach where no table allows it. Whoever is not there may be named in any event of another table.
void table_watch::count(compiled& in, const char* event, std::size_t from, std::size_t to, bool refused, bool must) {
  const auto name = name_of(event);
  auto& known = in.by_address[event];
  if (known == nullptr)
    known = &in.events[name];
  const auto width = in.states.size() + 1;
  const auto place = known->places.empty() ? compiled::npos : known->places[from * width + (refused ? in.refused : to)];
  if (place != compiled::npos) {
    ++seen_[place];
    return;
  }
  if (!must || (from == to && !refused && !strict_))
    return;
  const transition odd{in.of, in.states[from], name, refused ? refused_state : in.states[to]};
  if (auto words = words_of(odd); in.strangers.insert(words).second)
    stranger_(words);
}

// ---- words --------------------------------------------------------------------------------------------------------

namespace {

constexpr std::size_t columns = 120;

/// `text` behind `indent`, in lines of at most `columns`; the further ones begin under the first's text.
std::string wrapped(const std::string& head, const std::string& text) {
  std::string out = head;
  std::size_t used = head.size();
  for (const auto word : words_in(text)) {
    if (used > head.size() && used + 1 + word.size() > columns) {
      out += "\n" + std::string(head.size(), ' ');
      used = head.size();
    } else if (used > head.size()) {
      out += ' ';
      ++used;
    }
    out += word;
    used += word.size();
  }
  return out + "\n";
}

} // namespace

std::string describe_tables() {
  std::string out;
  for (const auto* const table : state_tables()) {
    out += (out.empty() ? "" : "\n") + head_of(*table) + "\n";
    std::size_t widest = 0;
    for (const auto& row : table->rows)
      widest = std::max(widest, row.from.size());
    std::string_view last;
    for (const auto& row : table->rows) {
      const auto from = row.from == last ? std::string_view{} : row.from;
      last = row.from;
      out += wrapped("  " + std::string{from} + std::string(widest - from.size() + 2, ' '),
                     std::string{row.events} + " -> " + std::string{row.to});
    }
  }
  return out;
}

} // namespace troupe::sim
