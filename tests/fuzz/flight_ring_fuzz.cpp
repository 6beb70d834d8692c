#include "inputs.hpp"
#include "protocols/flight/flight_trace.hpp"
#include "target.hpp"

using namespace troupe;

/// The flight recorder's file of a rank that may have died while it wrote: it tells a story or is refused by name, and
/// the story can be judged and put in words.
TROUPE_FUZZ_TARGET(flight_ring) {
  const auto story = protocols::read_flight(input, "r0.g1.ring");
  if (!story) {
    TROUPE_ASSERT("a file is refused in words", !story.error().what.empty());
    return;
  }
  TROUPE_ASSERT("no more than the file holds", story->records.size() <= input.size() / protocols::flight_record_bytes);
  auto other = *story;
  ++other.rank.value;
  std::vector stories{*story, std::move(other)};
  protocols::align_clocks(stories);
  (void)protocols::trace_flight(stories, nullptr).text();
  (void)protocols::trace_flight(stories, nullptr, 1'000'000'000).text();
}
