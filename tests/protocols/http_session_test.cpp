#include <doctest/doctest.h>

#include "protocols/door/http_session.hpp"
#include "protocols/door/service_pace.hpp"

using namespace troupe::protocols;
using namespace std::chrono_literals;

namespace {

using session = http_session;
using effects = session::effects;

constexpr time_point began{};

session::options bounds() {
  session::options out;
  out.body_bytes_max = 4u << 20;
  out.out_bytes_max = 1000;
  return out;
}

/// A session whose request is with its handler.
session answering(bool keeps_alive = true) {
  session one{bounds(), began};
  one.on_begun(began);
  REQUIRE(one.on_head({.body_bytes = {}, .has_body = false, .keeps_alive = keeps_alive}, began) ==
          effects{session::dispatch{}});
  return one;
}

} // namespace

TEST_CASE("K9: the body of a request that is refused for its header is not read, and its connection closes") {
  session one{bounds(), began};
  one.on_begun(began);
  CHECK(one.on_head({.body_bytes = 5u << 20, .has_body = true, .is_refused = true}, began) ==
        effects{session::dispatch{}});
  CHECK_FALSE(one.reads_request());
  CHECK(one.on_answer_ended(true, began) == effects{session::end_sending{}});
  CHECK(one.drops_input());
}

TEST_CASE("K9: a connection takes one request after another, and each is dispatched once it is whole") {
  session one{bounds(), began};
  for (int round = 0; round < 3; ++round) {
    one.on_begun(began);
    CHECK(one.on_head({.body_bytes = 10, .has_body = true, .waits_for_word = true}, began) ==
          effects{session::ask_for_body{}});
    CHECK(one.on_body_bytes(10).empty());
    CHECK(one.on_whole() == effects{session::dispatch{}});
    CHECK(one.on_queued(100, began).empty());
    CHECK(one.on_answer_ended(true, began).empty());
    CHECK(one.on_written(60, began).empty());
    CHECK(one.on_written(40, began) == effects{session::next_request{}});
    CHECK(one.is_idle());
  }
}

TEST_CASE("K7: a header and a body that take too long are refused, and a body that goes on coming is not") {
  session header{bounds(), began};
  header.on_begun(began);
  CHECK(header.on_tick(began + 9'999ms).empty());
  CHECK(header.on_tick(began + 10s) == effects{session::refuse{session::refusal::slow_header}});

  session body{bounds(), began};
  body.on_begun(began);
  CHECK(body.on_head({.body_bytes = 3u << 20, .has_body = true}, began).empty());
  CHECK(body.on_body_bytes(2u << 20).empty());
  CHECK(body.on_tick(began + 11'999ms).empty());
  CHECK(body.on_tick(began + 12s) == effects{session::refuse{session::refusal::slow_body}});
}

TEST_CASE("K9: a body that is too long is refused before it is read, and one of unknown length as soon as it is") {
  session stated{bounds(), began};
  stated.on_begun(began);
  CHECK(stated.on_head({.body_bytes = 5u << 20, .has_body = true}, began) ==
        effects{session::refuse{session::refusal::long_body}});
  CHECK_FALSE(stated.reads_request());

  session chunked{bounds(), began};
  chunked.on_begun(began);
  CHECK(chunked.on_head({.body_bytes = {}, .has_body = true}, began).empty());
  CHECK(chunked.on_body_bytes(4u << 20).empty());
  CHECK(chunked.on_body_bytes(1) == effects{session::refuse{session::refusal::long_body}});
}

TEST_CASE("K7: after a refusal the peer is heard out and dropped, so that the refusal reaches it") {
  session one{bounds(), began};
  one.on_begun(began);
  CHECK(one.on_bad_request(session::refusal::malformed) == effects{session::refuse{session::refusal::malformed}});
  CHECK(one.on_queued(100, began).empty());
  CHECK(one.on_answer_ended(false, began).empty());
  CHECK(one.on_written(100, began) == effects{session::end_sending{}});
  CHECK(one.drops_input());
  CHECK(one.on_tick(began + 1'999ms).empty());
  CHECK(one.on_tick(began + 2s) == effects{session::close{}});
  CHECK_FALSE(one.is_open());
}

TEST_CASE("K9: whoever leaves while a request is answered cancels it, once") {
  auto one = answering();
  CHECK(one.on_peer_closed(began) == effects{session::cancel{}, session::close{}});
  CHECK(one.on_peer_closed(began).empty());
  CHECK(one.on_answer_ended(true, began).empty());
}

TEST_CASE("K9: a peer that does not read is let go, by what waits for it and by time") {
  auto crowded = answering();
  CHECK(crowded.on_queued(1000, began).empty());
  CHECK(crowded.on_queued(1, began) == effects{session::cancel{}, session::close{}});

  auto slow = answering();
  CHECK(slow.on_queued(10, began).empty());
  CHECK(slow.on_written(5, began + 9s).empty());
  CHECK(slow.on_tick(began + 18'999ms).empty());
  CHECK(slow.on_tick(began + 19s) == effects{session::cancel{}, session::close{}});
}

TEST_CASE("K7: how long an answer may take is its handler's to say") {
  auto one = answering();
  CHECK(one.on_tick(began + 24h).empty());
  CHECK(one.is_open());
}

TEST_CASE("K9: a whole answer may be longer than what a stream may leave unsent") {
  auto one = answering(false);
  CHECK(one.on_answer_ended(true, began) == effects{session::end_sending{}});
  session failed{bounds(), began};
  failed.on_begun(began);
  CHECK(failed.on_bad_request(session::refusal::long_header).size() == 1);
  CHECK(failed.on_queued(100'000, began).empty());
}

TEST_CASE("K9: an idle connection is closed after a while") {
  session one{bounds(), began};
  CHECK(one.on_tick(began + 74s).empty());
  CHECK(one.on_tick(began + 75s) == effects{session::close{}});
}

TEST_CASE("K9: how long to wait before asking again follows the rate at which requests end") {
  service_pace pace;
  CHECK(pace.wait_for(100, began) == 1s);
  for (int i = 0; i <= 64; ++i)
    pace.on_ended(began + i * 500ms);
  CHECK(pace.wait_for(1, began + 32s) == 1s);
  CHECK(pace.wait_for(20, began + 32s) == 10s);
  CHECK(pace.wait_for(10'000, began + 32s) == 60s);
}
