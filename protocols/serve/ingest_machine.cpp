#include "protocols/serve/ingest_machine.hpp"

#include <algorithm>
#include <string>

namespace troupe::protocols {

ingest_machine::ingest_machine(options bounds) : bounds_(bounds), readers_(bounds.readers) {}

ingest_machine::ticket ingest_machine::on_question(const question& what, time_point now, effects& out) {
  const keeps_invariants checked{*this};
  const ticket which{++tickets_};
  if (waiting_.size() >= bounds_.questions_max)
    out.push_back(give_up{which, {fault::queue_full, "questions wait to be read"}});
  else
    waiting_.push_back({which, what});
  share_out(out, now);
  return which;
}

std::optional<ingest_machine::ticket> ingest_machine::on_read(std::uint32_t place, time_point now, effects& out) {
  const keeps_invariants checked{*this};
  auto& one = readers_.at(place);
  const auto read = one.reads ? std::optional{one.reads->which} : std::nullopt;
  one = {};
  share_out(out, now);
  return read;
}

ingest_machine::effects ingest_machine::on_cancel(ticket which, time_point now) {
  const keeps_invariants checked{*this};
  effects out;
  end_those(
      [&](const entry& one, const reader*) {
        return one.which == which ? std::optional{failure{fault::cancelled, {}}} : std::nullopt;
      },
      out);
  share_out(out, now);
  return out;
}

ingest_machine::effects ingest_machine::on_tick(time_point now) {
  const keeps_invariants checked{*this};
  effects out;
  end_those(
      [&](const entry& one, const reader* by) -> std::optional<failure> {
        if (now >= one.what.deadline)
          return failure{fault::timeout, "the request's deadline (timeouts.request_ms) passed before it was read"};
        if (by != nullptr && now >= by->until)
          return failure{fault::timeout, "its pictures and prompt were not read within " +
                                             std::to_string(bounds_.reading_deadline / std::chrono::milliseconds{1}) +
                                             " ms"};
        return std::nullopt;
      },
      out);
  share_out(out, now);
  return out;
}

template <class CauseOf>
void ingest_machine::end_those(CauseOf cause_of, effects& out) {
  for (std::uint32_t i = 0; i < readers_.size(); ++i) {
    auto& one = readers_[i];
    const auto cause = one.reads ? cause_of(*one.reads, &one) : std::nullopt;
    if (!cause)
      continue;
    out.push_back(stop_reading{i});
    out.push_back(give_up{one.reads->which, *cause});
    one.reads.reset();
  }
  std::erase_if(waiting_, [&](const entry& each) {
    const auto cause = cause_of(each, nullptr);
    if (cause)
      out.push_back(give_up{each.which, *cause});
    return cause.has_value();
  });
}

void ingest_machine::share_out(effects& out, time_point now) {
  std::erase_if(waiting_, [&](const entry& next) { return begin(next, out, now); });
}

/// Whether a reader has it now.
bool ingest_machine::begin(const entry& next, effects& out, time_point now) {
  const bool large = is_large(next.what);
  const auto large_ones = std::ranges::count_if(readers_, [](const reader& one) { return one.at_work && one.large; });
  if (large && large_ones >= bounds_.readers_large)
    return false;
  const auto free = std::ranges::find(readers_, false, &reader::at_work);
  if (free == readers_.end())
    return false;
  *free = {.at_work = true, .large = large, .reads = next, .until = now + bounds_.reading_deadline};
  out.push_back(begin_reading{next.which, static_cast<std::uint32_t>(free - readers_.begin())});
  return true;
}

void ingest_machine::check_invariants() const {
  std::uint32_t large = 0;
  for (const auto& one : readers_) {
    TROUPE_ASSERT("K7", one.at_work || (!one.large && !one.reads));
    large += one.large ? 1 : 0;
  }
  TROUPE_ASSERT("K7", large <= bounds_.readers_large);
  TROUPE_ASSERT("K9", waiting_.size() <= bounds_.questions_max);
}

} // namespace troupe::protocols
