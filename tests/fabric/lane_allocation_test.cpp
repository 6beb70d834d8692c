#include "heap_watch.hpp"
#include "lane_fixture.hpp"

using namespace lane_fixture;

TEST_CASE("a warm lane allocates nothing: not for a frame, not when it is full, not for a wait") {
  for (const auto form : all_forms) {
    INFO("lane: ", name(form));
    auto pair = make_pair(form);
    const std::vector<std::byte> payload(20'000);
    std::vector<pollfd> scratch;
    const fabric::waiting wait{pair.second.get(), {.readable = true, .writable = false}};
    const auto use = [&] {
      bool well = true;
      for (bool room = true; room;) {
        const auto sent = pair.first->try_send(plain(), payload);
        well = well && (sent || sent.error().code == fault::lane_full);
        room = sent.has_value();
      }
      for (bool drained = false; !drained;) {
        pair.first->flush();
        const auto next = pair.second->peek();
        drained = well && !next->has_value() && pair.first->bytes_in_flight() == 0;
        if (next->has_value())
          pair.second->pop();
      }
      well = well && !fabric::wait_any({&wait, 1}, in(1ms), scratch);
      well = well && fabric::send(*pair.first, plain(), payload, in(60s));
      well = well && fabric::receive(*pair.second, in(60s));
      pair.second->pop();
      return well;
    };
    REQUIRE(use());

    const auto before = heap.allocations;
    const bool well = use();
    const auto after = heap.allocations;

    CHECK(well);
    CHECK(after - before == 0);
  }
}
